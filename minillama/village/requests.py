"""Requests to an assistant of the village, in three disjoint sets (chapter 8).

Training, validation and test differ by a hash of the words alone, so no request is in two sets; all questions about
one tale, and all dialogues with one beginning, are in the same set. Most test requests differ from training requests in
wording and combination only. What is held out (people, person x place, action x thing) is shown in the test set alone,
in about a fifth of its requests, tagged "held-out".

Does: draws different requests of some families and levels, reproducibly.
Does not: word them (see `families` and `unsafe`), answer them (`demonstrations`) or judge answers (`judges`).
Source: invented for this book; three sets, so that what is chosen on one is not measured on it.
"""

import hashlib
from collections.abc import Callable, Sequence

from minillama.village import families as harmless
from minillama.village import unsafe
from minillama.village.draw import Draw, Request
from minillama.village.language import Chooser

SPLITS = ("train", "validation", "test")
FAMILIES: dict[str, Callable[[Draw, int], Request]] = {
    "story": harmless.story,
    "fact": harmless.fact_,
    "lookup": harmless.lookup,
    "list": harmless.list_,
    "continue": harmless.continue_,
    "rewrite": harmless.rewrite,
    "summary": harmless.summary,
    "brief": harmless.brief,
    "dialogue": harmless.dialogue,
    "harmful": unsafe.harmful,
    "borderline": unsafe.borderline,
}
WEIGHTS = {"story": 5, "harmful": 4, "borderline": 2, "fact": 2}  # how often a family is drawn; 1 if not named
LEVELS = (1, 2, 3)
_FREE = 0.3  # share of test draws in which held-out things are allowed


def split_of(request: Request) -> str:
    """The set a request belongs to: a function of its words alone."""
    if "held-out" in request.tags:
        return "test"
    root = (request["tale"],) if request.family == "lookup" else request.lines[:2]  # two lines: how a dialogue begins
    value = hashlib.sha256("|".join(root).encode()).digest()[0] / 256
    return "train" if value < 0.6 else "validation" if value < 0.75 else "test"


def draw(choose: Chooser, split: str, weights: dict[str, float], levels: Sequence[int] = LEVELS) -> Request:
    """One request of a set; the same one may come again."""
    family, level = choose.pick(tuple(weights), tuple(weights.values())), choose.pick(levels)
    while True:
        request = FAMILIES[family](Draw(choose, split == "test" and choose.chance(_FREE)), level)
        if split_of(request) == split:
            return request


def requests(
    split: str, number: int, seed: int = 0, families: Sequence[str] | None = None, levels: Sequence[int] = LEVELS
) -> list[Request]:
    """Different requests of one set.

    Args:
        split: one of `SPLITS`.
        number: how many.
        seed: the same seed gives the same requests.
        families: keys of `FAMILIES`; all of them if None.
        levels: difficulties to draw from.

    Raises:
        ValueError: if the set, a family or a level is unknown, or there are not that many different requests.
    """
    unknown = {split} - set(SPLITS) or set(families or ()) - set(FAMILIES) or set(levels) - set(LEVELS)
    if unknown:
        raise ValueError(f"unknown: {sorted(unknown)}; use one of {SPLITS}, of {tuple(FAMILIES)} and of {LEVELS}")
    weights = {f: WEIGHTS.get(f, 1) for f in families or FAMILIES}
    choose, found, repeated = Chooser(seed), {}, 0
    while len(found) < number:
        request = draw(choose, split, weights, levels)
        repeated = repeated + 1 if request.lines in found else 0
        if repeated == 1000:  # so many without a new one: there are no more
            raise ValueError(
                f"only {len(found)} different requests of {tuple(weights)} in {split!r}, not {number}; ask for fewer"
            )
        found.setdefault(request.lines, request)
    return list(found.values())
