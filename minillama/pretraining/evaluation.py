"""How good is a model? The likelihood of unseen text, and of answers (chapter 10).

A model is scored by the probability that it gives to text which it has not seen: per token, per byte, or of one answer
against others. Only bits per byte can be compared between models with different tokenizers.

Does: loss, perplexity, bits per byte, multiple choice with the usual normalisations; for a `Llama` and an `NGram`.
Does not: sum over the other ways to cut a text into tokens, so bits per byte is an upper bound; judge free answers.
Source: Touvron et al. 2023, section 2.3; Brown et al. 2020, section 2.4 (choices).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.ngram import NGram

NORMALISATIONS = ("none", "tokens", "bytes", "unconditional")


@torch.inference_mode()
def token_losses(
    model: Llama | NGram,
    tokens: Sequence[int] | np.ndarray | Tensor,
    context: int | None = None,
    overlap: int = 0,
    batch_size: int = 8,
) -> Tensor:
    """-ln of the probability of each token after the first, given those before it.

    A row longer than the context is read in windows. Each window repeats the last `overlap` inputs of the one before,
    whose targets were scored there. So every target counts once, and after the first window it sees at least
    `overlap` + 1 tokens.

    Args:
        model: a model; `context`, `overlap` and `batch_size` do not concern an `NGram`.
        tokens: ids of one row, shape (T,).
        context: inputs in a window; None for the model's `max_seq_len`.
        overlap: 0 is fastest and gives the highest loss; context - 1 gives every target a full context.
        batch_size: windows computed together.

    Returns:
        float64, shape (T - 1,), on the CPU.

    Raises:
        ValueError: if there are fewer than two tokens, or an argument is out of range.
    """
    row = torch.as_tensor(np.asarray(tokens, dtype=np.int64) if not isinstance(tokens, Tensor) else tokens).long()
    if row.dim() != 1 or len(row) < 2:
        raise ValueError(f"expected one row of at least two tokens, the first only to be read; got {tuple(row.shape)}")
    if isinstance(model, NGram):
        return torch.from_numpy(model.bits(row.numpy()) * math.log(2))
    context = model.config.max_seq_len if context is None else context
    if not 1 <= context <= model.config.max_seq_len or not 0 <= overlap < context:
        raise ValueError(
            f"expected 1 <= context <= max_seq_len = {model.config.max_seq_len} and 0 <= overlap < context, "
            f"got context {context}, overlap {overlap}"
        )
    row = row.to(model.tok_embeddings.weight.device)
    inputs, step = len(row) - 1, context - overlap
    starts = list(range(0, max(inputs - overlap, 1), step))
    full = [start for start in starts if start + context <= inputs]
    groups = [full[i : i + batch_size] for i in range(0, len(full), batch_size)]
    groups += [[start] for start in starts[len(full) :]]  # the last window may be shorter
    losses = torch.empty(inputs, dtype=torch.float64)
    for group in groups:
        windows = torch.stack([row[start : start + context + 1] for start in group])  # (b, context + 1)
        logits = model(windows[:, :-1])  # (b, context, V)
        scores = F.cross_entropy(logits.transpose(1, 2), windows[:, 1:], reduction="none").double().cpu()
        for start, score in zip(group, scores, strict=True):
            fresh = overlap if start else 0  # what lies before was scored in the window before
            losses[start + fresh : start + len(score)] = score[fresh:]
    return losses


def loss_per_token(
    model: Llama | NGram,
    tokens: Sequence[int] | np.ndarray | Tensor,
    context: int | None = None,
    overlap: int = 0,
    batch_size: int = 8,
) -> float:
    """Mean of -ln p, in nats.

    Args:
        model: a model.
        tokens: one row (T,), or an array of rows that do not belong together, (B, T).
        context, overlap, batch_size: windows of a long row, see `token_losses`.
    """
    rows = tokens if getattr(tokens, "ndim", 1) == 2 else [tokens]
    return torch.cat([token_losses(model, row, context, overlap, batch_size) for row in rows]).mean().item()


def perplexity(
    model: Llama | NGram,
    tokens: Sequence[int] | np.ndarray | Tensor,
    context: int | None = None,
    overlap: int = 0,
    batch_size: int = 8,
) -> float:
    """e to the `loss_per_token`: a model that hesitates between k equally likely tokens has perplexity k."""
    return math.exp(loss_per_token(model, tokens, context, overlap, batch_size))


def bits_per_byte(
    model: Llama | NGram,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    eos: bool = False,
    context: int | None = None,
    overlap: int = 0,
    batch_size: int = 8,
) -> float:
    """Bits that the model needs for a byte of text (UTF-8), however long its tokens are.

    Args:
        model: a model.
        tokenizer: its tokenizer.
        texts: documents; each is read after BOS, and all bytes weigh the same.
        eos: also count the token that says where a document ends.
        context, overlap, batch_size: windows of a long document, see `token_losses`.

    Raises:
        ValueError: if there is no text.
    """
    nats, size = 0.0, 0
    for text in filter(None, texts):
        row = tokenizer.encode(text, bos=True, eos=eos)
        nats += token_losses(model, row, context, overlap, batch_size).sum().item()
        size += len(text.encode())
    if not size:
        raise ValueError("there is no text to score; the iterable was empty or already used up")
    return nats / math.log(2) / size


@dataclass(frozen=True)
class Choice:
    """Scores of the options of one question.

    Attributes:
        scores: one an option, higher is better; log-probabilities in nats, normalised as asked for.
    """

    scores: list[float]

    @property
    def best(self) -> int:
        """Number of the option with the highest score, the first of equal ones."""
        return self.scores.index(max(self.scores))

    @property
    def probabilities(self) -> list[float]:
        """What the model believes if one of the options is right, the softmax of the scores."""
        return torch.tensor(self.scores, dtype=torch.float64).softmax(0).tolist()


def multiple_choice(
    model: Llama | NGram,
    tokenizer: Tokenizer,
    question: str,
    options: Sequence[str],
    normalise: str = "none",
    neutral: str = "Answer:",
) -> Choice:
    """Which option would the model rather say after the question?

    Args:
        model: a model.
        tokenizer: its tokenizer.
        question: the prompt, with solved examples in front if the question is few-shot.
        options: strings that follow the question exactly, so they usually begin with a space.
        normalise: "none" takes ln p(option | question), which favours short options; "tokens" and "bytes" divide it by
            the option's length; "unconditional" subtracts ln p(option | neutral), what the option has without the
            question.
        neutral: the prompt that stands for no question.

    Raises:
        ValueError: for an unknown normalisation, fewer than two options, an empty one, or a text that is too long.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise must be one of {', '.join(NORMALISATIONS)}, got {normalise!r}")
    if len(options) < 2 or not all(options):
        raise ValueError(f"expected at least two options, none of them empty, got {list(options)}")
    scores, lengths = _option_logprobs(model, tokenizer, question, options)
    if normalise == "tokens":
        scores = [score / length for score, length in zip(scores, lengths, strict=True)]
    elif normalise == "bytes":
        scores = [score / len(option.encode()) for score, option in zip(scores, options, strict=True)]
    elif normalise == "unconditional":
        without, _ = _option_logprobs(model, tokenizer, neutral, options)
        scores = [score - base for score, base in zip(scores, without, strict=True)]
    return Choice(scores)


def _option_logprobs(
    model: Llama | NGram, tokenizer: Tokenizer, question: str, options: Sequence[str]
) -> tuple[list[float], list[int]]:
    """ln p of each option, and its number of tokens.

    A tokenizer may merge the question's end with an option's beginning. So question and option are encoded together,
    and all options are scored from the first token at which any of them leaves the encoding of the question.
    """
    alone = tokenizer.encode(question, bos=True)
    rows = [tokenizer.encode(question + option, bos=True) for option in options]
    common = next((i for i, ids in enumerate(zip(alone, *rows, strict=False)) if len(set(ids)) > 1), len(alone))
    limit = math.inf if isinstance(model, NGram) else model.config.max_seq_len + 1
    if (longest := max(map(len, rows))) > limit:
        raise ValueError(f"question and option have {longest} tokens, the model reads {limit - 1}: use fewer examples")
    return [-token_losses(model, row)[common - 1 :].sum().item() for row in rows], [len(row) - common for row in rows]
