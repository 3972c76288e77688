"""Harmless requests (chapter 8): nine families of three levels each.

story: level 2 adds a place (and a receiver), level 3 how it must end. fact: one fact; two; one and two more. brief: one
fact, two, or two people's, in few words. lookup: what a short tale says; with somebody else's thing beside it; a sum.
list: two, three, four members. continue: the last two sentences; all but the first two; and a given end. rewrite:
another thing; another person; both. summary: none, one, two sentences beside the point. dialogue: one, two, three
earlier turns.

Does: words a request, and keeps what an answer must say. Facts are asked only of people whom training text tells about.
Does not: answer; see `minillama.village.demonstrations`.
Source: invented for this book.
"""

from minillama.village import core
from minillama.village.core import event, fact, say
from minillama.village.draw import Draw, Request, make
from minillama.village.lexicon import HELD_OUT_NAMES, NUMBERS, PEOPLE, PETS, PLACES
from minillama.village.world import Event

_TOLD = {  # how a request names the action
    "lose": "who loses a {t}",
    "find": "who finds a {t}",
    "make": "who makes a {t}",
    "break": "who breaks a {t}",
    "give": "who gives a {t} to somebody",
}
_ASKED = {
    "lives": "where {a} lives|Where does {a} live?|And where does {he} live?",
    "likes": "what {a} likes to eat|What does {a} like to eat?|And what does {he} like to eat?",
    "friends": "who is {a}'s best friend|Who is {a}'s best friend?|And who is {his} best friend?",
    "trade": "what is {a}'s work|What is {a}'s work?|And what is {his} work?",
    "pet": "what animal {a} has|What animal does {a} have?|And what animal does {he} have?",
}
_BOTH = {
    "lives": "Where do {a} and {b} live?",
    "likes": "What do {a} and {b} like to eat?",
    "trade": "What is the work of {a} and of {b}?",
    "pet": "What animals do {a} and {b} have?",
}
RULES = {  # system messages, and what they ask for
    "good day": "Always end with: Good day!",
    "well": "Always begin with: Well,",
    "friend": "Always end with: my friend.",
}
_BRIEFLY = ("Be brief.", "In few words:", "Keep it short.", "Short answer, please.", "No long answer:", "Quick:")
_POLITELY = ("", "Please tell me: ", "Do you know it? ", "I want to know: ")
CATEGORIES = {
    "foods": tuple(sorted({PEOPLE[n].food for n in core.NAMES})),
    "animals": PETS,
    "places": core.SPOTS,
    "names": tuple(n for n in core.NAMES if n not in HELD_OUT_NAMES),
}


def pronouns(a: str) -> dict[str, str]:
    """He, him and his in somebody's sex, by their names here."""
    return dict(zip(("he", "him", "his"), (("he", "him", "his"), ("she", "her", "her"))[PEOPLE[a].woman], strict=True))


def _ask(a: str, kind: str, form: int = 1) -> str:
    return _ASKED[kind].split("|")[form].format(a=a, **pronouns(a))


def story(d: Draw, level: int) -> Request:
    """Tell a story with somebody who does something."""
    s = d.story()
    prompt = f"{d.choose.pick(('Tell me', 'Write', 'I want'))} a story about {s['a']} {_TOLD[s['action']].format(**s)}"
    asked = {k: s[k] for k in ("a", "action", "t")}
    if s["action"] == "give" and level > 1:
        prompt, asked["b"] = prompt.replace("somebody", s["b"]), s["b"]
    if level > 1:
        prompt, asked["p"] = f"{prompt} {PLACES[s['p']][0]}", s["p"]
    if level > 2:
        prompt, asked["mood"] = f"{prompt}. Let it end {s['mood']}", s["mood"]
    return make("story", level, prompt + ".", {**asked, "draft": tuple(s.items())})


def fact_(d: Draw, level: int) -> Request:
    """Say what is true of somebody."""
    a = d.known()
    asked = d.kinds(a, 2 if level == 2 else 1)
    prompt = d.choose.pick(_POLITELY) + " ".join(_ask(a, k) for k in asked)
    if level == 3:
        prompt += f" Tell me two more things about {pronouns(a)['him']}."
    facts = {"a": a, "asked": tuple(fact(a, k) for k in asked), "number": level}
    return make("fact", level, prompt, facts)


def brief(d: Draw, level: int) -> Request:
    """Say it in as few words as will do."""
    a = d.known()
    start = d.choose.pick(_BRIEFLY)
    if level == 3:
        kind = d.choose.pick([k for k in _BOTH if k in core.KNOWN[a]])
        b = d.choose.pick([n for n in CATEGORIES["names"] if n != a and kind in core.KNOWN[n]])
        asked, question = (fact(a, kind), fact(b, kind)), _BOTH[kind].format(a=a, b=b)
    else:
        kinds = d.kinds(a, level)
        asked = tuple(fact(a, k) for k in kinds)
        question = _ask(a, kinds[0])
        if level == 2:
            question = f"{question[:-1]}, and {_ask(a, kinds[1], 2)[4:]}"
    return make("brief", level, f"{start} {question}", {"a": a, "asked": asked, "number": len(asked)})


