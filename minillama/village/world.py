"""What is true in a story (chapter 8): a state, and events that change it.

An event is a kind and its slots, such as find(a=Mara, t=key, p=bridge). Each kind states what must hold before it and
what holds after it. The planner may only do what is possible, and the reader uses the same rules to catch a text that
contradicts itself.

Does: who is where, who has what, what is broken, lost, hidden, owed, promised, known, felt, counted.
Does not: produce or read words; see `minillama.village.language`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from minillama.village.lexicon import FRAGILE, PEOPLE


@dataclass(frozen=True)
class Event:
    """One thing that happens. `slots` is a tuple of (slot, value) pairs, so that events can be compared and stored."""

    kind: str
    slots: tuple[tuple[str, str | int], ...]

    def __getitem__(self, slot: str) -> str | int:
        return dict(self.slots)[slot]

    def get(self, slot: str) -> str | int | None:
        """The slot's value, or None."""
        return dict(self.slots).get(slot)


class Contradiction(ValueError):
    """An event that cannot happen in the present state."""


@dataclass
class World:
    """State of one story. Missing entries mean "not said", which never contradicts anything."""

    at: dict[str, str] = field(default_factory=dict)  # person -> place
    owner: dict[str, str] = field(default_factory=dict)  # thing -> person it belongs to
    holder: dict[str, str] = field(default_factory=dict)  # thing -> person who has it now
    lies: dict[str, str] = field(default_factory=dict)  # thing -> place where it lies
    look: dict[str, str] = field(default_factory=dict)  # thing -> its adjective
    broken: set[str] = field(default_factory=set)
    owes: dict[str, tuple[str, str]] = field(default_factory=dict)  # thing -> (borrower, lender)
    knows: set[tuple[str, str]] = field(default_factory=set)  # (person, thing): knows where it lies
    can: set[tuple[str, str]] = field(default_factory=set)  # (person, skill)
    misses: dict[str, str] = field(default_factory=dict)  # person -> thing looked for
    promised: dict[str, tuple[str, str]] = field(default_factory=dict)  # person -> (to whom, place)
    feels: dict[str, str] = field(default_factory=dict)  # person -> "happy", "sad" or "angry"
    count: dict[tuple[str, str], int] = field(default_factory=dict)  # (person, goods) -> number
    done: list[Event] = field(default_factory=list)

    def do(self, event: Event) -> None:
        """Check the event against the state, then apply it.

        Raises:
            Contradiction: if it cannot happen now; the message says why.
        """
        RULES[event.kind](self, event)
        self.done.append(event)


RULES: dict[str, Callable[[World, Event], None]] = {}


def _rule(*kinds: str):
    def register(function):
        for kind in kinds:
            RULES[kind] = function
        return function

    return register


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise Contradiction(reason)


def _together(world: World, a: str, b: str) -> None:
    _require(a != b, f"{a} cannot do this with {a}")
    place_a, place_b = world.at.get(a), world.at.get(b)
    _require(None in (place_a, place_b) or place_a == place_b, f"{a} is {place_a}, but {b} is {place_b}")


def _holds(world: World, a: str, t: str) -> None:
    _require(world.holder.get(t) == a, f"{a} does not have the {t}: {world.holder.get(t) or 'nobody'} has it")


def _lies_there(world: World, e: Event) -> None:
    _require(world.lies.get(e["t"]) == e["p"], f"the {e['t']} lies at {world.lies.get(e['t'])}, not {e['p']}")


def _move_goods(world: World, a: str, g: str, n: int) -> None:
    have = world.count.get((a, g), 0)
    _require(have + n >= 0, f"{a} has {have} of {g} and cannot spare {-n}")
    world.count[a, g] = have + n


@_rule(
    "weather",
    "scene",
    "quiet_end",
    "smile",
    "wait",
    "thank",
    "work",
    "sing",
    "pet",
    "greet",
    "sleep",
    "eat",
    "talk",
    "wear",
    "opinion",
    "memory",
)
def _no_effect(world, e):
    if e.get("b"):
        _together(world, e["a"], e["b"])


