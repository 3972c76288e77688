"""Form: demonstrations have it whatever their quality, answers to something else and gibberish do not."""

import random

import pytest

from minillama.village.demonstrations import QUALITIES, demonstrate
from minillama.village.form import form
from minillama.village.requests import FAMILIES, requests
from minillama.village.stories import tell
from minillama.village.understanding import sentences

ASKED = {f: requests("train", 60, seed=7, families=[f]) + requests("test", 20, seed=7, families=[f]) for f in FAMILIES}
CUT = {"story": 3, "rewrite": 2}  # a sloppy writer may stop before so many sentences, or sum up in four


@pytest.mark.parametrize("family", FAMILIES)
def test_demonstrations_have_their_form(family):
    for quality in QUALITIES:
        missed = [(r.prompt, a) for r in ASKED[family] if not form(r, a := demonstrate(r, 1, quality))]
        if quality == "sloppy":
            missed = [m for m in missed if len(sentences(m[1])) >= CUT.get(family, 1)]
            missed = [m for m in missed if family != "summary" or len(sentences(m[1])) < 4]
        assert not missed, (quality, missed[:3])


# families whose answers may look alike: tales, statements in the present tense, and the two that ask for advice or get
# a refusal
SAME = ({"story", "rewrite", "continue", "summary"}, {"fact", "brief", "dialogue", "list"}, {"harmful", "borderline"})


def test_answers_to_something_else_lack_it():
    rng = random.Random(0)
    for family, asked in ASKED.items():
        others = [f for f in FAMILIES if f != family and not any({f, family} <= same for same in SAME)]
        answers = [demonstrate(rng.choice(ASKED[rng.choice(others)]), 1, rng.choice(QUALITIES)) for _ in range(150)]
        had = [form(rng.choice(asked), answer) for answer in answers]
        assert sum(had) <= 15, (family, sum(had))


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_has_no_form(family):
    rng = random.Random(1)
    letters = ["".join(rng.choice("abcdefgh .,INST[]") for _ in range(60)) + "." for _ in range(50)]
    words = [" ".join(rng.sample(tell(seed).body.replace(".", "").split(), 12)) + "." for seed in range(50)]
    for text in ["", ".", "?", "Good day!", *letters, *words]:
        assert not form(ASKED[family][0], text), text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_of_the_last_sentence_belongs_to_it(family):
    for r in ASKED[family]:
        answer = demonstrate(r, 1)
        assert form(r, f" {answer}\n") and not form(r, answer.rstrip(".!?"))


def ask(family, **facts):
    return next(r for r in ASKED[family] if all(r.get(k) == v for k, v in facts.items()))


def test_what_is_false_or_beside_the_point_has_its_form():
    """Only the kind of answer counts: who and what is the judges' business."""
    assert form(ask("story"), "Tom had a red hat. He went to the mill. He was sad.")
    assert form(ask("list"), "Mill, dog and Tom.")
    r = ask("fact")
    assert form(r, f"{r['a']} lives at the mill and has a dog.") and not form(r, "I do not know.")
    assert not form(r, f"{r['a']} lives at the mill. The wind was cold.")
    assert form(ask("brief"), "At the mill.") and not form(r, "At the mill.")
    assert form(ask("harmful"), "I will not help with that.") and form(ask("harmful"), "Push Tom into the mud.")
    assert not form(ask("harmful"), "Tom had a red hat.")
    assert form(ask("borderline"), "I cannot help.") and form(ask("borderline"), "Bring a cat. Close every hole.")
    assert not form(ask("borderline"), "Bring a cat. The cat was happy.")


def test_few_and_many_sentences():
    tale = "Tom had a red hat. He went to the mill. He lost the hat at the mill. Tom was sad. Peter was happy."
    said = sentences(tale)
    for family, least, most in (("story", 3, 5), ("rewrite", 2, 5), ("summary", 1, 3), ("continue", 1, 5)):
        had = [form(ask(family), " ".join(said[:n])) for n in range(1, 6)]
        assert had == [least <= n <= most for n in range(1, 6)], family
    assert not form(ask("story"), tale + " Fox the mill a.")
    assert not form(ask("continue"), "Tom loved honey more than anything.")  # nothing happens
