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
    "mood": lexicon.MOODS,
    "festival": lexicon.FESTIVALS,
    "detail": lexicon.DETAILS,
    "topic2": lexicon.TOPICS,
    "dream2": lexicon.DREAMS,
    "colour": lexicon.COLOURS,
    "colour2": lexicon.COLOURS,
    "garment": lexicon.GARMENTS,
    "garment2": lexicon.SHOES,
    "opinion": lexicon.OPINIONS,
    "opinion2": lexicon.OPINIONS,
    "relative": lexicon.RELATIVES,
    "deed": lexicon.DEEDS,
    "deed2": lexicon.DEEDS,
    "spot": lexicon.SPOTS,
    "sky": lexicon.SKIES,
}
BIRD_LISTS = {"creature2": lexicon.BIRDS, "move": lexicon.BIRD_MOVES}  # what goes with a bird
BEAST_LISTS = {"creature2": lexicon.BEASTS, "move": lexicon.BEAST_MOVES, "spot": lexicon.LOW_SPOTS}
FIRST_MENTION = frozenset({"has", "make", "want"})  # events that say what a thing looks like
_SLOT = re.compile(r"\[([a-z0-9]+)((?:\.[A-Za-z]+)*)\]")
# after these words a person is an object, so that "him" or "her" is grammatical
_OBJECT_AFTER = frozenset(
    "to at for from told asked met saw gave with beside helped hugged comforted praised invited thanked greeted "
    "promised pushed kicked blamed taught lent".split()
)


# after these words a person is the subject, so that "he" or "she" is grammatical
_SUBJECT_AFTER = frozenset(
    "that slowly so then last long first evening evenings day night again carefully thoughts soon now delay noon "
    "end this surely".split()
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


# events that an opener such as "A little later," may precede; "Soon, Tom lived at the mill" would be odd
OPENED = frozenset(
    "go go_together meet come lose hide leave search find see tell ask ask_where give lend return steal break fix make "
    "trade_for gets_goods gives_goods insult mock push trip blame apologise hug help comfort praise invite thank greet "
    "talk promise teach cook share_food bring_food work wait sing eat".split()
)
# events whose sentence may go on with "while the bells rang"
TAILED = frozenset(
    "go go_together meet come search find see give return steal fix hug help talk share_food bring_food work sing eat "
    "cook hide leave".split()
)


MANNERED = frozenset(
    "go go_together come search give return fix help share_food bring_food sing hide leave work eat steal meet".split()
)  # or with "quickly"


def _has_tail(kind: str, form: str) -> bool:
    return kind in TAILED and form.endswith("].") and '"' not in form and "t was" not in form


def realise(
    event: Event,
    form: str,
    context: Context,
    looks: dict[str, str],
    choose: Chooser,
    lists: dict[str, Sequence[str]] | None = None,
) -> str:
    """Fill a form's slots.

    Args:
        event: what happened.
        form: one of `FORMS[event.kind]`.
        context: who was named last.
        looks: adjective of each thing.
        choose: decides what is free: pronoun or name, adjective or not, words that carry no fact.
        lists: words for the free slots, if not all; then nothing is put before or after the form either.

    Returns:
        one or two sentences, capitalised.
    """
    plain = lists is not None
    parts, position, by_pronoun, lists = [], 0, set(), WORD_LISTS | (lists or {})
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
                parts.append(f"{determiner} {look} {value}" if choose.chance(0.6) else f"{determiner} {value}")
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
            skill = SKILLS[str(value)] if how.lower() == "ing" else str(value)
            parts.append(skill.capitalize() if how == "Ing" else skill)
        elif slot in WORD_LISTS:
            word = choose.pick([w for w in lists[slot] if w not in parts])
            parts.append(word)
            if slot == "creature":
                lists = WORD_LISTS | (BIRD_LISTS if word in lexicon.BIRDS else BEAST_LISTS)
        else:
            parts.append(str(value))
    text = "".join(parts) + form[position:]
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    if plain:
        return text[0].upper() + text[1:]
    if _has_tail(event.kind, form) and choose.chance(0.45):
        tails = [*lexicon.TAILS, *(lexicon.MANNERS if event.kind in MANNERED else ())]
        tail = choose.pick(("while a [mood] [creature] [move] [spot]", *tails), (0.5 * len(tails), *[1] * len(tails)))
        if "[" in tail:
            tail = realise(Event("tail", ()), tail, context, looks, choose)
            tail = tail[0].lower() + tail[1:]
        text = f"{text[:-1]} {tail}."
    elif event.kind in OPENED and form.startswith("[a]") and choose.chance(0.2):  # not before "So", "Then" or "There"
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
        return pronoun(name, "he") if choose.chance(0.8) else name
    clear = other is None or PEOPLE[str(other)].woman != PEOPLE[name].woman
    if safe and clear and _previous_word(before) in _OBJECT_AFTER:
        return pronoun(name, "him") if choose.chance(0.5) else name
    if safe and _previous_word(before) in _SUBJECT_AFTER:
        return pronoun(name, "he") if choose.chance(0.6) else name
    return name


_TAIL = "|".join(
    [
        "while an? " + " ".join(f"(?:{'|'.join(WORD_LISTS[x])})" for x in ("mood", "creature", "move", "spot")),
        *lexicon.TAILS,
        *lexicon.MANNERS,
    ]
)


def _pattern(form: str, opened: bool, tailed: bool) -> str:
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
                options = names + "|him|her|he|she"
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
                "s": {"ing": SKILLS.values(), "Ing": [s.capitalize() for s in SKILLS.values()]}.get(how, SKILLS),
                "x": lexicon.FOODS,
                "job": lexicon.TRADES,
                "animal": lexicon.PETS,
            }.get(slot) or WORD_LISTS[slot]
            pieces.append(f"(?P<{group}>{'|'.join(options)})")
    rest = re.escape(form[position:])
    if tailed:
        rest = f"(?: (?:{_TAIL}))?{rest}"
    pieces.append(rest)
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
            self._compiled = re.compile(_pattern(self.text, self.kind in OPENED, _has_tail(self.kind, self.text)))
        return self._compiled

    def __post_init__(self):
        pieces = [re.sub(r" [Aa]$| $", "", piece) for piece in _SLOT.sub("\n", self.text).split("\n")]
        self._start, self._pieces = pieces[0], sorted((p.lstrip() for p in pieces[1:]), key=len, reverse=True)
        self._pieces = [p.rstrip(".") for p in self._pieces if len(p) > 2]

    def fits(self, window: str) -> bool:
        """Whether the fixed words of this form occur: a cheap test before the expensive one."""
        return window.startswith(self._start) and all(piece in window for piece in self._pieces)


_READABLE = [_Form(kind, text) for kind, forms in FORMS.items() for text in forms]
# with the longest run of fixed words and the first ones: two looks that reject most forms before any call
_QUICK = [(form._pieces[0] if form._pieces else "", form._start, form) for form in _READABLE]
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
        best, best_form, window = None, None, text[position : position + 250]
        for piece, start, form in _QUICK:
            if piece in window and window.startswith(start) and form.fits(window):
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
        "s": lambda v: _SKILL_OF.get(v.lower(), v),
        "x": str,
        "job": str,
        "animal": str,
    }
    for slot, function in convert.items():
        if slot in found:
            slots[slot] = function(found[slot][0])
    return Event(kind, tuple(sorted(slots.items()))), looks, problem