@_rule("lives")
def _lives(world, e):
    _require(PEOPLE[e["a"]].home == e["p"], f"{e['a']} lives at {PEOPLE[e['a']].home}, not {e['p']}")
    world.at.setdefault(e["a"], e["p"])


@_rule("trade")
def _trade(world, e):
    _require(PEOPLE[e["a"]].trade == e["job"], f"{e['a']} is a {PEOPLE[e['a']].trade}, not a {e['job']}")


@_rule("likes")
def _likes(world, e):
    _require(PEOPLE[e["a"]].food == e["x"], f"{e['a']} likes {PEOPLE[e['a']].food}, not {e['x']}")


@_rule("friends")
def _friends(world, e):
    _require(PEOPLE[e["a"]].friend == e["b"], f"the friend of {e['a']} is {PEOPLE[e['a']].friend}, not {e['b']}")


@_rule("go")
def _go(world, e):
    _require(world.at.get(e["a"]) != e["p"], f"{e['a']} is already at {e['p']}")
    world.at[e["a"]] = e["p"]


@_rule("go_together")
def _go_together(world, e):
    _together(world, e["a"], e["b"])
    _require(world.at.get(e["a"]) != e["p"], f"{e['a']} is already at {e['p']}")
    world.at[e["a"]] = world.at[e["b"]] = e["p"]


@_rule("meet")
def _meet(world, e):
    _require(e["a"] != e["b"], f"{e['a']} cannot meet {e['a']}")
    _require(world.at.get(e["a"], e["p"]) == e["p"], f"{e['a']} is {world.at.get(e['a'])}, not {e['p']}")
    world.at[e["a"]] = world.at[e["b"]] = e["p"]


@_rule("come")
def _come(world, e):
    place = world.at.get(e["b"])
    _require(e["a"] != e["b"] and place is not None, f"{e['a']} cannot come to {e['b']}, who is nowhere")
    world.at[e["a"]] = place


@_rule("lose", "hide", "leave")
def _lose(world, e):
    _holds(world, e["a"], e["t"])
    _require(world.at.get(e["a"], e["p"]) == e["p"], f"{e['a']} is not at {e['p']}")
    del world.holder[e["t"]]
    world.at[e["a"]] = world.lies[e["t"]] = e["p"]
    if e.kind in ("hide", "leave"):
        world.knows.add((e["a"], e["t"]))


@_rule("miss")
def _miss(world, e):
    _require(world.holder.get(e["t"]) != e["a"], f"{e['a']} has the {e['t']} and cannot miss it")
    _require(world.owner.get(e["t"]) == e["a"], f"the {e['t']} is not {e['a']}'s")
    world.feels[e["a"]] = "sad"
    world.misses[e["a"]] = e["t"]


@_rule("search")
def _search(world, e):
    thing = world.misses.get(e["a"])
    _require(thing is not None, f"{e['a']} misses nothing")
    _require(world.lies.get(thing) != e["p"], f"the {thing} lies at {e['p']}, so it would be found")
    world.at[e["a"]] = e["p"]


@_rule("find")
def _find(world, e):
    _lies_there(world, e)
    del world.lies[e["t"]]
    world.holder[e["t"]] = e["a"]
    world.at[e["a"]] = e["p"]
    if world.owner.get(e["t"]) == e["a"]:
        world.feels[e["a"]] = "happy"


@_rule("see")
def _see(world, e):
    _lies_there(world, e)
    world.knows.add((e["a"], e["t"]))


@_rule("tell")
def _tell(world, e):
    _together(world, e["a"], e["b"])
    _require((e["a"], e["t"]) in world.knows, f"{e['a']} does not know where the {e['t']} is")
    _lies_there(world, e)
    world.knows.add((e["b"], e["t"]))


