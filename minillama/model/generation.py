"""Generation: one token at a time (chapter 7).

The model gives a distribution over the next token; a rule picks one; it is appended, and the model reads it.

Does: greedy, temperature, top-k and top-p as in the reference, batches of unequal prompts, stop tokens,
    log-probabilities, streaming of tokens and of text.
Does not: beam search, repetition penalties; Llama 2 uses neither.
Source: the reference's sampling rule as described in Touvron et al. 2023b; Holtzman et al. 2020 (top-p);
    Fan et al. 2018 (top-k).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minillama.model.embeddings import at_least_float32
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama


@dataclass(frozen=True)
class Completion:
    """What `generate` returns for one prompt.

    Attributes:
        tokens: the new ids (after the prompt's ids if echo was set), without the stop token.
        logprobs: natural log-probability of each entry of `tokens` under the model before temperature and
            filtering; the very first id of an echoed prompt has none and gets 0.
        stop_reason: "stop" if a stop token was generated, "length" if the limit came first.
    """

    tokens: list[int]
    logprobs: list[float]
    stop_reason: str


def keep_top_k(probs: Tensor, k: int) -> Tensor:
    """Zero all but the k most probable entries of the last axis, and renormalise. Ties: the lower id wins."""
    if k < 1:
        raise ValueError(f"top_k must be at least 1, got {k}")
    order = probs.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(probs).scatter(-1, order[..., :k], 1.0) * probs
    return kept / kept.sum(-1, keepdim=True)


def keep_top_p(probs: Tensor, p: float) -> Tensor:
    """Keep the fewest most probable entries whose mass reaches p, and renormalise.

    An entry is dropped if the mass *before* it already exceeds p: the one that crosses p stays, and so does the first.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {p}")
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered > p, 0.0)
    kept = torch.zeros_like(probs).scatter(-1, order, ordered)
    return kept / kept.sum(-1, keepdim=True)


