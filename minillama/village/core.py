"""The small part of the village that requests are about (chapter 12).

A reward model of a few million parameters can only judge what it can check, so requests and answers use few people,
things and places, one or two forms an event, and a few hundred words.

Does: core words and forms; short stories from a few plots; facts in the present tense, said and read.
Does not: make requests; see `minillama.village.requests`.
Source: invented for this book.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minillama.village.language import Chooser, Context, realise
from minillama.village.lexicon import FOODS, PEOPLE, PETS, PLACES, TRADES
from minillama.village.world import Event, World

NAMES = tuple("Mara Lena Rosa Anna Ida Nora Vera Clara Tom Peter Jon Oskar Felix Hugo Emil Anton Edith Bruno".split())
THINGS = tuple("key lantern kite drum basket ring book map boat ball hat bell cup box".split())
BREAKABLE = tuple("lantern kite drum basket boat bell cup".split())
MADE = tuple("kite drum basket map boat ball hat box".split())
SPOTS = tuple("mill bakery school barn bridge well market wood river hill".split())
GOODS = ("apple", "egg", "plum", "cookie")
LOOKS = ("red", "blue", "green", "old", "new", "small", "big")
INSULTS = tuple("fool liar coward brat pest sneak snob clown".split())
WORDS = {"happy": ("happy", "glad"), "sad": ("sad", "lonely"), "angry": ("angry", "cross"), "insult": INSULTS}
FORMS: dict[str, tuple[str, ...]] = {
    "lives": ("[a] lived [p].", "[a.poss] home was [p]."),
    "likes": ("[a] loved [x] more than anything.", "[a] liked [x] best of all."),
    "friends": ("[a.poss] best friend was [b].", "[a] and [b] were best friends."),
    "trade": ("[a] was the [job] of the village.", "[a] worked as a [job]."),
    "pet": ("[a] had a [animal].", "[a] loved [a.his] [animal]."),
    "has": ("[a] had [t.a].", "[a] carried [t.a] everywhere."),
    "go": ("[a] went [p.to].", "[a] walked [p.to]."),
    "meet": ("[a] met [b] [p].", "[a] and [b] met [p]."),
    "lose": ("[a] lost [t] [p].", "Somewhere [p] [a] lost [t]."),
    "find": ("[a] found [t] [p].", "At last [a] found [t] [p]."),
    "return": ("[a] gave [t] back to [b].", "[a] returned [t] to [b]."),
    "make": ("[a] made [t.a].", "[a] worked for three days and made [t.a]."),
    "give": ("[a] gave [t] to [b].", "As a present [a] handed [t] to [b]."),
    "thank": ("[a] thanked [b].", '"Thank you," said [a] to [b].'),
    "break": ("[a] broke [t].", "[a] was not careful, and [t] broke."),
    "fix": ("[a] fixed [t].", "It took all day, but [a] repaired [t]."),
    "feel_happy": ("[a] was [happy].", "[a] felt [happy]."),
    "feel_sad": ("[a] was [sad].", "[a] felt [sad]."),
    "owns_goods": ("[a] had [n] [g].", "At first [a] had [n] [g]."),
    "gets_goods": ("[a] found [n] more [g].", "[a] bought [n] more [g]."),
    "insult": ('"You [insult]!" [a] said to [b].', "[a] called [b] a [insult]."),
    "mock": ("[a] made fun of [b].", "[a] pointed at [b] and laughed."),
    "push": ("[a] pushed [b] into the mud.", "[a] threw a stone at [b]."),
    "steal": ("[a] stole [t] from [b].",),
}  # each is also one of `minillama.village.forms.FORMS`, so that the reader knows it
ACTIONS = {"lose": THINGS, "find": THINGS, "make": MADE, "break": BREAKABLE, "give": THINGS}
FACTS = ("lives", "likes", "friends", "trade", "pet")


def event(kind: str, **slots: str | int) -> Event:
    """An event from keyword slots."""
    return Event(kind, tuple(sorted(slots.items())))


def fact(a: str, kind: str) -> Event:
    """What is true of a: one of the kinds `FACTS`."""
    p = PEOPLE[a]
    slot, value = {
        "lives": ("p", p.home),
        "likes": ("x", p.food),
        "friends": ("b", p.friend),
        "trade": ("job", p.trade),
        "pet": ("animal", p.pet),
    }[kind]
    return event(kind, a=a, **{slot: value})


def story_events(a: str, b: str, action: str, t: str, p: str, mood: str, look: str) -> list[Event]:
    """Four or five events in which a does the action and which end in the mood ("happy" or "sad")."""
    happy, has = mood == "happy", event("has", a=a, t=t, look=look)
    if action == "lose":
        events = [has, event("go", a=a, p=p), event("lose", a=a, t=t, p=p)]
        events += [event("find", a=a, t=t, p=p)] if happy else []
    elif action == "find":
        events = [event("has", a=b, t=t, look=look), event("lose", a=b, t=t, p=p), event("find", a=a, t=t, p=p)]
        events += [event("return", a=a, b=b, t=t)] if happy else []
    elif action == "make":
        events = [event("make", a=a, t=t, look=look), event("go", a=a, p=p)]
        if happy:
            events += [event("meet", a=a, b=b, p=p), event("give", a=a, b=b, t=t)]
        elif t in BREAKABLE:
            events += [event("break", a=a, t=t)]
        else:
            events += [event("lose", a=a, t=t, p=p)]
    elif action == "break":
        events = [has, event("go", a=a, p=p), event("break", a=a, t=t)] + ([event("fix", a=a, t=t)] if happy else [])
    else:
        events = [has, event("meet", a=a, b=b, p=p), event("give", a=a, b=b, t=t)]
        events += [event("thank", a=b, b=a)] if happy else []
    return [*events, event("feel_" + mood, a=a)]


def write(events: Sequence[Event], choose: Chooser) -> str:
    """Events in core forms.

    Raises:
        Contradiction: if they cannot happen in this order.
    """
    world, context, sentences = World(), Context(), []
    for e in events:
        world.do(e)
        sentences.append(realise(e, choose.pick(FORMS[e.kind]), context, world.look, choose, WORDS))
        context.after(e)
    return " ".join(sentences)


def say(a: str, kind: str, subject: str | None = None) -> str:
    """A fact in the present tense, such as "Mara lives at the mill."."""
    p = PEOPLE[a]
    subject = subject or a
    owner = {"He": "His", "She": "Her"}.get(subject, f"{subject}'s")
    sentence = {
        "lives": f"{subject} lives {PLACES[p.home][0]}.",
        "likes": f"{subject} loves {p.food}.",
        "friends": f"{owner} best friend is {p.friend}.",
        "trade": f"{subject} is a {p.trade}.",
        "pet": f"{subject} has a {p.pet}.",
    }[kind]
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


_NAME = "|".join(PEOPLE)
_WHERE = {where: place for place, (where, _) in PLACES.items()}
_SAID = {
    "lives": ("p", rf"lives (?P<v>{'|'.join(_WHERE)})"),
    "likes": ("x", rf"(?:loves|likes) (?P<v>{'|'.join(FOODS)})"),
    "trade": ("job", rf"is (?:an?|the) (?P<v>{'|'.join(TRADES)})"),
    "pet": ("animal", rf"has an? (?P<v>{'|'.join(PETS)})"),
}
_CLAUSES = {
    kind: (slot, re.compile(rf"(?:(?P<a>{_NAME}|He|She|he|she) )?{said}$")) for kind, (slot, said) in _SAID.items()
}
_FRIEND = re.compile(rf"(?:(?P<a>{_NAME})'s|(?P<pronoun>His|Her|his|her)) best friend is (?P<b>{_NAME})$")


@dataclass(frozen=True)
class Said:
    """What an answer says in the present tense: facts in order, and the sentences that are none."""

    facts: tuple[Event, ...]
    others: tuple[str, ...]


def sentences(text: str) -> list[str]:
    """Split at full stops, question marks and exclamation marks."""
    return [s.strip() for s in re.findall(r"[^.!?]+[.!?]?\"?", text) if s.strip()]


def understand(text: str, about: str | None = None) -> Said:
    """Read facts in the present tense.

    Args:
        text: an answer.
        about: whom the request is about: the meaning of a pronoun at the beginning.
    """
    facts, others, last = [], [], about
    for sentence in sentences(text):
        found = []
        for clause in re.split(r",? and (?!the )", sentence.rstrip(".!")):
            for kind, (slot, pattern) in _CLAUSES.items():
                match = pattern.match(clause.strip())
                if match:
                    a = match["a"] if match["a"] in PEOPLE else last
                    fits = a and match["a"] not in ({"He", "he"} if PEOPLE[a].woman else {"She", "she"})
                    if fits and (match["a"] or found):
                        value = match["v"]
                        found.append(event(kind, a=a, **{slot: _WHERE.get(value, value)}))
                        last = a
                    break
            else:
                match = _FRIEND.match(clause.strip())
                if match and (match["a"] or last):
                    found.append(event("friends", a=match["a"] or last, b=match["b"]))
        facts += found
        if not found:
            others.append(sentence)
    return Said(tuple(facts), tuple(others))
