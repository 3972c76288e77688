"""Generation: one token at a time (chapter 7).

The model gives a distribution over the next token; a rule picks one; it is appended, and the model reads it.

Does: greedy, temperature, top-k and top-p as in the reference, batches of unequal prompts, stop tokens,
    log-probabilities, streaming of tokens and of text, a storage order that makes decoding faster.
Does not: beam search, repetition penalties; Llama 2 uses neither.
Source: the reference's sampling rule as described in Touvron et al. 2023b; Holtzman et al. 2020 (top-p);
    Fan et al. 2018 (top-k).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minillama.model.attention import KVCache
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
    """Zero all but the k most probable entries, and renormalise. Of equal entries, the lower id counts as larger.

    Args:
        probs: probabilities, shape (..., V).
        k: how many to keep; more than V keeps all.

    Returns:
        Probabilities, shape (..., V).

    Raises:
        ValueError: if k is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k must be at least 1, got {k}")
    order = probs.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(probs).scatter(-1, order[..., :k], 1.0) * probs
    return kept / kept.sum(-1, keepdim=True)


def keep_top_p(probs: Tensor, p: float) -> Tensor:
    """Keep the most probable entries up to the one that takes their mass past p, and renormalise.

    An entry is dropped if the mass *before* it already exceeds p. So the one that crosses p stays, and the most
    probable one always does. Of equal entries, the lower id counts as larger.

    Args:
        probs: probabilities, shape (..., V).
        p: mass, in (0, 1].

    Returns:
        Probabilities, shape (..., V).

    Raises:
        ValueError: if p is outside (0, 1].
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
    if not temperature >= 0:
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    # the largest logit becomes 0 first, so that a tiny temperature gives -inf to the others and not inf to all
    probs = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
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


def _pick_quickly(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator) -> Tensor:
    """As `_pick`, but where a uniform number falls in the cumulative sum: on a CPU, multinomial is 20 times slower."""
    if temperature == 0:
        return logits.argmax(-1)
    sums = next_token_distribution(logits, temperature, top_k, top_p).double().cumsum(-1)  # (B, V)
    drawn = torch.rand(len(sums), 1, dtype=torch.float64, device=sums.device, generator=generator) * sums[:, -1:]
    return torch.searchsorted(sums, drawn, right=True).squeeze(-1)


def _read_once(model: Llama, rows: Tensor, cache: list[KVCache], total: int) -> Tensor:
    """The hidden states of rows among which are equal ones, each computed once; fills the cache for all."""
    different, which = torch.unique(rows, dim=0, return_inverse=True)
    own = model.new_cache(len(different), total)
    hidden = model.hidden_states(different, own)
    for layer, of_different in zip(cache, own, strict=True):
        of_different.keep(which)
        layer.keys, layer.values, layer.length = of_different.keys, of_different.values, of_different.length
    return hidden[which]


def _check(model: Llama, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature, top_k, top_p) -> None:
    if not prompts:
        raise ValueError("prompts is empty: pass a list with at least one list of token ids")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    for value in (temperature, 1.0):  # raises for impossible settings; 1.0 because temperature 0 ignores the others
        next_token_distribution(torch.zeros(1), value, top_k, top_p)
    vocab_size, longest = model.config.vocab_size, model.config.max_seq_len
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {i} is empty: begin it with the BOS token, the model needs something to read")
        outside = [t for t in prompt if not 0 <= t < vocab_size]
        if outside:
            raise ValueError(f"prompt {i} has token id {outside[0]}, outside the vocabulary 0..{vocab_size - 1}")
        if len(prompt) >= longest:
            raise ValueError(
                f"prompt {i} has {len(prompt)} tokens and the model's max_seq_len is {longest}: shorten it to at most "
                f"{longest - 1}, so that there is room for a new token"
            )


def _steps(
    model: Llama,
    rows: Tensor,
    lengths: list[int],
    temperature,
    top_k,
    top_p,
    generator,
    use_cache=True,
    echo=False,
    done: Tensor | None = None,
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Fill the columns of `rows` (B, total) from the shortest prompt's end; yield (column, rows, ids, logits behind).

    Where a longer prompt still has a token, that token is kept instead of the sample, so no padding is ever fed to
    the model. With echo, the columns of the shortest prompt are yielded first, from column 1 on. Rows that the caller
    marks in `done` are left out as soon as half of those under way are.
    """
    start, total = min(lengths), rows.shape[1]
    in_prompt = torch.arange(total, device=rows.device) < torch.tensor(lengths, device=rows.device)[:, None]
    cache = model.new_cache(len(lengths), total) if use_cache else None
    read, active = 0, torch.arange(len(lengths), device=rows.device)
    for column in range(start, total):
        if done is not None and cache and column == start:
            hidden = _read_once(model, rows[:, :start], cache, total)
        else:
            hidden = model.hidden_states(rows[:, read:column], cache)  # without a cache, everything so far
        if echo and column == start:
            prompt_logits = at_least_float32(model.output(hidden))
            for seen in range(1, start):
                yield seen, active, rows[:, seen], prompt_logits[:, seen - 1]
        logits = at_least_float32(model.output(hidden[:, -1]))  # (B, V): only the last position predicts
        if column == start and not logits.isfinite().all():
            raise ValueError("the model's logits are not finite: check its weights for NaN and infinity")
        ids = (_pick if done is None else _pick_quickly)(logits, temperature, top_k, top_p, generator)
        if column < max(lengths):
            ids = torch.where(in_prompt[:, column], rows[:, column], ids)
        rows[:, column] = ids
        yield column, active, ids, logits
        if done is not None and 2 * int(done[active].sum()) >= len(active):
            going = (~done[active]).nonzero().squeeze(-1)
            active, rows, in_prompt = active[going], rows[going], in_prompt[going]
            for layer in cache or ():
                layer.keep(going)
        read = column if use_cache else 0