def next_token_distribution(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution that is sampled from: temperature, then top-k, then top-p.

    Args:
        logits: shape (..., V).
        temperature: divides the logits; 0 puts all mass on the largest.
        top_k, top_p: see `keep_top_k` and `keep_top_p`; None switches them off.

    Returns:
        Probabilities, shape (..., V).

    Raises:
        ValueError: for a negative temperature, top_k below 1 or top_p outside (0, 1].
    """
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    probs = (logits / temperature).softmax(-1)
    if top_k is not None:
        probs = keep_top_k(probs, top_k)
    if top_p is not None:
        probs = keep_top_p(probs, top_p)
    return probs


def _pick(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator) -> Tensor:
    """One id per row of logits (B, V)."""
    if temperature == 0:
        return logits.argmax(-1)
    probs = next_token_distribution(logits, temperature, top_k, top_p)
    return torch.multinomial(probs, 1, generator=generator).squeeze(-1)


def _check(model: Llama, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature, top_k, top_p) -> None:
    if not prompts:
        raise ValueError("prompts is empty: pass a list with at least one list of token ids")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    next_token_distribution(torch.zeros(1), temperature, top_k, top_p)  # raises for bad settings
    vocab_size, longest = model.config.vocab_size, model.config.max_seq_len
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {i} is empty: begin it with the BOS token, the model needs something to read")
        outside = [t for t in prompt if not 0 <= t < vocab_size]
        if outside:
            raise ValueError(f"prompt {i} has token id {outside[0]}, outside the vocabulary 0..{vocab_size - 1}")
        if len(prompt) >= longest:
            raise ValueError(
                f"prompt {i} has {len(prompt)} tokens, but the model's max_seq_len is {longest}: shorten it"
            )


def _steps(
    model: Llama, rows: Tensor, lengths: list[int], temperature, top_k, top_p, generator, use_cache=True, echo=False
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Fill the columns of `rows` (B, total) from the shortest prompt's end; yield (column, ids, log-probabilities).

    Where a longer prompt still has a token, that token is kept instead of the sample, so no padding is ever fed to
    the model. With echo, the columns of the shortest prompt are yielded first, from column 1 on.
    """
    start, total = min(lengths), rows.shape[1]
    in_prompt = torch.arange(total, device=rows.device) < torch.tensor(lengths, device=rows.device)[:, None]
    cache = model.new_cache(len(lengths), total) if use_cache else None
    read = 0
    for column in range(start, total):
        hidden = model.hidden_states(rows[:, read:column], cache)  # without a cache, everything so far
        if echo and column == start:
            prompt_logprobs = at_least_float32(model.output(hidden)).log_softmax(-1)
            for seen in range(1, start):
                yield seen, rows[:, seen], prompt_logprobs[:, seen - 1].gather(-1, rows[:, seen, None]).squeeze(-1)
        logits = at_least_float32(model.output(hidden[:, -1]))  # (B, V)
        ids = torch.where(in_prompt[:, column], rows[:, column], _pick(logits, temperature, top_k, top_p, generator))
        rows[:, column] = ids
        yield column, ids, logits.log_softmax(-1).gather(-1, ids[:, None]).squeeze(-1)
        read = column if use_cache else 0


def _prompt_rows(model: Llama, prompts: Sequence[Sequence[int]], total: int) -> Tensor:
    """The prompts as a (B, total) tensor on the model's device, filled up with zeros that are never read."""
    rows = torch.zeros(len(prompts), total, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        rows[row, : len(prompt)] = torch.tensor(list(prompt))
    return rows.to(model.tok_embeddings.weight.device)


@torch.no_grad()
def generate(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.6,
    top_k: int | None = None,
    top_p: float | None = 0.9,
    stop_tokens: Collection[int] = (),
    generator: torch.Generator | None = None,
    echo: bool = False,
    use_cache: bool = True,
) -> list[Completion]:
    """Continue a batch of prompts, which may differ in length.

    Args:
        model: the model.
        prompts: token ids, one list per row.
        max_new_tokens: most tokens to add to each prompt; fewer where the model's `max_seq_len` comes first.
        temperature, top_k, top_p: see `next_token_distribution`. The defaults are the reference's.
        stop_tokens: ids that end a row when generated (not where they stand in the prompt), such as EOS.
        generator: source of randomness; None uses PyTorch's global one.
        echo: also return the prompt's ids and their log-probabilities.
        use_cache: False recomputes everything at every step, which is slow and gives the same tokens.

    Returns:
        One `Completion` per prompt, in order.

    Raises:
        ValueError: for an empty, too long or out-of-vocabulary prompt, or impossible settings.
    """
    _check(model, prompts, max_new_tokens, temperature, top_k, top_p)
    lengths = [len(prompt) for prompt in prompts]
    ends = [min(length + max_new_tokens, model.config.max_seq_len) for length in lengths]
    rows = _prompt_rows(model, prompts, max(ends))
    tokens = [list(prompt) for prompt in prompts]
    logprobs = torch.zeros(rows.shape, dtype=torch.float64)
    reasons: list[str | None] = [None] * len(prompts)
    for column, ids, values in _steps(model, rows, lengths, temperature, top_k, top_p, generator, use_cache, echo):
        logprobs[:, column] = values
        for row, token in enumerate(ids.tolist()):
            if reasons[row] is not None or column < lengths[row]:
                continue
            if token in stop_tokens:
                reasons[row] = "stop"
                continue
            tokens[row].append(token)
            if column + 1 == ends[row]:
                reasons[row] = "length"
        if None not in reasons:
            break
    firsts = [0 if echo else length for length in lengths]
    return [
        Completion(ids[first:], logprobs[row, first : len(ids)].tolist(), reason)
        for row, (ids, first, reason) in enumerate(zip(tokens, firsts, reasons, strict=True))
    ]


@torch.no_grad()
def stream(
    model: Llama,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.6,
    top_k: int | None = None,
    top_p: float | None = 0.9,
    stop_tokens: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """The new tokens of one prompt, each as soon as it is known. Arguments, errors and tokens as in `generate`."""
    _check(model, [prompt], max_new_tokens, temperature, top_k, top_p)
    rows = _prompt_rows(model, [prompt], min(len(prompt) + max_new_tokens, model.config.max_seq_len))
    for _, ids, _ in _steps(model, rows, [len(prompt)], temperature, top_k, top_p, generator):
        if int(ids) in stop_tokens:
            return
        yield int(ids)


def stream_text(
    model: Llama, tokenizer: Tokenizer, text: str, max_new_tokens: int, **settings: float | int | torch.Generator | None
) -> Iterator[str]:
    """The continuation of a text, piece by piece; stops at EOS.

    A character may be spread over several byte tokens: its bytes are held back until it is complete.

    Args:
        model, tokenizer: a pair that belongs together.
        text: the prompt; BOS is put before it.
        max_new_tokens: as in `generate`.
        **settings: temperature, top_k, top_p and generator of `stream`.

    Yields:
        Non-empty strings; joined, they are the decoded continuation.
    """
    prompt = tokenizer.encode(text, bos=True)
    ids, shown = list(prompt), len(tokenizer.decode(prompt))
    for token in stream(model, prompt, max_new_tokens, stop_tokens=(tokenizer.eos_id,), **settings):
        ids.append(token)
        ready = tokenizer.decode(ids)
        if len(ready) > shown and not ready.endswith("\N{REPLACEMENT CHARACTER}"):
            yield ready[shown:]
            shown = len(ready)
    rest = tokenizer.decode(ids)[shown:]
    if rest:
        yield rest  # bytes that never became a character, shown as the replacement character
