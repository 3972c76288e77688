"""A story (chapter 8): a plot told in sentences, with its record of facts.

Does: stories from a seed, titled or not; combinations that are held out of training; a check of any text.
Does not: requests and answers.
Source: invented for this book.
"""

import hashlib
from dataclasses import dataclass

from minillama.village import lexicon
from minillama.village.forms import FORMS, TITLES
from minillama.village.language import Chooser, Context, Reading, read, realise
from minillama.village.plots import PLOTS, Teller
from minillama.village.world import Contradiction, Event, World

TITLED = 0.7  # share of stories with a title: what lets a model learn later to write about what it is asked for


@dataclass(frozen=True)
class Story:
    """One story with what it says.

    Attributes:
        title: one line that states what the story is about; None for some.
        body: the sentences.
        plot: key of `PLOTS`.
        events: what happens, in order: the record of facts.
        bits: information in the generator's choices; an upper bound on that of the text.
    """

    title: str | None
    body: str
    plot: str
    events: tuple[Event, ...]
    bits: float

    @property
    def text(self) -> str:
        """Title line, if any, and body."""
        return self.body if self.title is None else f"{self.title}\n{self.body}"


def held_out(x: str, y: str) -> bool:
    """Whether a pair (person x place, plot x thing) is kept out of training: about one pair in twelve."""
    return hashlib.sha256(f"{x}|{y}".encode()).digest()[0] < 21


def tell(seed: int, split: str = "train", names: tuple[str, ...] = lexicon.COMMON_NAMES) -> Story:
    """Write a story.

    Args:
        seed: the same seed gives the same story.
        split: "train" uses no held-out pair and no held-out name; "test" draws freely.
        names: whom stories are about.

    Raises:
        ValueError: if the split is unknown.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    choose = Chooser(seed)
    allowed = (lambda x, y: not held_out(x, y)) if split == "train" else (lambda x, y: True)
    if split == "train":
        names = tuple(n for n in names if n not in lexicon.HELD_OUT_NAMES)
    plot = choose.pick(sorted(PLOTS))
    teller = Teller(choose, names, allowed)
    if choose.chance(0.4):
        teller.say("weather")
    cast = PLOTS[plot](teller)
    if choose.chance(0.35):
        teller.say("quiet_end")
    context, sentences = Context(), []
    for event in teller.world.done:
        sentences.append(realise(event, choose.pick(FORMS[event.kind]), context, teller.world.look, choose))
        context.after(event)
    title = None
    if choose.chance(TITLED):
        topic = Event("title", tuple(sorted(cast.items())))
        title = realise(topic, choose.pick(TITLES[plot]), Context(), teller.world.look, choose)
    return Story(title, " ".join(sentences), plot, tuple(teller.world.done), choose.bits)


@dataclass(frozen=True)
class Check:
    """What the reader says of a text: sentences read, sentences not understood, contradictions found."""

    readings: tuple[Reading, ...]
    problems: tuple[str, ...]
    unread: int


def check(text: str) -> Check:
    """Read a text and play it through the world's rules."""
    world, readings, problems = World(), [], []
    for reading in read(text):
        readings.append(reading)
        if reading.problem:
            problems.append(reading.problem)
        if reading.event is None:
            continue
        for thing, look in reading.looks.items():
            if world.look.get(thing, look) != look:
                problems.append(f"the {thing} was {world.look[thing]}, now {look}")
        try:
            world.do(reading.event)
        except Contradiction as error:
            problems.append(str(error))
    return Check(tuple(readings), tuple(problems), sum(r.event is None for r in readings))
