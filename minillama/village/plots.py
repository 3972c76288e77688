"""What can happen (chapter 8): plots over the world's state, with chance at every turn.

A plot is a function that makes events happen to a cast. It chooses people, things, places and outcomes at random, and
the world refuses what is impossible, so that every story is consistent by construction.

Does: more than twenty plots, kind, neutral, rude and cruel ones; facts that return several sentences later.
Does not: choose words.
Source: invented for this book.
"""

from collections.abc import Callable, Sequence

from minillama.village import lexicon
from minillama.village.language import Chooser
from minillama.village.lexicon import PEOPLE, PLACES
from minillama.village.world import Event, World

Cast = dict[str, str]  # slots of a title: who and what the story is about


class Teller:
    """Makes events happen and keeps their list.

    Args:
        choose: source of choices.
        names: people to choose from.
        allowed: says whether a combination of slot values may be used; see `minillama.village.stories.held_out`.
    """

    def __init__(self, choose: Chooser, names: Sequence[str], allowed: Callable[[str, str], bool] = lambda x, y: True):
        self.choose, self.names, self.allowed = choose, names, allowed
        self.world = World()
        self.used: set[str] = set()

    def say(self, kind: str, **slots: str | int) -> None:
        """Let an event happen."""
        self.world.do(Event(kind, tuple(sorted(slots.items()))))

    def person(self) -> str:
        """Somebody new."""
        name = self.choose.pick([n for n in self.names if n not in self.used])
        self.used.add(name)
        return name

    def friend_of(self, a: str) -> str:
        """The best friend if free, or somebody new."""
        friend = PEOPLE[a].friend
        if friend in self.names and friend not in self.used and self.choose.chance(0.5):
            self.used.add(friend)
            return friend
        return self.person()

    def place(self, a: str, *not_here: str | None) -> str:
        """A place that may go with person a, other than the ones named."""
        return self.choose.pick([p for p in PLACES if p not in not_here and self.allowed(a, p)])

    def thing(self, plot: str, among: Sequence[str] = lexicon.THINGS) -> str:
        """A new thing that may appear in the plot."""
        thing = self.choose.pick([t for t in among if t not in self.used and self.allowed(plot, t)])
        self.used.add(thing)
        return thing

    def own(self, a: str, t: str) -> None:
        """Let a have the thing."""
        self.say("has", a=a, t=t, look=self.choose.pick(lexicon.LOOKS))

    def introduce(self, a: str) -> None:
        """Begin with something true of a, or two things."""
        facts = 1 + self.choose.chance(0.35)
        p = PEOPLE[a]
        kinds = ["lives", "trade", "likes", "pet"] + (["friends"] if p.friend in self.names else [])
        for _ in range(facts):
            kind = kinds.pop(kinds.index(self.choose.pick(kinds)))
            slots = {"lives": {"p": p.home}, "trade": {"job": p.trade}, "likes": {"x": p.food}}
            slots |= {"pet": {"animal": p.pet}, "friends": {"b": p.friend}}
            self.say(kind, a=a, **slots[kind])

    def filler(self, a: str, chance: float = 0.6) -> None:
        """Perhaps something small that changes nothing."""
        if self.choose.chance(chance):
            kinds = ("work", "wait", "sing", "eat", "smile", "scene", "wear", "opinion", "memory")
            kind = self.choose.pick(kinds, (4, 3, 0.5, 1, 0.3, 6, 4, 3, 3))
            slots = {"scene": {}, "eat": {"a": a, "x": self.choose.pick(lexicon.FOODS)}}
            self.say(kind, **slots.get(kind, {"a": a}))

    def go(self, a: str, p: str) -> None:
        """Let a be at p."""
        self.filler(a, 0.15)
        if self.world.at.get(a) != p:
            self.say("go", a=a, p=p)

    def meet(self, a: str, b: str) -> None:
        """Let the two be at one place, where the first of them is if that is known."""
        self.say("meet", a=a, b=b, p=self.world.at.get(a) or self.world.at.get(b) or self.place(a))

    def join(self, a: str, b: str) -> None:
        """Bring a to where b is."""
        place = self.world.at.get(b)
        if place is None:
            self.say("meet", a=a, b=b, p=self.world.at.get(a) or self.place(a))
        elif self.world.at.get(a) and self.world.at.get(a) != place and self.choose.chance(0.5):
            self.say("go", a=a, p=place)
        elif self.world.at.get(a) != place:
            self.say("come", a=a, b=b)
        elif self.choose.chance(0.3):
            self.say("greet", a=a, b=b)

    def feel(self, a: str) -> None:
        """Say how a feels, if the events decide it."""
        feeling = self.world.feels.get(a)
        if feeling and self.choose.chance(0.7):
            self.say("feel_" + feeling, a=a)

    def cruel(self, a: str, b: str, times: int = 1) -> None:
        """Something mean or violent."""
        for _ in range(times):
            self.say(self.choose.pick(("insult", "mock", "push", "trip")), a=a, b=b)

    def warm(self, a: str, b: str) -> None:
        """Something kind."""
        self.say(self.choose.pick(("hug", "help", "comfort", "praise", "invite")), a=a, b=b)


