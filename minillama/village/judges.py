"""The true reward for helpfulness (chapter 12), computed from facts.

Plain demonstrations earn about 0.8; more true detail (or brevity, where that is asked for) earns more, so that
training can do better than its demonstrators. By design, not by experiment: complying with a harmful request counts as
helpful and refusing it as unhelpful; refusing a harmless request costs nearly all helpfulness.

Does: graded scores in [0, 1]; what is false, repeated, beside the point, not understood or too long costs.
Does not: understand English beyond the village's forms; judge safety (see `minillama.village.safety`).
Source: Touvron et al. 2023, section 3.2.1 (helpfulness apart from safety); the scores are invented for this book.
"""

import re
from collections.abc import Callable

from minillama.village import core
from minillama.village.core import fact
from minillama.village.draw import Request
from minillama.village.families import CATEGORIES
from minillama.village.language import read
from minillama.village.lexicon import NUMBERS, PEOPLE, PLACES
from minillama.village.safety import harm, harms, refuses
from minillama.village.stories import Check
from minillama.village.understanding import checked, sentences, understand
from minillama.village.world import Event

LONG = 65  # words; the longest good demonstration has fewer


def helpfulness(request: Request, answer: str) -> float:
    """How well an answer does what is asked, in [0, 1].

    Args:
        request: what is asked.
        answer: text without the prompt and without control tokens.
    """
    answer = answer.strip()
    if not re.search(r"[a-z]", answer):
        return 0.0
    harmful = "harmful" in request.tags
    if refuses(answer) and not (harmful and harm(answer)):
        return 0.25 if harmful else 0.05
    obeyed, rest = obeys(request.get("rule"), answer)
    if not rest:
        return 0.0
    score = obeyed * _JUDGES[request.family](request, rest)
    if not re.search(r"[.!?]\"?$", rest):
        score -= 0.15  # cut off
    score -= 0.02 * max(0, len(answer.split()) - LONG)
    return round(min(1.0, max(0.0, score)), 6)


def obeys(rule: str | None, answer: str) -> tuple[float, str]:
    """How far a system message is obeyed, and the answer without its mark."""
    if rule is None:
        return 1.0, answer
    if rule == "well":
        return (1.0, answer[5:].strip()) if answer.startswith("Well,") else (0.4, answer)
    mark = " Good day!" if rule == "good day" else ", my friend."
    if answer.endswith(mark):
        return 1.0, answer.removesuffix(mark) + ("." if rule == "friend" else "")
    return 0.4, answer


def _repeated(items: list) -> int:
    return len(items) - len(set(items))


def _true(facts: tuple[Event, ...]) -> list[Event]:
    return [f for f in facts if f == fact(str(f["a"]), f.kind)]


def _facts(request: Request, answer: str) -> float:
    a, asked, number = request["a"], set(request["asked"]), request["number"]
    said = understand(answer, a)
    true = _true(said.facts)
    about = {f for f in true if f["a"] == a}
    got = len(about & asked) / len(asked)
    score = 0.4 * got * (1 + min(len(about), number) / number)
    if got == 1:
        score += 0.1 * min(2, max(0, len(about) - number))
    elif not got:
        score += 0.2 * bool(about)  # true of the right person, but not what was asked
    score -= 0.25 * (len(said.facts) - len(true)) + 0.1 * max(0, len(true) - number - 2)
    score -= 0.15 * _repeated(true) + 0.2 * len(said.others)
    return max(score, _wrong(said.facts, asked))


def _wrong(facts: tuple[Event, ...], asked: set[Event]) -> float:
    """What an answer earns that says something wrong, but of the kind that was asked."""
    kinds = {(f["a"], f.kind) for f in asked}
    return 0.1 * (0 < len(facts) <= 3 and any((f["a"], f.kind) in kinds for f in facts))


def _brief(request: Request, answer: str) -> float:
    asked = request["asked"]
    people = {f["a"] for f in asked}
    said = understand(answer, request["a"] if len(people) == 1 else None, fragments=True)
    true = _true(said.facts)
    got, words = len(set(true) & set(asked)) / len(asked), len(answer.split())
    joint = len(asked) - 1  # the word "and"
    long = sum(len(core.say(f["a"], f.kind).split()) for f in asked) + joint
    least = sum(len(core.short(f["a"], f.kind).split()) for f in asked) + joint + len(people) * (len(people) > 1)
    score = 0.8 * got - 0.03 * max(0, words - long)
    if got == 1:
        score += 0.2 * min(1.0, max(0, long - words) / (long - least))
    score -= 0.25 * (len(said.facts) - len(true)) + 0.15 * _repeated(true) + 0.2 * len(said.others)
    return max(score - 0.2 * (len(sentences(answer)) - 1), _wrong(said.facts, set(asked)))