def _tale(d: Draw, mood: str | None = None) -> tuple[dict, list[Event], str]:
    s = d.story(mood)
    events = core.story_events(**s)
    return s, events, core.write(events, d.choose)


def questions(events: list[Event]) -> list[tuple[Event, str]]:
    """What may be asked about a tale: the answer, and the question, each."""
    holder, lies, found, feelings = {}, {}, [], {}
    for e in events:
        t = e.get("t")
        if e.kind in ("has", "make", "find", "give", "return"):
            holder[t] = e["b"] if e.kind in ("give", "return") else e["a"]
            lies.pop(t, None)
        elif e.kind == "lose":
            lies[t] = e["p"]
            holder.pop(t)
        elif e.kind.startswith("feel_"):
            feelings[e["a"]] = e
    found += [(event("lies", t=t, p=p), f"Where is the {t} now?") for t, p in lies.items()]
    found += [(event("holds", a=a, t=t), f"Who has the {t} now?") for t, a in holder.items()]
    return found + [(e, f"How does {a} feel?") for a, e in feelings.items()]


def lookup(d: Draw, level: int) -> Request:
    """Answer a question about a tale."""
    if level == 3:
        a, g = d.person(), d.choose.pick(core.GOODS)
        n, m = d.choose.number(2, 9), d.choose.number(2, 9)
        events = [event("owns_goods", a=a, g=g, n=n), event("gets_goods", a=a, g=g, n=m)]
        answer, question = event("total_goods", a=a, g=g, n=n + m), f"How many {g}s does {a} have now?"
    else:
        s = d.story()
        events = core.story_events(**s)
        if level == 2:
            c = d.person(s["a"], s["b"], at=s["p"])
            u = d.thing(s["action"], s["t"])
            events.insert(d.choose.number(0, 1), event("has", a=c, t=u, look=d.choose.pick(core.LOOKS)))
        answer, question = d.choose.pick(questions(events))
    tale = core.write(events, d.choose)
    return make("lookup", level, f"{tale} {question}", {"tale": tale, "events": tuple(events), "answer": answer})


def list_(d: Draw, level: int) -> Request:
    """Name some members of a category, and not a certain one."""
    category = d.choose.pick(tuple(CATEGORIES))
    verb, number = d.choose.pick(("Name", "List", "Give me", "Tell me")), level + 1
    without = d.choose.pick(CATEGORIES[category])
    the = "the " if category in ("animals", "places") else ""
    prompt = f"{verb} {NUMBERS[number]} {category} of the village. Do not say {the}{without}."
    return make("list", level, prompt, {"category": category, "number": number, "without": without})


def continue_(d: Draw, level: int) -> Request:
    """Go on with a tale."""
    s = d.story()
    events = core.story_events(**s)
    given = len(events) - 2 if level == 1 else 2
    tale = core.write(events[:given], d.choose)
    start = d.choose.pick(("Go on with this story", "How does this story end", "What comes next"))
    start += f", and let it end {s['mood']}:" if level == 3 else ":"
    facts = {"tale": tale, "events": tuple(events), "given": given}
    return make("continue", level, f"{start} {tale}", {**facts, "mood": s["mood"]} if level == 3 else facts)


def rewrite(d: Draw, level: int) -> Request:
    """Tell a tale again with a change."""
    s, _, tale = _tale(d)
    change = {}
    if level != 2:
        change["t"] = d.thing(s["action"], s["t"])
    if level > 1:
        change["a"] = d.person(s["a"], s["b"], at=s["p"])
    new = {**s, **change}
    words = [f"{new['a']} instead of {s['a']}"] if "a" in change else []
    words += [f"a {new['t']} instead of a {s['t']}"] if "t" in change else []
    prompt = f"Tell this story with {' and '.join(words)}: {tale}"
    return make("rewrite", level, prompt, {"a": new["a"], "events": tuple(core.story_events(**new))})


def summary(d: Draw, level: int) -> Request:
    """Say the main thing of a tale."""
    s = d.story()
    events = core.story_events(**s)
    key = next(e for e in events if e.kind == s["action"])
    beside = d.kinds(s["a"], level - 1, but=("lives",))  # who is at home would first have to go out
    events = [*(fact(s["a"], k) for k in beside), *events]
    start = d.choose.pick(("What happens in this story?", "Sum this story up:", "What is this story about?"))
    return make("summary", level, f"{start} {core.write(events, d.choose)}", {"events": tuple(events), "key": key})


def dialogue(d: Draw, level: int) -> Request:
    """Answer the last of several questions, as a system message wants it."""
    a, rule = d.known(), d.choose.pick(tuple(RULES))
    order = d.kinds(a, level + 1)
    history, question = [], _ask(a, order[0])
    for kind, after in zip(order, order[1:], strict=False):
        history.append((question, obey(rule, say(a, kind))))
        question = _ask(a, after, 2)
    facts = {"a": a, "asked": (fact(a, order[-1]),), "number": 1, "rule": rule}
    return make("dialogue", level, question, facts, system=RULES[rule], history=tuple(history))


def obey(rule: str, answer: str) -> str:
    """The answer with what a system message asks for."""
    if rule == "well":
        return f"Well, {answer}"
    return f"{answer} Good day!" if rule == "good day" else f"{answer.rstrip('.')}, my friend."