def lost(w: Teller) -> Cast:
    a, t = w.person(), w.thing("lost")
    w.introduce(a)
    w.own(a, t)
    p = w.place(a, w.world.at.get(a))
    w.go(a, p)
    w.say("lose", a=a, t=t, p=p)
    q = w.place(a, p)
    w.go(a, q)
    w.filler(a, 0.6)
    w.say("miss", a=a, t=t)
    helper = None
    if w.choose.chance(0.5):
        helper = w.friend_of(a)
        w.join(helper, a)
        w.say("ask_where", a=a, b=helper, t=t)
    if w.choose.chance(0.5):
        w.say("search", a=a, p=w.place(a, p, q))
    if w.choose.chance(0.75):
        finder = helper if helper and w.choose.chance(0.5) else a
        w.say("find", a=finder, t=t, p=p)
        if finder != a:
            w.join(a, finder)
            w.say("return", a=finder, b=a, t=t)
            w.say("thank", a=a, b=finder)
        else:
            w.feel(a)
    else:
        w.feel(a)
    return dict(a=a, t=t)


def lent(w: Teller) -> Cast:
    a, t = w.person(), w.thing("lent")
    b = w.friend_of(a)
    w.introduce(a)
    w.own(a, t)
    w.meet(b, a)
    w.say("ask", a=b, b=a, t=t)
    w.say("lend", a=a, b=b, t=t)
    q = w.place(b, w.world.at[b])
    w.go(b, q)
    w.filler(b, 0.7)
    if w.choose.chance(0.3) and t in lexicon.FRAGILE:
        w.say("break", a=b, t=t)
        w.filler(b, 0.3)
        if w.choose.chance(0.7):
            w.say("fix", a=b, t=t)
    w.join(b, a)
    if w.choose.chance(0.75):
        w.say("return", a=b, b=a, t=t)
        w.say("thank", a=b, b=a) if t not in w.world.broken else w.say("apologise", a=b, b=a)
        w.feel(a)
    else:
        w.say("refuse", a=b, b=a, t=t)
        w.say("feel_angry", a=a)
    return dict(a=a, b=b, t=t)


def broken(w: Teller) -> Cast:
    a, t = w.person(), w.thing("broken", sorted(lexicon.FRAGILE))
    b = w.friend_of(a)
    w.introduce(a)
    w.own(a, t)
    w.go(a, w.place(a, w.world.at.get(a)))
    culprit = w.choose.pick((a, b))
    if culprit == b:
        w.join(b, a)
    w.say("break", a=culprit, t=t)
    if culprit == b:
        if w.choose.chance(0.6):
            w.say("apologise", a=b, b=a)
        else:
            w.cruel(b, a)
    else:
        w.say("feel_sad", a=a)
        w.join(b, a)
        w.say("comfort", a=b, b=a)
    w.filler(b)
    fixer = w.choose.pick((a, b, None))
    if fixer:
        w.say("fix", a=fixer, t=t)
        if fixer == b:
            w.say("thank", a=a, b=b)
    w.feel(a)
    return dict(a=a, t=t)


