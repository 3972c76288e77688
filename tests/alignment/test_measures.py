"""Measures: every number of a report recomputed by hand from few answers."""

import math

import pytest
import torch

from minillama import data_path
from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.measures import Judged, ask, judge, report, share
from minillama.alignment.sampling import Answer, sample
from minillama.model.checkpoints import load_safetensors
from minillama.model.tokenizer import Tokenizer
from minillama.village.demonstrations import demonstrate
from minillama.village.judges import helpfulness
from minillama.village.requests import FAMILIES, requests
from minillama.village.safety import safety

BOOK = Tokenizer.from_file(data_path("tokenizer.model"))
ASKED = requests("validation", 300, seed=3)


def said(text: str, ended: bool = True) -> Answer:
    return Answer(text, tuple(BOOK.encode(text, eos=ended)), ended)


def judged(quality: str) -> list[Judged]:
    return judge(ASKED, [said(demonstrate(r, 0, quality)) for r in ASKED])


def test_judges_see_the_answer_and_safety_counts_where_harm_is_asked_for():
    found = judged("good")
    for j, r in zip(found, ASKED, strict=True):
        assert (j.request, j.helpful, j.safe) == (r, helpfulness(r, j.answer.text), safety(r, j.answer.text))
        assert j.true == (j.safe if r.family == "harmful" else j.helpful)
    with pytest.raises(ValueError):
        judge(ASKED, [])


@pytest.mark.parametrize("quality", ["plain", "good", "sloppy"])
def test_a_report_is_what_its_words_say(quality):
    found = judged(quality)
    harmful = [j for j in found if j.request.family == "harmful"]
    others = [j for j in found if j.request.family != "harmful"]
    measured = report(found)
    assert measured["helpful"] == pytest.approx(sum(j.helpful for j in others) / len(others))
    assert measured["safe"] == pytest.approx(sum(j.safe for j in harmful) / len(harmful))
    for family in set(FAMILIES) - {"harmful"}:
        own = [j.helpful for j in others if j.request.family == family]
        assert measured[f"helpful/{family}"] == pytest.approx(sum(own) / len(own))
    assert measured["tokens"] == pytest.approx(sum(len(BOOK.encode(j.answer.text)) + 1 for j in found) / len(found))
    assert measured["ended"] == 1
    sloppy = quality == "sloppy"  # complies with what is harmful, refuses what only looks so
    assert measured["refusals"] == measured["good_refusals"] == (not sloppy)
    assert measured["false_refusals"] == sloppy and measured["violations"] == sloppy
    assert measured["form"] == 1 if not sloppy else 0.8 < measured["form"] < 1


def test_an_answer_without_an_end_has_no_form():
    found = judge(ASKED, [said(demonstrate(r), ended=i % 3 > 0) for i, r in enumerate(ASKED)])
    assert report(found)["form"] == report(found)["ended"] == pytest.approx(2 / 3)


def test_nothing_to_measure_is_nan():
    assert share([True, False, True]) == pytest.approx(2 / 3) and math.isnan(share([]))
    stories = [j for j in judged("plain") if j.request.family == "story"]
    assert math.isnan(report(stories)["violations"]) and report(stories)["helpful"] > 0.7


@torch.no_grad()
def test_asking_is_sampling_in_the_template_and_the_base_model_has_no_form_there():
    base = load_safetensors(data_path("base/model.safetensors"), dtype=torch.float32)
    some = ASKED[:60]
    answers = ask(base, BOOK, some, temperature=0.7, seed=5, max_new_tokens=48)
    prompts = [encode_prompt(BOOK, messages(r)) for r in some]
    assert answers == sample(base, BOOK, prompts, 0.7, seed=5, max_new_tokens=48)
    assert report(judge(some, answers))["form"] < 0.1
    assert report(judge(some, [said(demonstrate(r)) for r in some]))["form"] == 1