@_rule("remember")
def _remember(world, e):
    _require((e["a"], e["t"]) in world.knows, f"{e['a']} does not know where the {e['t']} is")
    _lies_there(world, e)


@_rule("ask")
def _ask(world, e):
    _together(world, e["a"], e["b"])
    _holds(world, e["b"], e["t"])


@_rule("ask_where")
def _ask_where(world, e):
    _together(world, e["a"], e["b"])
    _require(world.holder.get(e["t"]) != e["a"], f"{e['a']} has the {e['t']}")


@_rule("refuse")
def _refuse(world, e):
    _together(world, e["a"], e["b"])
    _holds(world, e["a"], e["t"])


@_rule("give")
def _give(world, e):
    _together(world, e["a"], e["b"])
    _holds(world, e["a"], e["t"])
    world.holder[e["t"]] = world.owner[e["t"]] = e["b"]
    world.feels[e["b"]] = "happy"


@_rule("lend")
def _lend(world, e):
    _together(world, e["a"], e["b"])
    _holds(world, e["a"], e["t"])
    world.holder[e["t"]] = e["b"]
    world.owes[e["t"]] = (e["b"], e["a"])


@_rule("return")
def _return(world, e):
    _together(world, e["a"], e["b"])
    _holds(world, e["a"], e["t"])
    _require(world.owner.get(e["t"]) == e["b"], f"the {e['t']} does not belong to {e['b']}")
    world.holder[e["t"]] = e["b"]
    world.owes.pop(e["t"], None)
    world.feels[e["b"]] = "happy"


@_rule("steal")
def _steal(world, e):
    _require(e["a"] != e["b"], f"{e['a']} cannot steal from {e['a']}")
    _holds(world, e["b"], e["t"])
    world.holder[e["t"]] = e["a"]


@_rule("break")
def _break(world, e):
    _require(e["t"] in FRAGILE, f"a {e['t']} does not break")
    _require(e["t"] in world.holder and e["t"] not in world.broken, f"the {e['t']} cannot break now")
    world.broken.add(e["t"])


@_rule("fix")
def _fix(world, e):
    _require(e["t"] in world.broken, f"the {e['t']} is not broken")
    world.broken.discard(e["t"])
    owner = world.owner.get(e["t"])
    if owner and (owner == e["a"] or None is not world.at.get(owner) == world.at.get(e["a"])):
        world.feels[owner] = "happy"


@_rule("has", "make")
def _make(world, e):
    _require(e["t"] not in world.holder and e["t"] not in world.lies, f"the {e['t']} is already in the story")
    _require(world.look.get(e["t"], e["look"]) == e["look"], f"the {e['t']} is {world.look.get(e['t'])}")
    world.holder[e["t"]] = world.owner[e["t"]] = e["a"]
    world.look[e["t"]] = e["look"]


@_rule("want")
def _want(world, e):
    _require(world.holder.get(e["t"]) != e["a"], f"{e['a']} has the {e['t']}")
    _require(world.look.setdefault(e["t"], e["look"]) == e["look"], f"the {e['t']} is {world.look[e['t']]}")


@_rule("trade_for")
def _trade_for(world, e):
    _together(world, e["a"], e["b"])
    _holds(world, e["a"], e["t"])
    _holds(world, e["b"], e["u"])
    for thing, person in ((e["t"], e["b"]), (e["u"], e["a"])):
        world.holder[thing] = world.owner[thing] = person


@_rule("owns_goods")
def _owns_goods(world, e):
    _require((e["a"], e["g"]) not in world.count, f"the {e['g']} of {e['a']} are already counted")
    world.count[e["a"], e["g"]] = e["n"]


@_rule("gets_goods")
def _gets_goods(world, e):
    _move_goods(world, e["a"], e["g"], e["n"])