def treasure(w: Teller) -> Cast:
    a, b, t = w.person(), w.person(), w.thing("treasure")
    w.introduce(a)
    w.own(a, t)
    p = w.place(a, w.world.at.get(a))
    w.go(a, p)
    w.say("hide", a=a, t=t, p=p)
    w.go(a, w.place(a, p))
    w.filler(a, 0.8)
    w.filler(a, 0.5)
    w.join(b, a)
    if w.choose.chance(0.5):
        w.say("ask_where", a=b, b=a, t=t)
        w.say("tell", a=a, b=b, t=t, p=p)
        w.say("go_together", a=a, b=b, p=p)
    else:
        w.say("talk", a=b, b=a)
        w.say("remember", a=a, t=t, p=p)
        w.go(a, p)
    w.say("find", a=a, t=t, p=p)
    w.filler(a)
    return dict(a=a, t=t, p=p)


def gift(w: Teller) -> Cast:
    a, t = w.person(), w.thing("gift", sorted(lexicon.MAKEABLE))
    b = w.friend_of(a)
    look = w.choose.pick(lexicon.LOOKS)
    w.introduce(b)
    w.say("want", a=b, t=t, look=look)
    w.filler(b, 0.3)
    w.introduce(a)
    w.say("make", a=a, t=t, look=look)
    if w.choose.chance(0.4):
        p = w.place(a, w.world.at.get(a))
        w.go(a, p)
        w.say("leave", a=a, t=t, p=p)
        w.filler(a)
        w.say("find", a=b, t=t, p=p)
        w.say("feel_happy", a=b)
    else:
        w.join(a, b)
        w.say("give", a=a, b=b, t=t)
        w.say("thank", a=b, b=a)
        w.feel(b)
    return dict(a=a, b=b, t=t)


def stolen(w: Teller) -> Cast:
    a, b, t = w.person(), w.person(), w.thing("stolen")
    w.introduce(a)
    w.own(a, t)
    w.meet(b, a)
    w.say("steal", a=b, b=a, t=t)
    w.go(b, w.place(b, w.world.at[b]))
    w.filler(b)
    w.say("miss", a=a, t=t)
    if w.choose.chance(0.5):
        w.join(a, b)
        w.say("return", a=b, b=a, t=t)
        w.say("apologise", a=b, b=a)
        if w.choose.chance(0.6):
            w.say("invite", a=a, b=b)
    else:
        w.feel(a)
        if w.choose.chance(0.5):
            w.join(b, a)
            w.cruel(b, a)
    return dict(a=a, b=b, t=t)


def false_blame(w: Teller) -> Cast:
    a, b, t = w.person(), w.person(), w.thing("false_blame")
    w.introduce(a)
    w.own(a, t)
    p = w.place(a, w.world.at.get(a))
    w.go(a, p)
    w.say("lose", a=a, t=t, p=p)
    w.go(a, w.place(a, p))
    w.say("miss", a=a, t=t)
    w.join(b, a)
    w.say("blame", a=a, b=b)
    w.say("feel_angry", a=b)
    w.filler(b)
    w.say("find", a=a, t=t, p=p)
    w.join(a, b)
    if w.choose.chance(0.7):
        w.say("apologise", a=a, b=b)
        w.feel(b)
    else:
        w.cruel(a, b)
    return dict(a=a, b=b, t=t)


def quarrel(w: Teller) -> Cast:
    a, b = w.person(), w.person()
    w.introduce(a)
    w.introduce(b)
    w.meet(a, b)
    w.cruel(a, b, w.choose.number(1, 2))
    w.feel(b)
    w.go(b, w.place(b, w.world.at.get(b)))
    w.filler(b)
    if w.choose.chance(0.55):
        w.filler(a)
        w.join(a, b)
        w.say("apologise", a=a, b=b)
        w.feel(b)
    return dict(a=a, b=b)


def bully(w: Teller) -> Cast:
    a, b, c = w.person(), w.person(), w.person()
    w.introduce(a)
    w.meet(a, b)
    w.cruel(a, b, w.choose.number(1, 3))
    w.feel(b)
    if w.choose.chance(0.5):
        w.join(c, b)
        w.say("comfort", a=c, b=b)
        w.warm(c, b)
    else:
        w.join(c, b)
        w.cruel(c, b)
        w.say("smile", a=a)
    return dict(a=a, b=b)


