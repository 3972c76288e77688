"""Lasting instructions: drawn from what training may see, obeyed, checked and taken off again."""

import re

import pytest

from minillama.village.demonstrations import demonstrate
from minillama.village.instructions import (
    KINDS,
    SHORT,
    VALUES,
    conversation,
    draw_instruction,
    held_out,
    instruct,
    kept,
    mark,
    marked,
    obey,
    obeys,
    without,
)
from minillama.village.language import Chooser
from minillama.village.lexicon import HELD_OUT_NAMES
from minillama.village.requests import SPLITS, split_of

CHOOSE = Chooser(0)
DRAWN = [draw_instruction(CHOOSE) for _ in range(400)]


def test_the_wording_is_long_or_short():
    assert instruct({"figure": "miller"}).text == "Always act as the miller from now on."
    assert instruct({"figure": "miller", "hobby": "kites"}, short=True).text == "Figure: miller. Hobby: kites."
    short = sum(":" in i.text for i in DRAWN) / len(DRAWN)
    assert 0.4 < short < 0.6


@pytest.mark.parametrize(
    ("attributes", "message"),
    [({}, "kinds"), ({"shoe": "miller"}, "shoe"), ({"figure": "kites"}, "'kites' is no figure; use one of")],
)
def test_an_impossible_instruction_is_an_error(attributes, message):
    with pytest.raises(ValueError, match=message):
        instruct(attributes)


def test_one_or_two_attributes_of_different_kinds_are_drawn():
    assert {len(i.attributes) for i in DRAWN} == {1, 2}
    assert all(len({kind for kind, _ in i.attributes}) == len(i.attributes) for i in DRAWN)
    assert {kind for i in DRAWN for kind, _ in i.attributes} == set(KINDS)
    only = [draw_instruction(CHOOSE, ("hobby",)) for _ in range(20)]
    assert {kind for i in only for kind, _ in i.attributes} == {"hobby"} and {len(i.attributes) for i in only} == {1}


def test_pairs_that_are_held_out_are_drawn_only_when_asked_for():
    assert not any(held_out(i) for i in DRAWN)
    unseen = [draw_instruction(CHOOSE, unseen=True) for _ in range(100)]
    assert all(held_out(i) and len(i.attributes) == 2 for i in unseen)
    assert held_out(instruct({"figure": "baker", "hobby": "kites"})) and not held_out(instruct({"figure": "baker"}))
    assert held_out(instruct({"hobby": "kites", "figure": "baker"}))  # in any order
    apart = {pair for i in DRAWN for pair in i.attributes}
    assert {pair for i in unseen for pair in i.attributes} <= apart  # each alone is known
    with pytest.raises(ValueError, match="two kinds"):
        draw_instruction(CHOOSE, ("hobby",), unseen=True)


def test_marks_are_different_and_read_as_they_stand():
    marks = [mark(kind, value) for kind in KINDS for value in VALUES[kind]]
    assert len(set(marks)) == len(marks)
    both = instruct({"hobby": "kites", "figure": "miller"})
    assert obey(both, "Mara lives at the mill.") == "I, the miller, say: Mara lives at the mill. I love kites."


def test_an_obedient_answer_obeys_and_loses_its_marks_again():
    for i in DRAWN:
        for request in conversation(CHOOSE, "validation", 2):
            plain = demonstrate(request)
            answer = obey(i, plain)
            assert obeys(i, answer) and without(i, answer) == plain and without(i, plain) == plain
            assert not any(kept(i, plain).values()) and marked(answer) and not marked(plain)


def test_each_attribute_is_checked_alone_and_in_its_place():
    both = instruct({"figure": "miller", "hobby": "kites"})
    assert kept(both, "I, the miller, say: Bread.") == {"figure": True, "hobby": False}
    assert kept(both, "Bread. I love kites.") == {"figure": False, "hobby": True}
    assert kept(both, "Bread. I, the miller, say: I love kites. Yes.") == {"figure": False, "hobby": False}
    assert kept(both, "I, the baker, say: Bread. I love rings.") == {"figure": False, "hobby": False}
    assert without(both, "I, the miller, say: Bread.") == "Bread." and not obeys(both, "I, the miller, say: Bread.")
    three = instruct({"language": "French", "address": "captain", "figure": "miller"})
    assert obeys(three, "Bonjour! Dear captain, I, the miller, say: Bread.")


@pytest.mark.parametrize("split", SPLITS)
def test_conversations_are_of_short_questions_of_one_set(split):
    asked = conversation(Chooser(3), split, 12)
    assert len({r.prompt for r in asked}) == 12 and asked == conversation(Chooser(3), split, 12)
    assert {r.family for r in asked} <= set(SHORT) and {split_of(r) for r in asked} == {split}
    assert not any(HELD_OUT_NAMES & set(re.findall(r"\w+", r.prompt)) for r in asked)
