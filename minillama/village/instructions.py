"""Lasting instructions (chapter 16): who to be, what to love, how to greet, for a whole conversation.

Instructions of the paper's three sorts: a figure to act as, a hobby, a language (here only a greeting in it); and one
more, how to address the reader, which is kept out of some training so that it can be an unseen constraint. Each asks
for a mark that a program can find, so whether an answer obeys is known for certain.

Does: instructions in long and short wording, of one or two attributes; answers that obey; checks whether one does;
    conversations of short questions. Some pairs of attributes are held out: no training text asks for both.
Does not: judge the rest of an answer; that is `minillama.village.judges`' work, on what `without` leaves.
Source: Touvron et al. 2023b, section 3.3 and appendix A.3.5 (hobbies, languages, public figures; half of the
    instructions shortened); the marks are invented for this book.
"""

from dataclasses import dataclass

from minillama.village.draw import Request
from minillama.village.language import Chooser
from minillama.village.requests import draw

VALUES = {
    "figure": tuple("baker miller teacher farmer carpenter gardener shepherd cook tailor sailor hunter king".split()),
    "hobby": tuple("kites books boats hats songs flowers birds lanterns baskets rings balls stones".split()),
    "language": ("French", "German", "Spanish", "Italian"),
    "address": tuple("captain uncle aunt professor judge doctor".split()),
}
KINDS = tuple(VALUES)
_WORDED = {  # long, short
    "figure": ("Always act as the {} from now on.", "Figure: {}."),
    "hobby": ("You love {}. Always say so.", "Hobby: {}."),
    "language": ("Always greet in {}.", "Language: {}."),
    "address": ("Always call me {}.", "Address: {}."),
}
_GREETING = dict(zip(VALUES["language"], ("Bonjour!", "Hallo!", "Hola!", "Ciao!"), strict=True))
_BEFORE = ("language", "address", "figure")  # marks that stand in front, in this order; a hobby's stands behind
SHORT = ("fact", "brief", "list")  # families whose easiest requests take few words


@dataclass(frozen=True)
class Instruction:
    """What a system message asks of all answers.

    Attributes:
        attributes: kinds of `KINDS` and their values, at most one of a kind.
        text: the system message.
    """

    attributes: tuple[tuple[str, str], ...]
    text: str


def instruct(attributes: dict[str, str], short: bool = False) -> Instruction:
    """An instruction in words.

    Args:
        attributes: value by kind, such as {"figure": "miller"}.
        short: as notes ("Figure: miller.") instead of sentences.

    Raises:
        ValueError: for no attribute, an unknown kind, or a value that its kind does not have.
    """
    if not attributes or not set(attributes) <= set(KINDS):
        raise ValueError(f"an instruction needs attributes of the kinds {KINDS}, got {tuple(attributes)}")
    for kind, value in attributes.items():
        if value not in VALUES[kind]:
            raise ValueError(f"{value!r} is no {kind}; use one of {VALUES[kind]}")
    words = [_WORDED[kind][short].format(value) for kind, value in attributes.items()]
    return Instruction(tuple(attributes.items()), " ".join(words))


def held_out(instruction: Instruction) -> bool:
    """Whether an instruction asks for two attributes that training never asks for together: a quarter of the pairs."""
    places = [VALUES[kind].index(value) for kind, value in instruction.attributes]
    return len(places) > 1 and sum(places) % 4 == 0


def draw_instruction(choose: Chooser, kinds: tuple[str, ...] = KINDS, unseen: bool = False) -> Instruction:
    """One or two attributes at random, shortened half of the time.

    Args:
        choose: source of the choices.
        kinds: what may be drawn.
        unseen: draw a pair that is held out, which otherwise is never drawn; needs two kinds.

    Raises:
        ValueError: if a pair is asked for and there are not two kinds.
    """
    if unseen and len(kinds) < 2:
        raise ValueError(f"a pair that is held out needs at least two kinds, got {kinds}")
    while True:
        left, number = list(kinds), min(len(kinds), choose.number(1, 2))
        picked = [left.pop(choose.number(0, len(left) - 1)) for _ in range(number)]
        found = instruct({kind: choose.pick(VALUES[kind]) for kind in picked}, choose.chance(0.5))
        if held_out(found) == unseen:
            return found


def mark(kind: str, value: str) -> str:
    """What an answer that obeys has in front, or behind if it is a hobby."""
    if kind == "language":
        return _GREETING[value]
    return {"figure": "I, the {}, say:", "hobby": "I love {}.", "address": "Dear {},"}[kind].format(value)


def obey(instruction: Instruction, answer: str) -> str:
    """An answer with all the marks."""
    asked = dict(instruction.attributes)
    before = [mark(kind, asked[kind]) for kind in _BEFORE if kind in asked]
    return " ".join([*before, answer, *([mark("hobby", asked["hobby"])] if "hobby" in asked else [])])


def kept(instruction: Instruction, answer: str) -> dict[str, bool]:
    """Which attributes an answer keeps, by kind: its mark must stand where it belongs, not anywhere."""
    answer, found = answer.strip(), {kind: False for kind, _ in instruction.attributes}
    for kind in _BEFORE:
        if kind in found:
            found[kind] = answer.startswith(own := mark(kind, dict(instruction.attributes)[kind]) + " ")
            answer = answer.removeprefix(own)
    if "hobby" in found:
        found["hobby"] = answer.endswith(" " + mark("hobby", dict(instruction.attributes)["hobby"]))
    return found


def obeys(instruction: Instruction, answer: str) -> bool:
    """Whether an answer keeps every attribute."""
    return all(kept(instruction, answer).values())


def marked(answer: str) -> bool:
    """Whether an answer has any mark at all where one could stand, asked for or not."""
    answer = answer.strip()
    before = [mark(kind, value) + " " for kind in _BEFORE for value in VALUES[kind]]
    return answer.startswith(tuple(before)) or answer.endswith(tuple(mark("hobby", h) for h in VALUES["hobby"]))


def without(instruction: Instruction, answer: str) -> str:
    """The answer without the marks that stand where they belong: what the village's judges are to read."""
    answer = answer.strip()
    for kind in _BEFORE:
        for asked, value in instruction.attributes:
            answer = answer.removeprefix(mark(kind, value) + " ") if asked == kind else answer
    for kind, value in instruction.attributes:
        answer = answer.removesuffix(" " + mark(kind, value)) if kind == "hobby" else answer
    return answer


def conversation(choose: Chooser, split: str, turns: int) -> tuple[Request, ...]:
    """Different short questions of one set, in a row.

    Args:
        choose: source of the choices.
        split: one of `minillama.village.requests.SPLITS`.
        turns: how many.
    """
    found: dict[str, Request] = {}
    while len(found) < turns:
        request = draw(choose, split, dict.fromkeys(SHORT, 1.0), (1,))
        if "held-out" not in request.tags:
            found.setdefault(request.prompt, request)
    return tuple(found.values())
