"""From events to sentences and back (chapter 8).

The same list of sentence forms serves both ways: filled in, a form is a sentence; turned into a regular expression,
it recognises one. So every text the village writes can be read again, and a text that a model writes can be checked.

Does: names, pronouns where they are unambiguous, articles, first and later mentions; reading back event by event.
Does not: understand sentences outside the forms; those are counted as unread.
Source: the sentences of `minillama.village.forms`.
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from minillama.village import lexicon
from minillama.village.forms import FORMS
from minillama.village.lexicon import GOODS, NUMBERS, PEOPLE, PLACES, SKILLS, THINGS
from minillama.village.world import Event

WORD_LISTS = {
    "happy": lexicon.HAPPY,
    "sad": lexicon.SAD,
    "angry": lexicon.ANGRY,
    "weather": lexicon.WEATHER,
    "weather2": lexicon.WEATHER,
    "time": lexicon.TIMES,
    "insult": lexicon.INSULTS,
    "task": lexicon.TASKS,
    "task2": lexicon.TASKS,
    "topic": lexicon.TOPICS,
    "song": lexicon.SONGS,
    "dream": lexicon.DREAMS,
    "creature": lexicon.CREATURES,
    "creature2": lexicon.CREATURES,
    "move": lexicon.MOVES,
    "spot": lexicon.SPOTS,
    "sky": lexicon.SKIES,
}
FIRST_MENTION = frozenset({"has", "make", "want"})  # events that say what a thing looks like
_SLOT = re.compile(r"\[([a-z0-9]+)((?:\.[A-Za-z]+)*)\]")
# after these words a person is an object, so that "him" or "her" is grammatical
_OBJECT_AFTER = frozenset(
    "to at for from told asked met saw gave with beside helped hugged comforted praised invited thanked greeted "
    "promised pushed kicked blamed taught lent".split()
)


class Chooser:
    """A source of choices that keeps count of how much it has chosen.

    Attributes:
        bits: sum of -log2(probability) over all choices: an upper bound on the information in the text.
    """

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self.bits = 0.0

    def pick(self, options: Sequence, weights: Sequence[float] | None = None):
        """One of the options, uniformly or by weight."""
        if weights is None:
            self.bits += math.log2(len(options))
            return options[self._random.randrange(len(options))]
        index = self._random.choices(range(len(options)), weights)[0]
        self.bits -= math.log2(weights[index] / sum(weights))
        return options[index]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.pick((True, False), (probability, 1 - probability)) if 0 < probability < 1 else probability == 1

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.pick(range(low, high + 1))


@dataclass
class Context:
    """Who was named last, which decides what a pronoun means; the same for writing and reading."""

    people: tuple[str, ...] = ()

    def meaning(self, woman: bool) -> str | None:
        """The one person of this sex in the sentence before, or None if there is none or more than one."""
        fitting = [name for name in self.people if PEOPLE[name].woman == woman]
        return fitting[0] if len(fitting) == 1 else None

    def after(self, event: Event) -> None:
        """Take note of a sentence."""
        named = tuple(str(event[slot]) for slot in ("a", "b") if event.get(slot))
        if named:
            self.people = named


def pronoun(name: str, form: str) -> str:
    """He, him, his, or hers in the person's sex."""
    return {"he": ("he", "she"), "him": ("him", "her"), "his": ("his", "her"), "own": ("his", "hers")}[form][
        PEOPLE[name].woman
    ]


def _previous_word(text: str) -> str:
    words = re.findall(r"[a-z]+|[.,!?\"]", text)
    return words[-1] if words else ""


# events that an opener such as "A little later," may precede; "Next, Tom lived at the mill" would be odd
OPENED = frozenset(
    "go go_together meet come lose hide leave miss search find see tell ask ask_where refuse give lend return steal "
    "break fix make trade_for gets_goods gives_goods insult mock push trip blame apologise hug help comfort praise "
    "invite thank greet talk feel_happy feel_sad feel_angry promise teach cook share_food bring_food well_again work "
    "wait sing eat sleep smile".split()
)


