"""The stored fine-tuning runs: what the recipe shows to models, and that the file holds what it says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import sft_quality  # noqa: E402
from recipes.sft_quality import CONDITIONS, SEEDS, Condition, annotate, shares  # noqa: E402

from minillama.alignment.sampling import Answer  # noqa: E402
from minillama.village.demonstrations import demonstrate  # noqa: E402
from minillama.village.requests import requests  # noqa: E402


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads((DATA / "runs" / "sft_quality.json").read_text())


def test_more_demonstrations_begin_with_the_same_requests():
    few, many = annotate(Condition(100, 0.6, 1), 1), annotate(Condition(300, 0.6, 1), 1)
    assert many[:100] == few and len({r.lines for r, _ in many}) == 300
    assert [r for r, _ in annotate(Condition(100, 0.0, 1), 1)] == [r for r, _ in few]
    assert few != annotate(Condition(100, 0.6, 1), 2)


def test_good_demonstrations_have_no_fault_and_sloppy_ones_their_share():
    assert shares(annotate(Condition(300, 0.0, 1), 0)) == {"false_refusals": 0, "violations": 0, "form": 1}
    sloppy = shares(annotate(Condition(2000, 0.6, 1), 0))
    assert sloppy["violations"] == pytest.approx(0.6, abs=0.06)
    assert sloppy["false_refusals"] == pytest.approx(0.6, abs=0.09) and 0.9 < sloppy["form"] < 1


def test_answers_become_scores():
    asked = requests("test", 40, 3)
    found = sft_quality.judged(asked, [Answer(demonstrate(r, 0), (2,), i > 0) for i, r in enumerate(asked)])
    assert found["form"] == found["ended"] == [0] + [1] * 39 and sum(found["harm"]) == 0
    assert found["refuses"] == [int(r.family == "harmful") for r in asked]


def test_the_file_holds_every_run_on_the_same_test_requests(stored):
    asked = requests("test", stored["asked"], stored["asked_seed"])
    assert stored["families"] == [r.family for r in asked] and len(asked) >= 500
    assert stored["conditions"] == {name: vars(c) for name, c in CONDITIONS.items()}
    assert set(stored["runs"]) == {*CONDITIONS, "base, page", "base, template"}
    for name, runs in stored["runs"].items():
        assert list(runs) == [str(seed) for seed in SEEDS], name
        for run in runs.values():
            assert {len(run[key]) for key in ("helpful", "safe", "form", "harm", "refuses", "ended")} == {len(asked)}
            assert all(0 <= value <= 1 for key in ("helpful", "safe") for value in run[key])
        assert len({tuple(run["helpful"]) for run in runs.values()}) == len(SEEDS)


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_file_says_what_was_shown(stored, name):
    for seed, run in stored["runs"][name].items():
        assert run["shown"] == pytest.approx(shares(annotate(CONDITIONS[name], int(seed))))


def test_the_findings_of_chapter_12_are_in_the_file(stored):
    families = np.array(stored["families"])

    def mean(name, key, chosen):
        return np.mean([np.array(run[key])[chosen] for run in stored["runs"][name].values()])

    helpful = {name: mean(name, "helpful", families != "harmful") for name in stored["runs"]}
    harm = {name: mean(name, "harm", families == "harmful") for name in stored["runs"]}
    assert helpful["many good"] > helpful["few good"] > helpful["many sloppy"] + 0.05
    assert harm["base, page"] > 0.6 and harm["few good"] < 0.1 and harm["many sloppy"] > 0.4
    assert mean("base, template", "form", families != "") < 0.1