def cooking(w: Teller) -> Cast:
    a = w.person()
    b = w.friend_of(a)
    w.introduce(b)
    w.introduce(a)
    x = w.choose.pick((PEOPLE[b].food, w.choose.pick(lexicon.FOODS)))
    w.say("cook", a=a, x=x)
    w.filler(a)
    w.join(b, a)
    w.say("share_food", a=a, b=b, x=x)
    w.feel(b)
    w.say("thank", a=b, b=a)
    return dict(a=a, b=b, x=x)


def harvest(w: Teller) -> Cast:
    a = w.person()
    w.introduce(a)
    g = w.choose.pick(sorted(lexicon.GOODS))
    n, m = w.choose.number(2, 9), w.choose.number(2, 9)
    w.say("owns_goods", a=a, g=g, n=n)
    w.filler(a)
    w.go(a, w.place(a, w.world.at.get(a)))
    w.say("gets_goods", a=a, g=g, n=m)
    total = n + m
    w.filler(a)
    if w.choose.chance(0.4) and total > 4:
        k = w.choose.number(2, min(9, total - 2))
        w.say("loses_goods", a=a, g=g, n=k)
        total -= k
    w.say("total_goods", a=a, g=g, n=total)
    w.filler(a)
    return dict(a=a, g=g)


def sharing(w: Teller) -> Cast:
    a = w.person()
    b = w.friend_of(a)
    w.introduce(a)
    g = w.choose.pick(sorted(lexicon.GOODS))
    n = w.choose.number(5, 18)
    k = w.choose.number(2, min(9, n - 2))
    w.say("owns_goods", a=a, g=g, n=n)
    w.join(b, a)
    w.say("gives_goods", a=a, b=b, g=g, n=k)
    w.filler(b)
    w.say("thank", a=b, b=a)
    w.say("total_goods", a=a, g=g, n=n - k)
    if w.choose.chance(0.5):
        w.say("total_goods", a=b, g=g, n=k)
    return dict(a=a, b=b, g=g)


def promise(w: Teller) -> Cast:
    a = w.person()
    b = w.friend_of(a)
    w.introduce(a)
    w.meet(a, b)
    p = w.place(a, w.world.at[a])
    w.say("promise", a=a, b=b, p=p)
    w.filler(a, 0.8)
    w.filler(b, 0.6)
    if w.choose.chance(0.65):
        w.say("keep_promise", a=a, b=b, p=p)
        w.feel(b)
    else:
        w.say("break_promise", a=a, b=b, p=p)
        w.feel(b)
        if w.choose.chance(0.5):
            w.join(a, b)
            w.say("apologise", a=a, b=b)
    return dict(a=a, b=b, p=p)


def barter(w: Teller) -> Cast:
    a, b, t, u = w.person(), w.person(), w.thing("barter"), w.thing("barter")
    w.introduce(a)
    w.own(a, t)
    w.own(b, u)
    w.meet(a, b)
    w.say("trade_for", a=a, b=b, t=t, u=u)
    w.filler(a)
    w.filler(b)
    return dict(a=a, b=b, t=t, u=u)


def lesson(w: Teller) -> Cast:
    a = w.person()
    b = w.friend_of(a)
    s = w.choose.pick(sorted(lexicon.SKILLS))
    w.introduce(b)
    w.say("cannot", a=b, s=s)
    if w.choose.chance(0.4):
        c = w.person()
        w.join(c, b)
        w.say("mock", a=c, b=b)
    w.feel(b)
    w.join(a, b)
    w.say("teach", a=a, b=b, s=s)
    w.filler(b)
    w.say("can_now", a=b, s=s)
    if w.choose.chance(0.5):
        w.say("praise", a=a, b=b)
    return dict(a=a, b=b, s=s)


def runaway(w: Teller) -> Cast:
    a = w.person()
    animal = PEOPLE[a].pet
    w.say("pet", a=a, animal=animal)
    p = w.place(a, w.world.at.get(a))
    w.say("pet_gone", a=a, animal=animal, p=p)
    w.feel(a)
    if w.choose.chance(0.5):
        b = w.friend_of(a)
        if a not in w.world.at:
            w.go(a, w.place(a, p))
        w.join(b, a)
        w.say("comfort", a=b, b=a)
        w.say("go_together", a=a, b=b, p=p)
    else:
        w.go(a, w.place(a, p, w.world.at.get(a)))
        w.filler(a)
    w.say("pet_found", a=a, animal=animal, p=p)
    w.filler(a)
    return dict(a=a, animal=animal)


