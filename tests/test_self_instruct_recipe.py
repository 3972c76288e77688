"""The recipe of self-instruct behind chapter 19: who learns what, and a stopped run goes on."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import self_instruct  # noqa: E402

from minillama.family.code_exercises import exercises, part_of  # noqa: E402

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux's limits")


@pytest.fixture
def small(monkeypatch):
    sizes = {"READ": 20, "READING": 2, "FEW": 12, "QUESTIONS": 9, "TUNING": 2, "TRIES": 3, "ASKED": 4, "SAMPLES": 2}
    model = replace(self_instruct.MODEL, dim=16, n_layers=1, n_heads=2, n_kv_heads=1)
    for name, value in {**sizes, "MODEL": model, "SEEDS": (0, 1)}.items():
        monkeypatch.setattr(self_instruct, name, value)

    def attempts(model, tokenizer, asked, number, *rest, **more):
        """The second try is right for every other question; the first one never is."""
        return [["nonsense", e.solution if i % 2 else "x", "y"][:number] for i, e in enumerate(asked)]

    monkeypatch.setattr(self_instruct, "attempts", attempts)


def test_models_learn_what_they_should(small, tmp_path, monkeypatch):
    learnt, tune_for = [], self_instruct.tune_for

    def watch(model, lessons, steps, recipe):
        learnt.append((len(lessons), steps, sum(p.sum().item() for p in model.parameters())))
        return tune_for(model, lessons, steps, recipe, progress=False)

    monkeypatch.setattr(self_instruct, "tune_for", watch)
    self_instruct.main(tmp_path, tmp_path)
    stored = json.loads((tmp_path / self_instruct.OUTPUTS[0]).read_text())
    assert [run["seed"] for run in stored["runs"]] == [0, 1]
    for run in stored["runs"]:
        own = run["own"]
        assert own["kept"] == own["right"] == {"eight tests": 4, "one test": 4} and own["as the solution"] == 4
        assert own["first passed"] == 0 and sum(own["reasons"].values()) == 27 and own["reasons"]["passed"] == 4
        assert run["passed"] == dict.fromkeys(("few", "filtered", "unfiltered"), [0, 1, 0, 1])
    code, few, filtered, unfiltered = learnt[:4]
    assert (code[0], few[0], filtered[0], unfiltered[0]) == (20, 13, 17, 22)  # with 6 % functions
    assert few[1] == filtered[1] == unfiltered[1] == 2  # as many steps
    assert few[2] == filtered[2] == unfiltered[2] != code[2]  # all from the model that has read
    monkeypatch.setattr(self_instruct, "tune_for", None)
    monkeypatch.setattr(self_instruct, "attempts", None)
    self_instruct.main(tmp_path, tmp_path)
    assert json.loads((tmp_path / self_instruct.OUTPUTS[0]).read_text()) == stored


def test_questions_are_not_the_solved_ones_nor_those_of_the_test(small, tmp_path):
    run = self_instruct.Runs(tmp_path, 0)
    asked = {e.question for e in run.questions}
    assert len(asked) == 9 and not asked & {e.question for e in run.few}
    assert all(part_of(e.makeup) == "train" for e in run.questions + run.few)
    assert not asked & {e.question for e in exercises(50, "test")}


def test_other_tests_see_what_passed_by_luck():
    exercise = next(e for e in exercises(50) if e.makeup == e.makeup and "sum" in e.question)
    (more,) = self_instruct.exercises_with_more_cases([exercise])
    assert len(more.cases) == 60 and more.question == exercise.question
    assert more.cases[5].arguments != exercise.cases[5].arguments


def test_what_is_stored_is_whole():
    stored = json.loads((DATA / self_instruct.OUTPUTS[0]).read_text())
    assert [run["seed"] for run in stored["runs"]] == list(self_instruct.SEEDS)
    for run in stored["runs"]:
        for counts in run["passed"].values():
            assert len(counts) == self_instruct.ASKED and all(0 <= c <= self_instruct.SAMPLES for c in counts)