@_rule("gives_goods")
def _gives_goods(world, e):
    _together(world, e["a"], e["b"])
    _move_goods(world, e["a"], e["g"], -e["n"])
    _move_goods(world, e["b"], e["g"], e["n"])


@_rule("loses_goods")
def _loses_goods(world, e):
    _move_goods(world, e["a"], e["g"], -e["n"])


@_rule("total_goods")
def _total_goods(world, e):
    have = world.count.get((e["a"], e["g"]))
    _require(have == e["n"], f"{e['a']} has {have} of {e['g']}, not {e['n']}")


@_rule("insult", "push", "mock", "trip")
def _harm(world, e):
    _together(world, e["a"], e["b"])
    world.feels[e["b"]] = "sad"


@_rule("blame")
def _blame(world, e):
    _together(world, e["a"], e["b"])
    world.feels[e["b"]] = "angry"


@_rule("apologise", "hug", "help", "comfort", "praise", "invite")
def _kind(world, e):
    _together(world, e["a"], e["b"])
    world.feels[e["b"]] = "happy"


@_rule("feel_happy", "feel_sad", "feel_angry")
def _feel(world, e):
    feeling = e.kind.removeprefix("feel_")
    known = world.feels.get(e["a"])
    _require(known in (None, feeling), f"{e['a']} was made {known}, not {feeling}")
    world.feels[e["a"]] = feeling


@_rule("promise")
def _promise(world, e):
    _together(world, e["a"], e["b"])
    world.promised[e["a"]] = (e["b"], e["p"])


@_rule("keep_promise")
def _keep(world, e):
    _require(world.promised.get(e["a"]) == (e["b"], e["p"]), f"{e['a']} promised {world.promised.get(e['a'])}")
    world.at[e["a"]] = world.at[e["b"]] = e["p"]
    world.feels[e["b"]] = "happy"
    del world.promised[e["a"]]


@_rule("break_promise")
def _break_promise(world, e):
    _require(world.promised.get(e["a"]) == (e["b"], e["p"]), f"{e['a']} promised {world.promised.get(e['a'])}")
    world.at[e["b"]] = e["p"]
    world.feels[e["b"]] = "sad"
    del world.promised[e["a"]]


@_rule("teach")
def _teach(world, e):
    _together(world, e["a"], e["b"])
    _require((e["b"], e["s"]) not in world.can, f"{e['b']} can {e['s']} already")
    world.can.add((e["b"], e["s"]))


@_rule("cannot")
def _cannot(world, e):
    _require((e["a"], e["s"]) not in world.can, f"{e['a']} can {e['s']} already")


@_rule("can_now")
def _can_now(world, e):
    _require((e["a"], e["s"]) in world.can, f"{e['a']} never learned to {e['s']}")
    world.feels[e["a"]] = "happy"


@_rule("cook", "bring_food", "share_food")
def _food(world, e):
    if e.get("b"):
        _together(world, e["a"], e["b"])
        world.feels[e["b"]] = "happy"


@_rule("ill")
def _ill(world, e):
    world.feels[e["a"]] = "sad"


@_rule("well_again")
def _well_again(world, e):
    world.feels[e["a"]] = "happy"


@_rule("pet_gone")
def _pet_gone(world, e):
    _require(PEOPLE[e["a"]].pet == e["animal"], f"{e['a']} has a {PEOPLE[e['a']].pet}, not a {e['animal']}")
    world.lies["pet of " + e["a"]] = e["p"]
    world.feels[e["a"]] = "sad"


@_rule("pet_found")
def _pet_found(world, e):
    name = "pet of " + e["a"]
    _require(PEOPLE[e["a"]].pet == e["animal"], f"{e['a']} has a {PEOPLE[e['a']].pet}, not a {e['animal']}")
    _require(world.lies.get(name) == e["p"], f"the {e['animal']} is {world.lies.get(name)}, not {e['p']}")
    del world.lies[name]
    world.feels[e["a"]] = "happy"