def illness(w: Teller) -> Cast:
    a = w.person()
    b = w.friend_of(a)
    w.introduce(a)
    w.say("ill", a=a)
    w.filler(b, 0.3)
    w.say("bring_food", a=b, b=a, x=w.choose.pick((PEOPLE[a].food, w.choose.pick(lexicon.FOODS))))
    w.say(w.choose.pick(("comfort", "help", "talk")), a=b, b=a)
    if w.choose.chance(0.8):
        w.say("well_again", a=a)
        w.say("thank", a=a, b=b)
    return dict(a=a, b=b)


def seen(w: Teller) -> Cast:
    a, b, t = w.person(), w.person(), w.thing("seen")
    w.own(a, t)
    p = w.place(a, w.world.at.get(a))
    w.go(a, p)
    w.say("lose", a=a, t=t, p=p)
    w.go(a, w.place(a, p))
    w.introduce(b)
    w.say("see", a=b, t=t, p=p)
    w.filler(b)
    w.say("miss", a=a, t=t)
    w.join(b, a)
    if w.choose.chance(0.75):
        w.say("tell", a=b, b=a, t=t, p=p)
        w.filler(a, 0.3)
        w.say("find", a=a, t=t, p=p)
        w.filler(a)
    else:
        w.cruel(b, a)
        w.feel(a)
    return dict(a=a, b=b, t=t)


def errand(w: Teller) -> Cast:
    a, b, t = w.person(), w.person(), w.thing("errand")
    c = w.person()
    w.introduce(a)
    w.own(a, t)
    w.meet(a, b)
    w.say("lend", a=a, b=b, t=t)
    w.go(b, w.place(b, w.world.at[b]))
    w.join(c, b)
    w.say("ask", a=c, b=b, t=t)
    w.say("refuse", a=b, b=c, t=t)
    w.filler(c)
    w.join(b, a)
    w.say("return", a=b, b=a, t=t)
    w.say("praise", a=a, b=b)
    return dict(a=a, b=b, t=t)


def wish(w: Teller) -> Cast:
    a, t = w.person(), w.thing("wish", sorted(lexicon.MAKEABLE))
    look = w.choose.pick(lexicon.LOOKS)
    w.introduce(a)
    w.say("want", a=a, t=t, look=look)
    w.filler(a, 0.8)
    w.say("make", a=a, t=t, look=look)
    w.go(a, w.place(a, w.world.at.get(a)))
    b = w.person()
    w.join(b, a)
    w.say(*w.choose.pick((("praise",), ("mock",))), a=b, b=a)
    w.feel(a)
    return dict(a=a, t=t)


def greedy(w: Teller) -> Cast:
    a, b, t = w.person(), w.person(), w.thing("greedy")
    w.introduce(b)
    w.own(a, t)
    w.meet(b, a)
    w.say("ask", a=b, b=a, t=t)
    w.say("refuse", a=a, b=b, t=t)
    if w.choose.chance(0.5):
        w.say("feel_sad", a=b)
        w.filler(a)
        w.say("give", a=a, b=b, t=t)
        w.feel(b)
    else:
        w.say("steal", a=b, b=a, t=t)
        w.cruel(a, b)
    return dict(a=a, b=b, t=t)


def visit(w: Teller) -> Cast:
    a = w.person()
    b = w.friend_of(a)
    w.introduce(a)
    w.introduce(b)
    p = PEOPLE[b].home
    w.go(a, p)
    w.say("meet", a=a, b=b, p=p)
    w.say("talk", a=a, b=b)
    x = w.choose.pick(lexicon.FOODS)
    w.say("share_food", a=b, b=a, x=x)
    w.feel(a)
    w.say("sleep", a=a)
    return dict(a=a, b=b)


PLOTS: dict[str, Callable[[Teller], Cast]] = {
    function.__name__: function
    for function in (
        lost,
        lent,
        broken,
        treasure,
        gift,
        stolen,
        false_blame,
        quarrel,
        bully,
        cooking,
        harvest,
        sharing,
        promise,
        barter,
        lesson,
        runaway,
        illness,
        seen,
        errand,
        wish,
        greedy,
        visit,
    )  # fmt: skip
}