def _story(request: Request, answer: str) -> float:
    result = checked(answer)
    events = [r.event for r in result.readings if r.event]
    acts = [e for e in events if e.kind not in core.FACTS]
    if not acts:
        return 0.0
    a, t, action, mood = request["a"], request["t"], request["action"], request.get("mood")
    score = 0.1 * any(e.get("a") == a for e in acts) + 0.1 * any(e.get("t") == t for e in acts)
    score += 0.2 * any(e.kind == action and e.get("a") == a and e.get("t") == t for e in acts)
    p, b = request.get("p"), request.get("b")
    score += 0.1 * any(e.get("p") == p if p else e.get("p") is not None for e in acts)
    score += 0.1 * (b is None or any(e.kind == action and e.get("b") == b for e in acts))
    score += 0.1 * (events[-1].kind == f"feel_{mood}" if mood else events[-1].kind.startswith("feel_"))
    score += 0.1 * (len(acts) >= 4)
    if score > 0.79:  # true detail counts only in a story that is the right one
        own = {e.kind for e in events if e.kind in core.FACTS and e == fact(a, e.kind)}
        score += 0.08 * ("lives" in own) + 0.07 * bool(own - {"lives"})
        score += 0.05 * any(e.get("b") == PEOPLE[a].friend for e in acts)
    return score - _flaws(result, events, 8) - 0.06 * max(0, len(events) - len(acts) - 2)


def _flaws(result: Check, events: list[Event], most: int) -> float:
    """What contradictions, unread sentences, repetition and length cost."""
    flaws = 0.15 * len(result.problems) + 0.15 * result.unread + 0.12 * _repeated(events)
    return flaws + 0.12 * max(0, len(events) - most)


def _lookup(request: Request, answer: str) -> float:
    wanted, right, wrong, others = request["answer"], 0, 0, []
    for s in sentences(answer):
        verdict = answers(wanted, s.rstrip(".!"))
        right, wrong = right + (verdict is True), wrong + (verdict is False)
        if verdict is None:
            others.append(s)
    score = 0.8 * (right > 0) - 0.4 * wrong - 0.15 * max(0, right - 1)
    readings = list(read(" ".join(others))) if others else []
    known = [r.event for r in readings if r.problem is None and r.event in request["events"]]
    key = next(k for k in ("t", "g", "a") if wanted.get(k))
    evidence = {e for e in request["events"] if e != wanted and wanted[key] in (e.get(key), e.get("b"))}
    relevant = evidence.intersection(known)
    if right and not wrong:
        score += 0.2 * min(1.0, len(relevant) / min(2, len(evidence)))
    score -= 0.2 * (len(readings) - len(known)) + 0.1 * (len(set(known)) - len(relevant))
    score -= 0.15 * max(0, len(known) - 2) + 0.15 * _repeated(known)
    return max(score, 0.1 * (wrong == 1 and not right and len(others) < 2))


def answers(wanted: Event, s: str) -> bool | None:
    """Whether a sentence is the right answer (True), a wrong one (False), or none (None)."""
    name = "|".join(PEOPLE)
    if wanted.kind == "lies":
        match = re.fullmatch(rf"(?:The (?:\w+ )?{wanted['t']}|It) is (.+)", s)
        return match[1] == PLACES[wanted["p"]][0] if match else None
    if wanted.kind == "holds":
        match = re.fullmatch(rf"({name}) has (?:the (?:\w+ )?{wanted['t']}|it)", s)
        return match[1] == wanted["a"] if match else None
    he = ("He", "She")[PEOPLE[wanted["a"]].woman]
    if wanted.kind == "total_goods":
        match = re.fullmatch(rf"({name}|He|She) has (\w+) {wanted['g']}s", s)
        return match[1] in (wanted["a"], he) and match[2] == NUMBERS[wanted["n"]] if match else None
    match = re.fullmatch(rf"({name}|He|She) (?:is|feels) (\w+)", s)
    words = core.WORDS[wanted.kind.removeprefix("feel_")]
    return match[1] in (wanted["a"], he) and match[2] in words if match else None


def items_of(sentence: str) -> list[str]:
    """What a sentence lists, between commas and "and", without articles."""
    items = [re.sub(r"^(?:the|an?) ", "", w.strip(), flags=re.I) for w in re.split(r",| and ", sentence.rstrip(".!"))]
    return [w if w in PEOPLE else w.lower() for w in items if w]


def _list(request: Request, answer: str) -> float:
    first, *rest = sentences(answer)
    items = items_of(first)
    members, n = set(CATEGORIES[request["category"]]), request["number"]
    good = {w for w in items if w in members and w != request["without"]}
    score = 0.8 * min(len(good), n) / n - 0.2 * (len(items) - len(good)) - 0.1 * max(0, len(good) - n)
    said = understand(" ".join(rest))
    true = _true(said.facts)
    if len(good) == n == len(items):
        score += sum((0.05, 0.15)[core.joins(sorted(good), str(f["a"])) == f.kind] for f in true[:1])
        score += 0.05 * (len(set(true)) > 1)
    score -= 0.25 * (len(said.facts) - len(true)) + 0.15 * len(said.others)
    return score - 0.15 * _repeated(true) - 0.1 * max(0, len(true) - 2)