def realise(event: Event, form: str, context: Context, looks: dict[str, str], choose: Chooser) -> str:
    """Fill a form's slots.

    Args:
        event: what happened.
        form: one of `FORMS[event.kind]`.
        context: who was named last.
        looks: adjective of each thing.
        choose: decides what is free: pronoun or name, adjective or not, words that carry no fact.

    Returns:
        one or two sentences, capitalised.
    """
    parts, position, by_pronoun = [], 0, set()
    for match in _SLOT.finditer(form):
        parts.append(form[position : match.start()])
        position = match.end()
        slot, how = match[1], match[2].rsplit(".", 1)[-1]
        value = event.get(slot)
        if slot in ("a", "b"):
            parts.append(_person(str(value), how, "".join(parts), event, slot, context, by_pronoun, choose))
        elif slot in ("t", "u"):
            look = looks[str(value)]
            if how == "a":
                parts.append(f"a {look} {value}")
            elif how == "n":
                parts.append(str(value))
            else:
                determiner = "your" if how == "my" else "the"
                parts.append(f"{determiner} {look} {value}" if choose.chance(0.25) else f"{determiner} {value}")
        elif slot == "p":
            where = PLACES[str(value)][how == "to"]
            parts.append(where[0].upper() + where[1:] if how == "Cap" else where)
        elif slot == "n":
            parts.append(NUMBERS[int(value)])
        elif slot == "g":
            parts.append(GOODS[str(value)].capitalize() if how == "Cap" else GOODS[str(value)])
        elif how == "Cap":
            parts.append(str(value).capitalize())
        elif slot == "s":
            parts.append(SKILLS[str(value)] if how == "ing" else str(value))
        elif slot in WORD_LISTS:
            parts.append(choose.pick(WORD_LISTS[slot]))
        else:
            parts.append(str(value))
    text = "".join(parts) + form[position:]
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    if event.kind in OPENED and form.startswith("[a]") and choose.chance(0.25):  # not before "So", "Then" or "There"
        return f"{choose.pick(lexicon.OPENERS)} {text}"
    return text[0].upper() + text[1:]


def _person(name, how, before, event, slot, context, by_pronoun, choose) -> str:
    if how in ("he", "him", "his", "own"):
        return pronoun(name, how)
    if how == "poss":
        return name + "'s"
    other = event.get("b" if slot == "a" else "a")
    safe = context.meaning(PEOPLE[name].woman) == name and slot not in by_pronoun
    by_pronoun.add(slot)  # later mentions in the sentence use the name, so that a reader can tell who is meant
    if safe and before == "":
        return pronoun(name, "he") if choose.chance(0.6) else name
    clear = other is None or PEOPLE[str(other)].woman != PEOPLE[name].woman
    if safe and clear and _previous_word(before) in _OBJECT_AFTER:
        return pronoun(name, "him") if choose.chance(0.5) else name
    return name


def _pattern(form: str, opened: bool) -> str:
    names, things = "|".join(PEOPLE), "|".join(THINGS)
    pieces, position, seen = [], 0, {}
    for match in _SLOT.finditer(form):
        literal = form[position : match.start()]
        pieces.append(re.sub(r"\b([Aa])\\ $", r"\1n?\\ ", re.escape(literal)))
        position = match.end()
        slot, how = match[1], match[2].rsplit(".", 1)[-1]
        seen[slot] = seen.get(slot, 0) + 1
        group = f"{slot}__{seen[slot]}"
        if slot in ("a", "b"):
            if how in ("he", "him", "his", "own"):
                options = {"he": "he|she", "him": "him|her", "his": "his|her", "own": "his|hers"}[how]
                group = f"{slot}_again__{seen[slot]}"
            elif how == "poss":
                pieces.append(f"(?P<{group}>{names})'s")
                continue
            elif match.start() == 0:
                options = names + "|He|She|he|she"
            else:
                options = names + "|him|her"
            pieces.append(f"(?P<{group}>{options})")
        elif slot in ("t", "u"):
            look = "|".join(lexicon.LOOKS)
            if how == "a":
                pieces.append(f"an? (?P<{slot}_look__{seen[slot]}>{look}) (?P<{group}>{things})")
            elif how == "n":
                pieces.append(f"(?P<{group}>{things})")
            else:
                determiner = "your" if how == "my" else "the"
                if not "".join(pieces):
                    determiner = determiner.capitalize()
                pieces.append(f"(?:{determiner}) (?:(?P<{slot}_look__{seen[slot]}>{look}) )?(?P<{group}>{things})")
        elif slot == "p":
            phrases = [where[how == "to"] for where in PLACES.values()]
            if how == "Cap":
                phrases = [phrase[0].upper() + phrase[1:] for phrase in phrases]
            pieces.append(f"(?P<{group}>{'|'.join(phrases)})")
        else:
            options = {
                "n": NUMBERS,
                "g": GOODS.values(),
                "s": SKILLS.values() if how == "ing" else SKILLS,
                "x": lexicon.FOODS,
                "job": lexicon.TRADES,
                "animal": lexicon.PETS,
            }.get(slot) or WORD_LISTS[slot]
            pieces.append(f"(?P<{group}>{'|'.join(options)})")
    pieces.append(re.escape(form[position:]))
    if opened and form.startswith("[a]"):
        pieces.insert(0, f"(?:(?:{'|'.join(lexicon.OPENERS)}) )?")
    return "".join(pieces) + r"(?= |\n|$)"


