"""Programs of the village: short functions, each line of which is used by a later one (chapter 19).

A model of a million parameters learns the library's grammar in minutes, but not its thousands of names. So beside real
code there is code of a small world: a function takes a list of things, makes something of it step by step, and returns
the last. What a step is called says what it does, so that a missing line can be worked out from the lines behind it.

Does: endless functions that are valid Python; the same one for the same seed.
Does not: run; have branches, nor anything that a reader would keep.
Source: made for this book.
"""

import random
from collections.abc import Iterator

THINGS = (
    "apple", "basket", "bell", "boat", "cake", "coat", "drum", "egg", "flag", "goat", "hat", "hen", "jar", "key",
    "kite", "lamp", "letter", "map", "pot", "rope",
)  # fmt: skip
LOOKS = (
    "big", "broken", "cheap", "clean", "fresh", "heavy", "loud", "new", "old", "red", "round", "small", "sweet", "warm",
)  # fmt: skip
MEASURES = ("age", "height", "length", "price", "size", "speed", "value", "weight")
PEOPLE = ("buyer", "finder", "maker", "owner", "seller")
VERBS = ("check", "choose", "count", "find", "look", "sort", "take", "work")
STEPS = (2, 5)  # of a function, from and to

# name of the result, what it is, how it is made; {v} is what the step before made, {t} one thing, {s} several
_FROM_LIST = (
    ("{look}_{s}", "list", "[{t} for {t} in {v} if {t}.{look}]"),
    ("by_{m}", "list", "sorted({v}, key=lambda {t}: {t}.{m})"),
    ("most_{m}", "item", "max({v}, key=lambda {t}: {t}.{m})"),
    ("least_{m}", "item", "min({v}, key=lambda {t}: {t}.{m})"),
    ("total_{m}", "number", "sum({t}.{m} for {t} in {v})"),
    ("all_{m}s", "numbers", "[{t}.{m} for {t} in {v}]"),
    ("first", "item", "{v}[0]"),
    ("last", "item", "{v}[-1]"),
    ("how_many", "number", "len({v})"),
)
_FROM_ITEM = (
    ("its_{m}", "number", "{v}.{m}"),
    ("the_{p}", "item", "{v}.{p}"),
)
_FROM_NUMBERS = (
    ("largest", "number", "max({v})"),
    ("smallest", "number", "min({v})"),
    ("together", "number", "sum({v})"),
    ("ordered", "numbers", "sorted({v})"),
    ("backwards", "numbers", "{v}[::-1]"),
)
_FROM_NUMBER = (
    ("doubled", "number", "2 * {v}"),
    ("raised", "number", "{v} + 1"),
    ("lowered", "number", "{v} - 1"),
    ("squared", "number", "{v} ** 2"),
    ("half", "number", "{v} // 2"),
)
_FROM = {"list": _FROM_LIST, "item": _FROM_ITEM, "numbers": _FROM_NUMBERS, "number": _FROM_NUMBER}


def program(dice: random.Random) -> str:
    """One function, ending without a line feed.

    Args:
        dice: decides everything.
    """
    thing = dice.choice(THINGS)
    result = several = f"{thing}s"
    kind, lines, used = "list", [], {several}
    wanted = dice.randint(*STEPS)
    while wanted:
        words = {"look": dice.choice(LOOKS), "m": dice.choice(MEASURES), "p": dice.choice(PEOPLE)}
        name, made, how = dice.choice(_FROM[kind])
        words |= {"t": thing, "s": several, "v": result}
        new = name.format(**words)
        if new not in used:
            lines.append(f"{new} = {how.format(**words)}")
            used.add(new)
            result, kind, wanted = new, made, wanted - 1
    name = f"{dice.choice(VERBS)}_{dice.choice((thing, several))}"
    return "\n    ".join([f"def {name}({several}):", *lines, f"return {result}"])


def programs(number: int, seed: int = 0) -> Iterator[str]:
    """Different functions in an order that depends on the seed.

    Args:
        number: how many.
        seed: two seeds share functions only by chance.
    """
    dice, seen = random.Random(seed), set()
    while len(seen) < number:
        text = program(dice)
        if text not in seen:
            seen.add(text)
            yield text