def _prompt_rows(model: Llama, prompts: Sequence[Sequence[int]], total: int) -> Tensor:
    """The prompts as a (B, total) tensor on the model's device, filled up with zeros that are never read."""
    rows = torch.zeros(len(prompts), total, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        rows[row, : len(prompt)] = torch.tensor(list(prompt))
    return rows.to(model.tok_embeddings.weight.device)


@torch.inference_mode()
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
    bulk: bool = False,
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
        bulk: faster for many rows: equal prompts are read once, rows that are finished are left out whenever half of
            those under way are, and ids are drawn in a quicker way, so that the same seed gives other samples.

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
    done = torch.zeros(len(prompts), dtype=torch.bool, device=rows.device) if bulk else None
    steps = _steps(model, rows, lengths, temperature, top_k, top_p, generator, use_cache, echo, done)
    for column, active, ids, logits in steps:
        logprobs[active.cpu(), column] = logits.log_softmax(-1).gather(-1, ids[:, None]).squeeze(-1).double().cpu()
        for row, token in zip(active.tolist(), ids.tolist(), strict=True):
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
        if done is not None:
            done.copy_(torch.tensor([reason is not None for reason in reasons]))
    firsts = [0 if echo else length for length in lengths]
    return [
        Completion(ids[first:], logprobs[row, first : len(ids)].tolist(), reason)
        for row, (ids, first, reason) in enumerate(zip(tokens, firsts, reasons, strict=True))
    ]


@torch.inference_mode()
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
    for _, _, ids, _ in _steps(model, rows, [len(prompt)], temperature, top_k, top_p, generator):
        if int(ids) in stop_tokens:
            return
        yield int(ids)


def as_text(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """Ids as text, as soon as they make some.

    A character may be spread over several byte tokens: its bytes are held back until it is complete.

    Args:
        tokenizer: theirs.
        prompt: the ids before.
        tokens: the ids that follow, as `stream` yields them.

    Yields:
        Non-empty strings; joined, they are what the tokens add to the decoded prompt. Bytes that never become a
        character come last, as the replacement character.
    """
    # decoding drops a leading space, so new tokens are always decoded behind some that have been shown
    shown, waiting, new = list(prompt), [], ""
    for token in tokens:
        waiting.append(token)
        new = tokenizer.decode(shown + waiting)[len(tokenizer.decode(shown)) :]
        if new and not new.endswith("\N{REPLACEMENT CHARACTER}"):
            yield new
            shown, waiting, new = waiting, [], ""
    if new:
        yield new


def stream_text(
    model: Llama,
    tokenizer: Tokenizer,
    text: str,
    max_new_tokens: int,
    temperature: float = 0.6,
    top_k: int | None = None,
    top_p: float | None = 0.9,
    generator: torch.Generator | None = None,
) -> Iterator[str]:
    """The continuation of a text, piece by piece; stops at EOS.

    Args:
        model, tokenizer: a pair that belongs together.
        text: the prompt; BOS is put before it.
        max_new_tokens, temperature, top_k, top_p, generator: as in `generate`.

    Yields:
        as `as_text`.

    Raises:
        ValueError: as `generate`.
    """
    prompt = tokenizer.encode(text, bos=True)
    stop = (tokenizer.eos_id,)
    yield from as_text(
        tokenizer, prompt, stream(model, prompt, max_new_tokens, temperature, top_k, top_p, stop, generator)
    )


def store_by_columns(model: Llama, ratio: float = 2.0) -> Llama:
    """Change the order in memory, and nothing else, of every matrix with at least `ratio` times more rows than columns.

    A decoding step multiplies each matrix by one vector. Stored by rows, a tall matrix is V short dot products, which
    keep the processor waiting; stored by columns, it is d long additions that stream through memory. Names, shapes,
    values and gradients stay; sums are taken in another order, so logits move in their last digits.

    Args:
        model: changed in place, one matrix at a time. Memory-mapped matrices are read into memory.
        ratio: rows per column from which the change pays.

    Returns:
        The same model.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features >= ratio * module.in_features:
            module.weight.data = module.weight.data.t().contiguous().t()
    return model
