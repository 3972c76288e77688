"""Does a model keep the facts of a story? (chapter 9)

A held-out story is cut where it says again what it has said before: where the lost key lies, whose it is, how many
apples there are now. The model must prefer the right word to every other word of the kind. Fluency does not help:
"in the barn" and "at the mill" are equally good English.

Does: questions of five kinds from a story's record of facts; the share answered rightly, for any model that gives
    probabilities of a next token; what the village's reader says of texts that a model wrote.
Does not: ask for what a story leaves open; judge style.
Source: invented for this book; the idea of a cloze test is Taylor's (1953).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.ngram import NGram
from minillama.village import lexicon
from minillama.village.language import Reading, read
from minillama.village.lexicon import NUMBERS, PLACES, THINGS
from minillama.village.stories import Story, check

# kind: what is asked for, and the events that say again what is already settled, with the slot that says it
ASKED = {
    "where": {"find": "p", "tell": "p", "remember": "p", "pet_found": "p", "keep_promise": "p", "break_promise": "p"},
    "what": {"lose": "t", "find": "t", "miss": "t", "return": "t", "steal": "t", "hide": "t", "break": "t", "fix": "t"},
    "who": {"return": "b", "thank": "b", "apologise": "b", "comfort": "b", "praise": "b"},
    "how many": {"total_goods": "n"},
    "which": {"lose": "t", "find": "t", "return": "t", "steal": "t", "hide": "t", "break": "t", "lend": "t"},
}


@dataclass(frozen=True)
class Probe:
    """One question about a story.

    Attributes:
        kind: key of `ASKED`.
        prefix: the story up to the word in question, title included; no space at its end.
        options: what could follow, each beginning with a space.
        answer: the right one.
        distance: sentences between the question and the last one that named the answer.
    """

    kind: str
    prefix: str
    options: tuple[str, ...]
    answer: str
    distance: int


def probes(story: Story) -> list[Probe]:
    """All questions that a story answers before it says the answer again, in order."""
    head = "" if story.title is None else story.title + "\n"
    told, found, position = [], [], 0
    for reading in read(story.body):
        start = story.body.index(reading.text, position)
        position = start + len(reading.text)
        for kind, events in ASKED.items():
            slot = events.get(reading.event.kind) if reading.event else None
            made = _ask(kind, reading, slot) if slot else None
            if made:
                offset, options, answer, mark = made
                distance = next((n for n, s in enumerate(reversed(told), 1) if mark in s), None)
                if distance is not None:
                    prefix = head + story.body[: start + offset]
                    found.append(Probe(kind, prefix, options, answer, distance))
        told.append(reading.text)
    return found


def _ask(kind: str, reading: Reading, slot: str) -> tuple[int, tuple[str, ...], str, str] | None:
    """(offset of the answer in the sentence, options, answer, what to look for in earlier sentences), or None."""
    event, text = reading.event, reading.text
    value = event[slot]
    if kind == "where":
        where = next((w for w in PLACES[value] if f" {w}" in text), None)
        if where is None:
            return None
        column = PLACES[value].index(where)
        return text.index(f" {where}"), tuple(f" {w[column]}" for w in PLACES.values()), f" {where}", where.split()[-1]
    if kind == "how many":
        word, options = f" {NUMBERS[value]}", tuple(f" {n}" for n in NUMBERS[2:])
    elif kind == "who":
        word, options = f" {value}", tuple(f" {n}" for n in lexicon.COMMON_NAMES)
    elif kind == "what":
        word, options = f" {value}", tuple(f" {t}" for t in THINGS)
    else:  # which: the thing's look, given to it when it was first named
        look = reading.looks.get(value)
        if look is None:
            return None
        word, options = f" {look}", tuple(f" {w}" for w in lexicon.LOOKS)
    match = re.search(rf"{word}\b", text)
    if match is None or word not in options:  # a pronoun, or the sentence's first word
        return None
    # a sum is new: what was told before is the goods that are counted
    mark = lexicon.GOODS[event["g"]] if kind == "how many" else word.strip()
    return match.start(), options, word, mark


def answers(model: Llama | NGram, tokenizer: Tokenizer, questions: Iterable[Probe]) -> list[bool]:
    """Whether a model prefers the right answer of each question.

    Options are compared token by token: wherever the right one parts from others that begin alike, its next token
    must be the likeliest among theirs. So a question costs one pass through the model, however many options it has.

    Args:
        model: a model that has seen stories.
        tokenizer: its tokenizer.
        questions: from `probes`.

    Raises:
        ValueError: if a question is longer than the model's context.
    """
    return [_right(model, tokenizer, question) for question in questions]


def _right(model: Llama | NGram, tokenizer: Tokenizer, question: Probe) -> bool:
    start = len(tokenizer.encode(question.prefix, bos=True))
    row = tokenizer.encode(question.prefix + question.answer, bos=True)
    point = tokenizer.encode(".")  # an option is encoded after a full stop, since a text's first word loses its space
    options = [tokenizer.encode("." + option)[len(point) :] for option in question.options]
    right = row[start:]
    for i, scores in enumerate(_scores(model, row, start)):
        rivals = {o[i] for o in options if len(o) > i and o[:i] == right[:i]} | {right[i]}
        if max(rivals, key=lambda token: scores[token]) != right[i]:
            return False
    return True


@torch.inference_mode()
def _scores(model: Llama | NGram, row: list[int], start: int) -> np.ndarray:
    """For each token of row[start:], scores of all tokens in its place, shape (len(row) - start, V)."""
    if isinstance(model, NGram):
        return np.stack([model.probabilities(row[:i]) for i in range(start, len(row))])
    if len(row) - 1 > model.config.max_seq_len:
        raise ValueError(f"a question has {len(row)} tokens, the model reads {model.config.max_seq_len}")
    return model(torch.tensor([row[:-1]]))[0, start - 1 :].numpy()


@dataclass(frozen=True)
class Report:
    """What the reader says of texts.

    Attributes:
        texts: how many there were.
        read: share of the sentences that are well-formed: the reader knows their form.
        consistent: share of the texts with no contradiction in what was read and no sentence unread.
        problems: contradictions a text.
    """

    texts: int
    read: float
    consistent: float
    problems: float


def report(texts: Sequence[str]) -> Report:
    """Read texts without their titles and check them against themselves and the villagers' facts.

    Raises:
        ValueError: if there is no text.
    """
    if not texts:
        raise ValueError("expected at least one text, got none")
    checks = [check(text) for text in texts]
    sentences = sum(len(c.readings) for c in checks)
    return Report(
        texts=len(texts),
        read=1 - sum(c.unread for c in checks) / max(1, sentences),
        consistent=sum(not c.problems and not c.unread and bool(c.readings) for c in checks) / len(texts),
        problems=sum(len(c.problems) for c in checks) / len(texts),
    )
