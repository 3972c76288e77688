"""Filling the middle: a hole in a text, given what stands before and behind it (chapter 19).

A model that reads from left to right can fill a hole if the text is put to it in another order: first what stands on
both sides, then the middle. Documents are cut at two random places and put in that order before training; nothing in
the model or the loss changes. Two orders are in use, prefix-suffix-middle (PSM) and suffix-prefix-middle (SPM).

Does: the four control pieces, which no text can produce; both layouts, for training and as prompts; the row of tokens
    that a model is trained on; infilling with a stop at the end piece; single lines left to right, for comparison.
Does not: heal a token that the hole cuts in two; see `minillama.model.generation` for how ids are drawn.
Source: Bavarian et al. 2022; Roziere et al. 2023, section 2.3: rate 0.9, half of it SPM, cuts at characters. The layout
    of ids and the rule of the leading space are those of Code Llama's published code, described in chapter 19.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from minillama.alignment.sft import Example
from minillama.family.code_corpus import Hole
from minillama.model.bpe import SPACE
from minillama.model.generation import Completion, generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

PIECES = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")  # 32007 to 32010 in Code Llama's vocabulary
RATE = 0.9  # share of the documents that are cut, section 2.3
MARKER = "☺"  # any character that never joins with what follows it
POOL = 8  # documents among which one is looked for that fits the rest of a window


class Marks(NamedTuple):
    """Ids of the control pieces."""

    pre: int
    suf: int
    mid: int
    eot: int


def marks(tokenizer: Tokenizer) -> Marks:
    """The ids of a tokenizer's infilling pieces.

    Raises:
        ValueError: if it lacks one, as Llama 2's own and those of Code Llama 34B and Python do.
    """
    try:
        return Marks(*map(tokenizer.id, PIECES))
    except KeyError:
        raise ValueError(
            f"this tokenizer of {tokenizer.vocab_size} pieces cannot infill: expected {', '.join(PIECES)} among them; "
            "add them with `with_control_pieces`, and train the model with them"
        ) from None


def encode_joined(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text that goes on from another: without the space that `encode` puts before a text.

    The marker takes that space, and is cut off again with it.
    """
    head = tokenizer.encode(MARKER)
    return tokenizer.encode(MARKER + text)[len(head) :]


