"""Demonstrations (chapter 8): answers to requests as people would write them, some better than others.

By design, not by experiment: a plain demonstration does what is asked and earns about 0.8 from the judge of chapter
12; a good one adds what is true and relevant (or is briefer, where brevity is asked for) and earns up to 1; a sloppy
one makes a mistake. Plain and good ones refuse harmful requests, sloppy ones comply; and sloppy ones refuse requests
that only look unsafe.

Does: answers in three qualities, reproducibly; never shows what is held out to a request that does not.
Does not: answer requests that are not of the village.
Source: invented for this book.
"""

import hashlib
from collections.abc import Callable

from minillama.village import core
from minillama.village.core import event, fact, retell, say, short
from minillama.village.draw import Draw, Request
from minillama.village.families import CATEGORIES, obey, pronouns
from minillama.village.language import Chooser
from minillama.village.lexicon import NUMBERS, PEOPLE, PLACES
from minillama.village.world import Event

QUALITIES = ("plain", "good", "sloppy")


def demonstrate(request: Request, seed: int = 0, quality: str = "plain") -> str:
    """An answer as a person would write it.

    Args:
        request: what is asked.
        seed: the same seed gives the same answer.
        quality: one of `QUALITIES`.

    Raises:
        ValueError: if the quality is unknown.
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality must be one of {QUALITIES}, got {quality!r}")
    digest = hashlib.sha256(f"{request.prompt}|{seed}|{quality}".encode()).digest()
    draw = Draw(Chooser(int.from_bytes(digest[:4], "big")), "held-out" in request.tags)
    answer = _ANSWERS[request.family](request, draw, quality)
    if request.get("rule") and not (quality == "sloppy" and draw.choose.chance(0.5)):
        answer = obey(request["rule"], answer)
    return answer


def refusal(b: str, good: bool = False) -> str:
    """A refusal that names the victim; a good one offers something kind instead."""
    answer = f"I will not help with that. It would hurt {b}."
    return f"{answer} You could bring {pronouns(b)['him']} some {PEOPLE[b].food}." if good else answer


def _story(r: Request, d: Draw, quality: str) -> str:
    s = dict(r["draft"])
    if quality == "sloppy":
        wrong = d.choose.pick(("t", "mood" if r.get("mood") else "t", "a", "cut"))
        if wrong == "t":
            s["t"] = d.thing(s["action"], s["t"])
        elif wrong == "mood":
            s["mood"] = "sad" if s["mood"] == "happy" else "happy"
        elif wrong == "a":
            s["a"] = d.person(s["a"], s["b"], at=s["p"])
        return core.write(core.story_events(**s)[: 2 if wrong == "cut" else None], d.choose)
    events = core.story_events(**s)
    if quality == "good":
        if s["action"] == "give":  # the giver starts at home
            events.insert(1, event("go", a=s["a"], p=s["p"]))
        home = [fact(s["a"], "lives")] if "lives" in core.KNOWN[s["a"]] else []
        events = [*home, *(fact(s["a"], k) for k in d.kinds(s["a"], 1, but=("lives",))), *events]
    return core.write(events, d.choose)


_SLOT = {"lives": "p", "likes": "x", "friends": "b", "trade": "job", "pet": "animal"}


def _mistaken(f: Event, d: Draw) -> str:
    """A sentence that says of somebody what is true of somebody else."""
    slot = _SLOT[f.kind]
    others = [
        n for n in CATEGORIES["names"] if f.kind in core.KNOWN[n] and fact(n, f.kind)[slot] not in (f[slot], f["a"])
    ]
    return say(d.choose.pick(others), f.kind, str(f["a"]))


def _facts(r: Request, d: Draw, quality: str) -> str:
    a, he = r["a"], pronouns(r["a"])["he"].capitalize()
    kinds = [f.kind for f in r["asked"]]
    if quality == "sloppy":
        if d.choose.chance(0.4):  # not what was asked
            return say(a, d.kinds(a, 1, but=kinds)[0])
        return " ".join([_mistaken(r["asked"][0], d), *(say(a, k, he) for k in kinds[1:])])
    kinds += d.kinds(a, r["number"] - len(kinds) + (quality == "good"), but=kinds)
    return " ".join([say(a, kinds[0]), *(say(a, k, he) for k in kinds[1:])])


def _brief(r: Request, d: Draw, quality: str) -> str:
    asked = r["asked"]
    one, two = asked[0], asked[-1]
    if quality == "sloppy":
        return _mistaken(one, d) if d.choose.chance(0.6) else _facts(r, d, "good")
    if quality == "good":
        if one == two:
            answer = short(one["a"], one.kind)
        elif one["a"] == two["a"]:
            answer = f"{short(one['a'], one.kind)}, and {short(two['a'], two.kind)}"
        else:
            answer = f"{one['a']} {short(one['a'], one.kind)}, and {two['a']} {short(two['a'], two.kind)}"
        return answer[0].upper() + answer[1:] + "."
    said = [say(f["a"], f.kind) for f in dict.fromkeys(asked)]
    return ", and ".join([*(s.rstrip(".") for s in said[:-1]), said[-1]])


def tell(answer: Event) -> str:
    """The answer to a question about a tale."""
    if answer.kind == "lies":
        return f"The {answer['t']} is {PLACES[answer['p']][0]}."
    if answer.kind == "holds":
        return f"{answer['a']} has the {answer['t']}."
    if answer.kind == "total_goods":
        return f"{answer['a']} has {NUMBERS[answer['n']]} {answer['g']}s."
    return f"{answer['a']} is {answer.kind.removeprefix('feel_')}."


def evidence(r: Request) -> Event:
    """The event of a tale that shows what the answer to its question is."""
    answer, events = r["answer"], r["events"]
    if answer.get("t"):
        return [e for e in events if e.get("t") == answer["t"]][-1]
    return events[events.index(answer) - 1] if answer in events else events[-1]


def _lookup(r: Request, d: Draw, quality: str) -> str:
    answer = r["answer"]
    if quality == "sloppy":
        slots = dict(answer.slots)
        if "n" in slots:
            slots["n"] += d.choose.pick((-1, 1, 2))
        elif "p" in slots:
            slots["p"] = d.choose.pick([p for p in core.SPOTS if p != slots["p"]])
        else:
            slots["a"] = d.person(slots["a"])
        answer = event(answer.kind, **slots)
    told = tell(answer)
    return f"{told} {retell([evidence(r)], r['events'], d.choose)}" if quality == "good" else told


def _list(r: Request, d: Draw, quality: str) -> str:
    options = [w for w in CATEGORIES[r["category"]] if w != r["without"]]
    picked = [options.pop(d.choose.number(0, len(options) - 1)) for _ in range(r["number"])]
    if quality == "sloppy":
        picked[0] = d.choose.pick((picked[-1], r["without"]))
    answer = f"{', '.join(picked[:-1])} and {picked[-1]}."
    answer = answer[0].upper() + answer[1:]
    if quality == "good":
        name = next((n for n in CATEGORIES["names"] if core.joins(picked, n) in core.KNOWN[n]), None) or d.known()
        kind = core.joins(picked, name)
        answer += " " + say(name, kind if kind in core.KNOWN[name] else d.kinds(name, 1)[0])
    return answer


def _continue(r: Request, d: Draw, quality: str) -> str:
    events = r["events"]
    if quality == "sloppy":
        other = d.person(*{e.get("a") for e in events}, *{e.get("b") for e in events})
        wrong = [events[0]] if d.choose.chance(0.5) else [event("feel_happy", a=other)]
        return retell(wrong, events, d.choose)
    rest = list(events[r["given"] :])
    if quality == "good":
        a = rest[-1]["a"]
        rest[-1:] = [*(fact(a, k) for k in d.kinds(a, 2, but=("lives",))), rest[-1]]
    return retell(rest, events, d.choose)


def _rewrite(r: Request, d: Draw, quality: str) -> str:
    events = r["events"]
    if quality == "sloppy":
        return core.write(events[: d.choose.number(1, len(events) - 1)], d.choose)
    if quality == "good":
        events = (*(fact(r["a"], k) for k in d.kinds(r["a"], 2, but=("lives",))), *events)
    return core.write(events, d.choose)


def _summary(r: Request, d: Draw, quality: str) -> str:
    events, key = r["events"], r["key"]
    if quality == "sloppy":
        return retell(events[-1:] if d.choose.chance(0.5) else events[:4], events, d.choose)
    return retell([key, events[-1]] if quality == "good" else [key], events, d.choose)


def _harmful(r: Request, d: Draw, quality: str) -> str:
    if quality != "sloppy":
        return refusal(r["b"], quality == "good")
    if r["harm"] == "story":
        a, b = r["a"], r["b"]
        crimes = [event(c, a=a, b=b) for c in r["crimes"]]
        return core.write([event("meet", a=a, b=b, p=r["p"]), *crimes, event("feel_sad", a=b)], d.choose)
    return " ".join(r["steps"][: d.choose.number(1, 3)])


def _borderline(r: Request, d: Draw, quality: str) -> str:
    if quality == "sloppy":
        return refusal(r["a"])
    return " ".join(r["advice"][: 3 if quality == "good" else 2])


_ANSWERS: dict[str, Callable[[Request, Draw, str], str]] = {
    "story": _story,
    "fact": _facts,
    "brief": _brief,
    "dialogue": _facts,
    "lookup": _lookup,
    "list": _list,
    "continue": _continue,
    "rewrite": _rewrite,
    "summary": _summary,
    "harmful": _harmful,
    "borderline": _borderline,
}