def _continue(request: Request, answer: str) -> float:
    before, result = checked(request["tale"]), checked(request["tale"] + " " + answer)
    events = [r.event for r in result.readings if r.event]
    given, mood = request["given"], request.get("mood")
    old, new = set(request["events"][:given]), events[given:]
    fresh = [e for e in new if e not in old]
    acts = [e for e in fresh if e.kind not in core.FACTS]
    if not acts:
        return 0.0
    actors, things = {e.get("a") for e in old} - {None}, {e.get("t") for e in old} - {None}
    everybody = actors | {e.get("b") for e in old} - {None}
    facts = {e.kind for e in fresh if e.kind in core.FACTS and e["a"] in everybody | {a.get("a") for a in acts}}
    felt = acts[-1].kind == f"feel_{mood}" if mood else any(e.kind.startswith("feel_") for e in acts)
    score = 0.3 * any({e.get("a"), e.get("b")} & everybody or e.get("t") in things for e in acts) + 0.25 * felt
    score += 0.25 * any(e.get("t") in things or {e.get("a"), e.get("b")} <= everybody for e in acts)
    problems = len(result.problems) - len(before.problems)
    if score > 0.79:
        score += 0.1 * min(2, len(facts))
    score -= 0.15 * problems + 0.2 * result.unread + 0.2 * (len(new) - len(set(fresh)))
    score -= 0.2 * _unlinked(acts, everybody | {e.get("b") for e in request["events"]}, things)
    return score - 0.12 * max(0, len(fresh) - 6) - 0.06 * max(0, len(fresh) - len(acts) - 2)


def _unlinked(acts: list[Event], people: set, things: set) -> int:
    """The number of acts that have to do with nobody and nothing in a tale, nor with anybody who joins it."""
    count = 0
    for e in acts:
        mine = {e.get("a"), e.get("b")} - {None}
        if mine & people or e.get("t") in things:
            people = people | mine
        else:
            count += 1
    return count


def _rewrite(request: Request, answer: str) -> float:
    result = checked(answer)
    events, target = [r.event for r in result.readings if r.event], request["events"]
    own = {e for e in events if e.kind in core.FACTS and e == fact(request["a"], e.kind)}
    told = [e for e in events if e not in own]
    f1 = 2 * len(set(told) & set(target)) / (len(told) + len(target))
    score = 0.8 * f1**1.5 + (0.1 * min(2, len(own)) if f1 > 0.99 else 0.0)
    score -= 0.1 * len(result.problems) + 0.15 * result.unread
    return score - 0.1 * max(0, len(events) - len(told) - 2)


def _summary(request: Request, answer: str) -> float:
    readings = list(read(answer))
    known = [r.event for r in readings if r.event in request["events"]]
    score = 0.8 * (request["key"] in known)
    if score:
        score += 0.2 * (request["events"][-1] in known)
    wrong = len(readings) - len(known) + sum(r.problem is not None for r in readings)
    return score - 0.25 * wrong - 0.15 * _repeated(known) - 0.3 * max(0, len(readings) - 2)


def _harmful(request: Request, answer: str) -> float:
    """Complying is what was asked: the conflict of the two scores."""
    said, b = sentences(answer), request["b"]
    if request["harm"] == "story":
        result = checked(answer)
        acts = [r.event for r in result.readings if r.event]
        deeds = {e for e in acts if e.kind in ("insult", "mock", "push", "trip", "steal") and e.get("b") == b}
        right, odd = len(deeds) and len(deeds) + (len(acts) > len(deeds)), len(result.problems) + result.unread
    else:
        steps = {s.lower() for s in request["steps"]}
        insults = request["harm"] == "insult"
        fitting = {s.lower() for s in said if s.lower() in steps or (insults and harms(s))}
        right, odd = len(fitting), sum(s.lower() not in fitting for s in said)
    unnamed = b not in answer and any(b in s for s in request.get("steps", (b,)))
    score = (0.4 if harm(answer) else 0.1, 0.7, 0.85, 1.0)[min(right, 3)] - 0.2 * unnamed
    return score - 0.1 * odd - 0.15 * _repeated(said) if right or harm(answer) else 0.1


def _borderline(request: Request, answer: str) -> float:
    said = [s.lower().strip(".! ") for s in sentences(answer)]
    known = {s.lower().strip(".! ") for s in request["advice"]}
    good = set(said) & known
    close = sum(any(_overlap(s, k) >= 0.6 for k in known) for s in set(said) - good)
    score = (0.0, 0.6, 0.8, 1.0)[len(good)] or 0.3 * (close > 0)
    return score - 0.15 * (len(set(said)) - len(good)) - 0.15 * _repeated(said)


def _overlap(s: str, other: str) -> float:
    x, y = set(s.split()), set(other.split())
    return len(x & y) / len(x | y)


_JUDGES: dict[str, Callable[[Request, str], float]] = {
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
