"""Comparisons: two answers to one prompt, and which is better by how much (chapter 13).

Two variants of a model answer at different temperatures; an annotator must choose, and says how sure the choice is.
Helpfulness is compared on harmless requests and safety on risky ones, in two collections that are kept apart. In the
safety collection it is also said of each answer whether it is safe.

Does: gathers comparisons; mixes collections as the paper does; stores them in few bytes.
Does not: ask people; see `minillama.village.annotators` for those who answer here, `minillama.figures` for you.
Source: Touvron et al. 2023b, section 3.2.1 (collection), section 3.2.2 (mixtures), table 6.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from minillama.alignment.chat import encode_dialogue, encode_prompt, messages
from minillama.alignment.measures import ask
from minillama.alignment.sampling import Answer
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.annotators import DEGREES, Annotator
from minillama.village.draw import Request
from minillama.village.safety import harm


@dataclass(frozen=True)
class Comparison:
    """One judged pair.

    Attributes:
        request: what was asked.
        chosen, rejected: the answers.
        degree: how much better the chosen one is felt to be; one of `minillama.village.annotators.DEGREES`.
        safe: whether the chosen and the rejected answer are safe; None in the helpfulness collection.
    """

    request: Request
    chosen: Answer
    rejected: Answer
    degree: str
    safe: tuple[bool, bool] | None = None


def written(tokenizer: Tokenizer, request: Request, text: str) -> Answer:
    """A text as if a model had said it, with an end."""
    prompt = encode_prompt(tokenizer, messages(request))
    tokens, _ = encode_dialogue(tokenizer, messages(request, text))
    return Answer(text, tuple(tokens[len(prompt) :]), ended=True)


def compare(
    requests: Sequence[Request], a: Sequence[Answer], b: Sequence[Answer], annotator: Annotator, safety: bool
) -> list[Comparison]:
    """Have an annotator choose between answers; pairs of equal texts are left out.

    Args:
        requests, a, b: of the same length.
        annotator: who chooses, by the score that is theirs.
        safety: label the answers as safe or not, and leave out, as the paper does, pairs in which the chosen answer
            is unsafe and the other one safe.
    """
    found = []
    for request, one, two in zip(requests, a, b, strict=True):
        if one.text == two.text:
            continue
        choice, degree = annotator.compare(request, one.text, two.text)
        chosen, rejected = (one, two) if choice == 0 else (two, one)
        safe = (harm(chosen.text) == 0, harm(rejected.text) == 0) if safety else None
        if safe != (False, True):
            found.append(Comparison(request, chosen, rejected, degree, safe))
    return found


def gather(
    variants: Sequence[Llama],
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    annotator: Annotator,
    safety: bool,
    temperatures: Sequence[float] = (0.7, 1.0, 1.3),
    seed: int = 0,
) -> list[Comparison]:
    """Let two variants answer every request once, each at a temperature drawn by lot, and compare.

    Args:
        variants: two models; or one, which then answers twice.
        tokenizer: theirs.
        requests: what is asked.
        annotator, safety: as in `compare`.
        temperatures: what is drawn from.
        seed: of the lots and of the answers.
    """
    lots = random.Random(seed)
    sides: list[list[Answer]] = []
    for side, model in enumerate((variants[0], variants[-1])):
        answers: dict[int, Answer] = {}
        heat = [lots.choice(temperatures) for _ in requests]
        for t in sorted(set(heat)):
            asked = [i for i, own in enumerate(heat) if own == t]
            given = ask(model, tokenizer, [requests[i] for i in asked], t, seed=seed * 1000 + side * 100 + int(10 * t))
            answers |= dict(zip(asked, given, strict=True))
        sides.append([answers[i] for i in range(len(requests))])
    return compare(requests, *sides, annotator, safety)


def mix(main: Sequence[Comparison], other: Sequence[Comparison], other_share: float, seed: int = 0) -> list[Comparison]:
    """All of one collection, and as much of another as makes up a share of the whole; in random order.

    The paper's helpfulness model has a share of 0.5, its safety model 0.1. If the other collection is too small, all
    of it is taken.
    """
    if not 0 <= other_share < 1:
        raise ValueError(f"other_share must be in [0, 1), got {other_share}")
    lots = random.Random(seed)
    wanted = min(len(other), round(len(main) * other_share / (1 - other_share)))
    mixed = [*main, *lots.sample(list(other), wanted)]
    lots.shuffle(mixed)
    return mixed


def rows(comparisons: Sequence[Comparison], asked: Sequence[Request]) -> list[list]:
    """Comparisons as JSON: the request's number among those asked, both answers' token ids, and the degree's number.

    Raises:
        ValueError: if a request was not asked.
    """
    number = {request: i for i, request in enumerate(asked)}
    if unknown := [c.request.prompt for c in comparisons if c.request not in number]:
        raise ValueError(f"{len(unknown)} requests are not among those asked; the first is {unknown[0]!r}")
    return [
        [number[c.request], list(c.chosen.tokens), list(c.rejected.tokens), DEGREES.index(c.degree)]
        for c in comparisons
    ]


def from_rows(
    stored: Sequence[Sequence], asked: Sequence[Request], tokenizer: Tokenizer, safety: bool
) -> list[Comparison]:
    """The comparisons that `rows` stored, with the same requests asked; with labels if they are about safety."""
    found = []
    for number, *sides, degree in stored:
        chosen, rejected = (
            Answer(tokenizer.decode(tokens).strip(), tuple(tokens), tokens[-1] == tokenizer.eos_id) for tokens in sides
        )
        safe = (harm(chosen.text) == 0, harm(rejected.text) == 0) if safety else None
        found.append(Comparison(asked[number], chosen, rejected, DEGREES[degree], safe))
    return found