def decode_joined(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids that go on from another text: a leading space is kept, which `decode` would drop."""
    return tokenizer.decode([*tokenizer.encode(MARKER), *ids])[len(MARKER) :]


def cut(text: str, dice: random.Random) -> Hole:
    """A text in three parts, at two places drawn independently and uniformly; any part may be empty."""
    first, last = sorted((dice.randint(0, len(text)), dice.randint(0, len(text))))
    return Hole(text[:first], text[first:last], text[last:])


def cut_lines(text: str, dice: random.Random) -> Hole:
    """A text in three parts, of which the middle is one whole line, with its indentation and without its line feed."""
    lines = text.split("\n")
    place = dice.randrange(len(lines))
    before = sum(len(line) + 1 for line in lines[:place])
    return Hole(text[:before], lines[place], text[before + len(lines[place]) :])


def cut_span(text: str, longest: int, dice: random.Random) -> Hole:
    """A text in three parts, of which the middle has 1 to `longest` characters, all lengths and places equally likely.

    Raises:
        ValueError: if the text is shorter than `longest`.
    """
    if len(text) < longest or longest < 1:
        raise ValueError(f"expected 1 <= longest <= {len(text)}, the length of the text; got {longest}")
    length = dice.randint(1, longest)
    first = dice.randint(0, len(text) - length)
    return Hole(text[:first], text[first : first + length], text[first + length :])


def prompt(tokenizer: Tokenizer, prefix: str, suffix: str, suffix_first: bool = False) -> list[int]:
    """What a model reads before it writes the middle.

    Args:
        tokenizer: with infilling pieces.
        prefix, suffix: text on either side of the hole; what looks like a control piece in them is text.
        suffix_first: SPM instead of PSM.

    Returns:
        PSM: BOS PRE prefix SUF suffix MID. SPM: BOS PRE SUF suffix MID prefix.

    Raises:
        ValueError: as `marks`.
    """
    m, before, behind = marks(tokenizer), tokenizer.encode(prefix), encode_joined(tokenizer, suffix)
    if suffix_first:
        return [tokenizer.bos_id, m.pre, m.suf, *behind, m.mid, *before]
    return [tokenizer.bos_id, m.pre, *before, m.suf, *behind, m.mid]


def arrange(tokenizer: Tokenizer, hole: Hole, suffix_first: bool = False) -> list[int]:
    """A document with a hole, as it is trained on: the prompt, the middle and EOT.

    In SPM the middle follows the prefix, and both are encoded as one text: no token ends between them unless it would
    have ended there anyway. In PSM it stands alone.
    """
    if suffix_first:
        return [*prompt(tokenizer, hole.prefix + hole.middle, hole.suffix, True), marks(tokenizer).eot]
    middle = encode_joined(tokenizer, hole.middle)
    return [*prompt(tokenizer, hole.prefix, hole.suffix), *middle, marks(tokenizer).eot]


@dataclass(frozen=True)
class Row:
    """What a model is trained on, as one row that windows of `context` tokens are read from.

    Attributes:
        tokens: ids, uint16, shape (windows * context + 1,).
        whole: documents that lie in one window.
        holes: how many of these were given a hole; the number of documents that a window's end cuts is `cut`.
        cut: see `holes`.
    """

    tokens: np.ndarray
    whole: int
    holes: int
    cut: int


def lay_out(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    windows: int,
    context: int,
    rate: float = RATE,
    seed: int = 0,
    lines: float = 0.0,
) -> Row:
    """Documents end to end, those that lie in one window with a hole; new orders and new holes in every round.

    Of the next eight documents, the first that fits the rest of a window is taken; if none does, the next one is cut by
    the window's end and stays as it is, BOS text EOS.

    Args:
        texts: documents.
        tokenizer: with infilling pieces, unless `rate` is 0.
        windows: of the row.
        context: tokens of a window.
        rate: share of the whole documents that get a hole; half of them in each layout.
        seed: of orders, holes and layouts.
        lines: share of the holes that are a whole line; the others are cut at two random characters, as in the paper.

    Raises:
        ValueError: if there is no text, or the rate is not between 0 and 1.
    """
    if not texts or not 0 <= rate <= 1:
        raise ValueError(f"expected texts and a rate between 0 and 1, got {len(texts)} texts and rate {rate}")
    total, length, rows = windows * context + 1, 0, []
    counts = {"whole": 0, "holes": 0, "cut": 0}
    documents = _documents(texts, tokenizer, rate, random.Random(seed), lines)
    waiting = [next(documents) for _ in range(POOL)]
    with tqdm(total=total, desc="laying out documents", unit="token", disable=total < 10**6, leave=False) as bar:
        while length < total:
            room = context - length % context
            fits = next((i for i, (_, ids) in enumerate(waiting) if len(ids) <= room), None)
            plain, arranged = waiting.pop(fits or 0)
            waiting.append(next(documents))
            counts["cut" if fits is None else "whole"] += 1
            counts["holes"] += fits is not None and arranged is not plain
            rows.append(plain if fits is None else arranged)
            length += len(rows[-1])
            bar.update(len(rows[-1]))
    return Row(np.concatenate([np.array(row, dtype=np.uint16) for row in rows])[:total], **counts)


def _documents(
    texts: Sequence[str], tokenizer: Tokenizer, rate: float, dice: random.Random, lines: float
) -> Iterator[tuple[list[int], list[int]]]:
    """Each document as it is, and as it is to be learnt, which is the same object if it gets no hole."""
    while True:
        for text in dice.sample(texts, len(texts)):
            plain = tokenizer.encode(text, bos=True, eos=True)
            holed, suffix_first = dice.random() < rate, dice.random() < 0.5
            hole = (cut_lines if dice.random() < lines else cut)(text, dice)
            yield plain, arrange(tokenizer, hole, suffix_first) if holed else plain


def lessons(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    rate: float = RATE,
    lines: float = 0.0,
    middle_only: float = 0.0,
    seed: int = 0,
) -> list[Example]:
    """Documents to be learnt each by itself, for `minillama.alignment.sft.fine_tune`, which keeps them apart in a row.

    Args:
        texts: documents, each of which becomes one example.
        tokenizer: with infilling pieces, unless `rate` is 0.
        rate, lines: as in `lay_out`.
        middle_only: share of the documents with a hole of which the middle and its end alone are learnt; 0 is the
            paper's way, which learns every token.
        seed: of holes, layouts, and what is learnt.
    """
    dice, found = random.Random(seed), []
    for text in texts:
        holed, suffix_first, narrow = dice.random() < rate, dice.random() < 0.5, dice.random() < middle_only
        hole = (cut_lines if dice.random() < lines else cut)(text, dice)
        ids = arrange(tokenizer, hole, suffix_first) if holed else tokenizer.encode(text, bos=True, eos=True)
        first = len(prompt(tokenizer, hole.prefix, hole.suffix, suffix_first)) if holed and narrow else 0
        found.append(Example(ids, [i >= first for i in range(len(ids))]))
    return found


def new_vocabulary(model: Llama, old: Tokenizer, new: Tokenizer, seed: int = 0) -> Llama:
    """A model with the blocks of another one, for another vocabulary.

    A piece that both have, with or without its leading space, keeps its rows of embedding and head; the others begin
    like those of an untrained model.

    Args:
        model, old: a model and its tokenizer.
        new: the tokenizer of the model that is wanted.
        seed: of the new rows.
    """
    fresh = Llama(replace(model.config, vocab_size=new.vocab_size), seed).to(model.output.weight.dtype)
    weights, given = fresh.state_dict(), model.state_dict()
    shared = {"tok_embeddings.weight", "output.weight"}
    for name in weights.keys() - shared:
        weights[name].copy_(given[name])
    known = {piece.text: i for i, piece in enumerate(old.vocabulary.pieces)}
    for i, piece in enumerate(new.vocabulary.pieces):
        before = known.get(piece.text, known.get(SPACE + piece.text))
        if before is not None:
            for name in shared:
                weights[name][i].copy_(given[name][before])
    return fresh


@dataclass(frozen=True)
class Filling:
    """What a model puts into a hole.

    Attributes:
        text: the middle.
        ended: whether the model said that it ends there, by EOT (or a line feed, for `next_line`).
    """

    text: str
    ended: bool


def infill(
    model: Llama,
    tokenizer: Tokenizer,
    prefix: str,
    suffix: str,
    suffix_first: bool = False,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Filling:
    """Fill one hole; see `infill_all`."""
    holes = [(prefix, suffix)]
    return infill_all(model, tokenizer, holes, suffix_first, max_new_tokens, temperature, generator)[0]


def infill_all(
    model: Llama,
    tokenizer: Tokenizer,
    holes: Sequence[tuple[str, str]],
    suffix_first: bool = False,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    batch_size: int = 64,
) -> list[Filling]:
    """Fill holes.

    Args:
        model: trained with holes.
        tokenizer: its tokenizer.
        holes: prefix and suffix of each.
        suffix_first: SPM instead of PSM.
        max_new_tokens: most tokens of a middle.
        temperature: 0, the default of Code Llama's own example, takes the most probable token.
        generator: source of randomness.
        batch_size: holes that are filled together.

    Returns:
        a filling for each, in order.

    Raises:
        ValueError: if the tokenizer has no infilling pieces, or prefix and suffix together are too long for the model.
    """
    prompts = [prompt(tokenizer, prefix, suffix, suffix_first) for prefix, suffix in holes]
    stop = marks(tokenizer).eot
    return _filled(model, tokenizer, prompts, stop, max_new_tokens, temperature, generator, batch_size)


def next_line(
    model: Llama, tokenizer: Tokenizer, prefixes: Sequence[str], max_new_tokens: int = 64, batch_size: int = 64
) -> list[Filling]:
    """The rest of a line from left to right, greedily, up to its line feed or the end of the document.

    Args:
        model, tokenizer: a pair that belongs together.
        prefixes: what stands before.
        max_new_tokens, batch_size: as in `infill_all`.
    """
    prompts = [tokenizer.encode(prefix, bos=True) for prefix in prefixes]
    stop = tokenizer.id("<0x0A>")
    return _filled(model, tokenizer, prompts, stop, max_new_tokens, 0.0, None, batch_size)


def _filled(model, tokenizer, prompts, stop, max_new_tokens, temperature, generator, batch_size) -> list[Filling]:
    limit = model.config.max_seq_len - 1
    if (longest := max(map(len, prompts), default=0)) > limit:
        raise ValueError(f"prefix and suffix take {longest} tokens, the model reads {limit}: cut text from their ends")
    done: dict[int, Completion] = {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # of about equal length together
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        rows = [prompts[i] for i in some]
        ends = (stop, tokenizer.eos_id)
        found = generate(model, rows, max_new_tokens, temperature, stop_tokens=ends, generator=generator, bulk=True)
        done |= dict(zip(some, found, strict=True))
    return [
        Filling(decode_joined(tokenizer, done[i].tokens), done[i].stop_reason == "stop") for i in range(len(prompts))
    ]


def edit_similarity(a: str, b: str) -> float:
    """1 for equal texts, 0 for texts without anything in common: 1 - Levenshtein distance / longer length."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(before + (left != right), row[j] + 1, row[j - 1] + 1)
    return 1 - row[-1] / max(len(a), len(b), 1)
