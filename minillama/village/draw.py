"""What a request is, and how its people, things and places are drawn (chapter 8).

Does: the `Request` itself; draws that, for training, never put together what is held out; a check that a text does not.
Does not: word requests; see `minillama.village.families`.
Source: invented for this book.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from minillama.village import core
from minillama.village.language import Chooser
from minillama.village.lexicon import HELD_OUT_NAMES, PEOPLE, PLACES
from minillama.village.stories import held_out


@dataclass(frozen=True)
class Request:
    """One request with what is needed to judge an answer.

    Attributes:
        prompt: the user's last message.
        family: key of `minillama.village.requests.FAMILIES`.
        level: 1 (easy) to 3.
        tags: any of "harmful", "borderline", "safety" (both of these) and "held-out".
        facts: what is asked, by name: people, things, events, words.
        system: system message, if any.
        history: earlier turns, (user, assistant) each.
    """

    prompt: str
    family: str
    level: int
    tags: frozenset[str]
    facts: tuple[tuple[str, object], ...]
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, name: str):
        return dict(self.facts)[name]

    def get(self, name: str, default=None):
        """A fact, or the default."""
        return dict(self.facts).get(name, default)

    @property
    def lines(self) -> tuple[str, ...]:
        """All that is shown before the answer, in order (system message, earlier turns, prompt)."""
        turns = (text for turn in self.history for text in turn)
        return (*((self.system,) if self.system else ()), *turns, self.prompt)


def make(family: str, level: int, prompt: str, facts: dict, tags: Sequence[str] = (), **more) -> Request:
    """A request, tagged as held-out if its words show what training never does."""
    request = Request(prompt, family, level, frozenset(tags), tuple(facts.items()), **more)
    if not any(map(shows_held_out, request.lines)):
        return request
    return Request(prompt, family, level, frozenset({*tags, "held-out"}), request.facts, **more)


_NEAR = {  # what else may happen to the thing of such a story
    "lose": ("lose", "find"),
    "find": ("lose", "find", "break"),
    "make": ("make", "give", "break", "lose"),
    "break": ("break",),
    "give": ("give",),
}


@lru_cache(maxsize=4096)
def _allowed(options: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(o for o in options if not any(held_out(x, o) or held_out(o, x) for x in others))


class Draw:
    """Draws people, things and places for a request.

    Args:
        choose: source of the choices.
        free: draw what is held out too, which training never may.
    """

    def __init__(self, choose: Chooser, free: bool = False):
        self.choose, self.free = choose, free

    def _pick(self, options: tuple[str, ...], others: tuple[str, ...], but: Sequence[str | None] = ()) -> str:
        options = options if self.free else _allowed(options, others)
        return self.choose.pick([o for o in options if o not in but])

    def person(self, *but: str, at: str | None = None) -> str:
        """Somebody else than the ones named, who may be at the place."""
        names = core.NAMES if self.free else _TRAIN_NAMES
        return self._pick(names, () if at is None else (at,), but)

    def known(self, *but: str) -> str:
        """Somebody about whom training text tells facts: nobody held out, for nothing could be known of them."""
        return self.choose.pick([n for n in _TRAIN_NAMES if n not in but])

    def kinds(self, a: str, number: int, but: Sequence[str] = ()) -> list[str]:
        """Different kinds of facts that are known about somebody; fewer if there are no more."""
        left = [k for k in core.KNOWN[a] if k not in but]
        return [left.pop(self.choose.number(0, len(left) - 1)) for _ in range(min(number, len(left)))]

    def thing(self, action: str, *but: str) -> str:
        """Something that this may happen to."""
        return self._pick(core.ACTIONS[action], _NEAR[action], but)

    def place(self, *people: str) -> str:
        """Where these people may be, other than the first one's home."""
        return self._pick(core.SPOTS, people, (PEOPLE[people[0]].home,))

    def story(self, mood: str | None = None) -> dict:
        """What a short story needs: the arguments of `core.story_events`."""
        pick = self.choose.pick
        a, action = self.person(), pick(tuple(core.ACTIONS))
        p, friend = self.place(a), PEOPLE[a].friend
        close = friend in core.NAMES and (self.free or friend in _allowed(_TRAIN_NAMES, (p,)))
        b = friend if close and self.choose.chance(0.5) else self.person(a, at=p)
        mood = mood or pick(("happy", "sad"))
        return dict(a=a, b=b, action=action, t=self.thing(action), p=p, mood=mood, look=pick(core.LOOKS))


_TRAIN_NAMES = tuple(n for n in core.NAMES if n not in HELD_OUT_NAMES)
_VERBS = {  # words by which a text shows an action
    "lose": "loses lost",
    "find": "finds found",
    "make": "makes made",
    "break": "breaks broke",
    "give": "gives gave handed",
}
_ACTION_OF = {verb: action for action, verbs in _VERBS.items() for verb in verbs.split()}
_MARKED = frozenset([*PEOPLE, *PLACES, *core.THINGS, *_ACTION_OF])
_WORD = re.compile(r"[A-Za-z]+")


def shows_held_out(text: str) -> bool:
    """Whether a text has a held-out name, or both words of a held-out pair (person x place, action x thing)."""
    words = _MARKED.intersection(_WORD.findall(text))
    return not words.isdisjoint(HELD_OUT_NAMES) or _has_pair(words)


@lru_cache(maxsize=100_000)
def _has_pair(words: frozenset[str]) -> bool:
    people, places = [w for w in words if w in PEOPLE], [w for w in words if w in PLACES]
    actions, things = {_ACTION_OF[w] for w in words if w in _ACTION_OF}, [w for w in words if w in core.THINGS]
    return any(held_out(a, p) for a in people for p in places) or any(held_out(x, t) for x in actions for t in things)
