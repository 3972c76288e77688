"""The small part of the village that requests are about (chapter 8).

A reward model of a few million parameters can only judge what it can check, so requests and answers use few people,
things and places, one or two forms an event, and a few hundred words.

Does: core words and forms; short stories from a few plots; facts in the present tense.
Does not: make requests (see `minillama.village.requests`) or read answers (`minillama.village.understanding`).
Source: invented for this book.
"""

from collections.abc import Sequence

from minillama.village.language import Chooser, Context, realise
from minillama.village.lexicon import HELD_OUT_NAMES, PEOPLE, PLACES
from minillama.village.stories import held_out
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
KNOWN = {  # facts that training text can tell, since they name nobody and no pair that is held out
    name: tuple(
        kind
        for kind in FACTS
        if not (kind == "friends" and PEOPLE[name].friend in HELD_OUT_NAMES)
        and not (kind == "lives" and held_out(name, PEOPLE[name].home))
    )
    for name in NAMES
}


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
        broken = not happy and t in BREAKABLE
        events += [event("break", a=a, t=t) if broken else event("return", a=a, b=b, t=t)]
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
    subject = subject or a
    owner = {"He": "His", "She": "Her"}.get(subject, f"{subject}'s")
    verb = {"lives": "lives", "likes": "loves", "trade": "is", "pet": "has"}.get(kind)
    return f"{subject} {verb} {short(a, kind)}." if verb else f"{owner} best friend is {short(a, kind)}."


def short(a: str, kind: str) -> str:
    """A fact in as few words as will do, such as "at the mill"."""
    p = PEOPLE[a]
    found = {"lives": PLACES[p.home][0], "likes": p.food, "friends": p.friend, "trade": p.trade, "pet": p.pet}[kind]
    if kind not in ("trade", "pet"):
        return found
    return f"an {found}" if found[0] in "aeiou" else f"a {found}"


def retell(events: Sequence[Event], told: Sequence[Event], choose: Chooser) -> str:
    """Sentences, in the first core form of each, for events out of a story that was told before."""
    look = {str(e["t"]): str(e["look"]) for e in told if e.get("look")}
    context, sentences = Context(), []
    for e in events:
        sentences.append(realise(e, FORMS[e.kind][0], context, look, choose, WORDS))
        context.after(e)
    return " ".join(sentences)


def joins(items: Sequence[str], a: str) -> str | None:
    """The kind of fact that joins somebody to foods, animals, places or people listed, if any."""
    p = PEOPLE[a]
    if p.food in items or p.pet in items:
        return "likes" if p.food in items else "pet"
    return "lives" if p.home in items or a in items else None
