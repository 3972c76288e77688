"""What an answer says (chapter 12): facts in the present tense, and tales in core forms.

Does: reads sentences such as "She lives at the mill and has a dog." and shorter ones; reads and checks tales, quickly.
Does not: judge; see `minillama.village.judges`.
Source: invented for this book.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from minillama.village.core import event
from minillama.village.lexicon import FOODS, PEOPLE, PETS, PLACES, TRADES
from minillama.village.stories import Check, check
from minillama.village.world import Event

_NAME = "|".join(PEOPLE)
_WHERE = {where: place for place, (where, _) in PLACES.items()}
_VALUES = {
    "lives": ("p", "|".join(_WHERE)),
    "likes": ("x", "|".join(FOODS)),
    "trade": ("job", "|".join(TRADES)),
    "pet": ("animal", "|".join(PETS)),
}
_VERBS = {"lives": "lives ", "likes": "(?:loves|likes) ", "trade": "is (?:an?|the) ", "pet": "has an? "}
_ARTICLE = {"trade": "an? ", "pet": "an? "}
_CLAUSES = {
    kind: (slot, re.compile(rf"(?:(?P<a>{_NAME}|He|She|he|she) )?{_VERBS[kind]}(?P<v>{values})$"))
    for kind, (slot, values) in _VALUES.items()
}
_FRIEND = re.compile(rf"(?:(?P<a>{_NAME})'s|(?P<pronoun>His|Her|his|her)) best friend is (?P<b>{_NAME})$")
_SHORT = {
    kind: (slot, re.compile(rf"(?:(?P<a>{_NAME}) )?{_ARTICLE.get(kind, '')}(?P<v>{values})$", re.I))
    for kind, (slot, values) in {**_VALUES, "friends": ("b", _NAME)}.items()
}
_SENTENCE = re.compile(r"[^.!?]+[.!?]?\"?")
_AND = re.compile(r",? and (?!the )|, ")


@dataclass(frozen=True)
class Said:
    """What an answer says in the present tense: facts in order, and the sentences that are none."""

    facts: tuple[Event, ...]
    others: tuple[str, ...]


def sentences(text: str) -> list[str]:
    """Split at full stops, question marks and exclamation marks."""
    return [s.strip() for s in _SENTENCE.findall(text) if s.strip()]


def _clause(clause: str, last: str | None, first: bool) -> Event | None:
    """The fact that a clause says; `last` is whom the clause before was about."""
    for kind, (slot, pattern) in _CLAUSES.items():
        match = pattern.match(clause)
        if match:
            a = match["a"] if match["a"] in PEOPLE else last
            fits = a and match["a"] not in ({"He", "he"} if PEOPLE[a].woman else {"She", "she"})
            value = match["v"]
            said = fits and (match["a"] or not first)
            return event(kind, a=a, **{slot: _WHERE.get(value, value)}) if said else None
    match = _FRIEND.match(clause)
    if not match or not (match["a"] or last):
        return None
    if match["pronoun"] and (match["pronoun"].lower() == "her") != PEOPLE[last].woman:
        return None
    return event("friends", a=match["a"] or last, b=match["b"])


def _fragment(clause: str, about: str | None) -> Event | None:
    for kind, (slot, pattern) in _SHORT.items():
        match = pattern.match(clause)
        a = (match["a"] or about) if match else None
        if a:
            value = match["v"][0].lower() + match["v"][1:] if kind != "friends" else match["v"]
            return event(kind, a=a, **{slot: _WHERE.get(value, value)})
    return None


def understand(text: str, about: str | None = None, fragments: bool = False) -> Said:
    """Read facts in the present tense.

    Args:
        text: an answer.
        about: whom the request is about: the meaning of a pronoun at the beginning.
        fragments: read "At the mill." as an answer, too.
    """
    facts, others, last = [], [], about
    for sentence in sentences(text):
        clauses = [c.strip() for c in _AND.split(sentence.rstrip(".!"))]
        found = []
        for clause in clauses:
            said = _clause(clause, last, not found) or (_fragment(clause, about) if fragments else None)
            if said:
                found.append(said)
                last = said["a"]
        facts += found
        if len(found) < len(clauses):
            others.append(sentence)
    return Said(tuple(facts), tuple(others))


@lru_cache(maxsize=8192)
def checked(text: str) -> Check:
    """`minillama.village.stories.check`, remembered."""
    return check(text)