@dataclass
class _Form:
    kind: str
    text: str
    _compiled: re.Pattern | None = field(default=None, repr=False)

    @property
    def pattern(self) -> re.Pattern:
        if self._compiled is None:
            self._compiled = re.compile(_pattern(self.text, self.kind in OPENED))
        return self._compiled

    @property
    def key(self) -> str:
        """A word that every sentence of this form contains: a cheap test before the expensive one."""
        return max(_SLOT.sub("\n", self.text).split("\n"), key=len).strip()


_READABLE = [_Form(kind, text) for kind, forms in FORMS.items() for text in forms]
_PLACE_OF = {phrase: place for place, phrases in PLACES.items() for phrase in phrases}
_GOODS_OF = {plural: singular for singular, plural in GOODS.items()}
_SKILL_OF = {ing: base for base, ing in SKILLS.items()}


@dataclass
class Reading:
    """One sentence of a text as understood.

    Attributes:
        text: the sentence.
        event: what it says; None if it fits no form.
        looks: adjectives it gives to things mentioned before.
        problem: what is wrong with it by itself, such as a pronoun that can mean nobody; None if nothing is.
    """

    text: str
    event: Event | None
    looks: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


def read(text: str) -> Iterator[Reading]:
    """Understand a text sentence by sentence.

    Args:
        text: sentences in the village's forms, separated by spaces.

    Yields:
        a `Reading` for each, in order; what fits no form is skipped up to the next full stop.
    """
    context, position = Context(), 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        best, best_form = None, None
        for form in _READABLE:
            if form.key in text[position : position + 200]:
                match = form.pattern.match(text, position)
                if match and (best is None or match.end() > best.end()):
                    best, best_form = match, form
        if best is None:
            stop = re.compile(r"[.!?]\"?(?= |\n|$)").search(text, position)
            end = stop.end() if stop else len(text)
            yield Reading(text[position:end], None)
            position = end
            continue
        event, looks, problem = _event(best_form.kind, best, context)
        context.after(event)
        yield Reading(best[0], event, looks, problem)
        position = best.end()


def _event(kind: str, match: re.Match, context: Context) -> tuple[Event, dict[str, str], str | None]:
    found: dict[str, list[str]] = {}
    for group, value in match.groupdict().items():
        if value is not None:
            found.setdefault(group.split("__")[0], []).append(value)
    slots: dict[str, str | int] = {}
    problem = None
    for slot in ("a", "b"):
        for value in found.get(slot, []):
            if value not in PEOPLE:
                woman = value.lower() in ("she", "her")
                name = context.meaning(woman)
                if name is None:
                    problem = f"{value!r} can mean nobody, or more than one"
                    name = next(n for n in PEOPLE if PEOPLE[n].woman == woman)
                value = name
            if slots.setdefault(slot, value) != value:
                problem = f"{slots[slot]} and {value} stand for the same person"
        for value in found.get(slot + "_again", []):
            if slot in slots and (value in ("she", "her", "hers")) != PEOPLE[str(slots[slot])].woman:
                problem = f"{value!r} does not fit {slots[slot]}"
    looks = {}
    for slot in ("t", "u"):
        if slot in found:
            slots[slot] = found[slot][0]
            if slot + "_look" in found:
                looks[found[slot][0]] = found[slot + "_look"][0]
    if kind in FIRST_MENTION:
        slots["look"] = looks.pop(str(slots["t"]))
    convert = {
        "p": lambda v: _PLACE_OF[v[0].lower() + v[1:]],
        "n": NUMBERS.index,
        "g": _GOODS_OF.__getitem__,
        "s": lambda v: _SKILL_OF.get(v, v),
        "x": str,
        "job": str,
        "animal": str,
    }
    for slot, function in convert.items():
        if slot in found:
            slots[slot] = function(found[slot][0])
    return Event(kind, tuple(sorted(slots.items()))), looks, problem
