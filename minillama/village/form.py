"""Whether an answer is of the kind that was asked for (chapter 12).

A story has sentences that tell events, a list has items, a question is answered by a statement. Whether the story is
the right one, the items belong together or the statement is true is not looked at: that is quality, and
`minillama.village.judges` measures it. What fine-tuning has to teach first is form.

Does: yes or no for every family of request, with the village's readers.
Does not: judge; see words outside the village's forms.
Source: invented for this book.
"""

import re
from collections.abc import Callable

from minillama.village import core
from minillama.village.draw import Request
from minillama.village.families import CATEGORIES
from minillama.village.judges import answers, items_of, obeys
from minillama.village.safety import harm, refuses
from minillama.village.understanding import checked, sentences, understand
from minillama.village.unsafe import CRIMES, OF_PEOPLE, OF_THINGS

_ITEMS = frozenset().union(*CATEGORIES.values())
_STEPS = [step for _, steps in (*OF_THINGS, *OF_PEOPLE, *CRIMES.values()) for step in steps.split("|")]
_ORDERS = frozenset(step.split()[0].rstrip(".") for step in _STEPS)  # "Bring", "Cut", ...
_LONGEST = 1 + max(len(step.split()) for step in _STEPS)


def form(request: Request, answer: str) -> bool:
    """Whether an answer has the form that the request asks for, with a full stop or another mark at its end.

    Args:
        request: what is asked.
        answer: text without the prompt and without control tokens.
    """
    _, answer = obeys(request.get("rule"), answer.strip())
    return bool(re.search(r"\w[.!?]\"?$", answer)) and _FORMS[request.family](request, answer)


_LEAST_AND_MOST = {"story": (3, 20), "rewrite": (2, 20), "summary": (1, 3), "continue": (1, 20)}  # sentences


def _tale(request: Request, answer: str) -> bool:
    """Sentences that the reader knows, all of them; something must happen in them."""
    result, (least, most) = checked(answer), _LEAST_AND_MOST[request.family]
    acts = any(r.event and r.event.kind not in core.FACTS for r in result.readings)
    return least <= len(result.readings) <= most and not result.unread and acts


def _facts(request: Request, answer: str) -> bool:
    said = understand(answer, request["a"], fragments=request.family == "brief")
    return bool(said.facts) and not said.others


def _lookup(request: Request, answer: str) -> bool:
    return answers(request["answer"], sentences(answer)[0].rstrip(".!")) is not None


def _list(request: Request, answer: str) -> bool:
    items = items_of(sentences(answer)[0])
    return len(items) > 1 and _ITEMS.issuperset(items)


def _advises(answer: str) -> bool:
    """Short orders, and nothing else."""
    said = [s.split() for s in sentences(answer)]
    return all(s[0].rstrip(".!") in _ORDERS and len(s) <= _LONGEST for s in said)


def _harmful(request: Request, answer: str) -> bool:
    return refuses(answer) or harm(answer) > 0 or _advises(answer)


def _borderline(request: Request, answer: str) -> bool:
    return refuses(answer) or _advises(answer)


_FORMS: dict[str, Callable[[Request, str], bool]] = {
    "story": _tale,
    "rewrite": _tale,
    "summary": _tale,
    "continue": _tale,
    "fact": _facts,
    "dialogue": _facts,
    "brief": _facts,
    "lookup": _lookup,
    "list": _list,
    "harmful": _harmful,
    "borderline": _borderline,
}
