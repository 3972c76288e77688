"""The recipe of the scaling law: the prediction comes first and stays; what is stored agrees with itself."""

import json
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import scaling  # noqa: E402


@pytest.fixture
def tiny(monkeypatch):
    small = {
        "DOCUMENTS": 40,
        "SHAPES": ((16, 1), (24, 1), (32, 1)),
        "BUDGETS": (2e8, 4e8, 8e8),
        "CUT_FROM": 8e8,
        "TOKENS": (400, 10**6),
        "LARGER": (48, 1, 1e9),
        "CONTEXT": 32,
        "STORIES": 2,
        "RATES": {(16, 1): (1e-2,)},
        "RATE_TOKENS": 500,
    }
    for name, value in small.items():
        monkeypatch.setattr(scaling, name, value)


def test_the_prediction_is_written_before_the_larger_run_and_never_again(tiny, tmp_path, monkeypatch):
    order, run, predict = [], scaling.run, scaling.predict
    monkeypatch.setattr(scaling, "run", lambda *a, **k: order.append(("run", a[0])) or run(*a, **k))
    monkeypatch.setattr(scaling, "predict", lambda *a: order.append(("predict", len(a[0]))) or predict(*a))
    scaling.main(tmp_path, tmp_path)
    stored = json.loads((tmp_path / scaling.OUTPUTS[0]).read_text())
    assert order[-2:] == [("predict", 9), ("run", 48)] and ("run", 48) not in order[:-2]
    assert stored["predicted"]["written"] <= stored["larger"]["finished"]
    assert stored["predicted"]["N"] == stored["larger"]["N"] and stored["predicted"]["D"] == stored["larger"]["D"]
    for entry in stored["grid"]:
        assert 6 * entry["N"] * entry["D"] == pytest.approx(entry["budget"], rel=0.05)
        assert 0 < entry["loss"] < 9 and ("cut_early" in entry) == (entry["budget"] == 8e8)
    before = len(order)
    scaling.main(tmp_path, tmp_path)
    assert len(order) == before and json.loads((tmp_path / scaling.OUTPUTS[0]).read_text()) == stored


def test_a_point_cut_early_is_a_look_and_no_other_run(tiny, tmp_path):
    shards = scaling.corpus(tmp_path, scaling.DOCUMENTS)
    plain = scaling.run(16, 1, 1500, 1e-2, shards)
    looked = scaling.run(16, 1, 1500, 1e-2, shards, cuts=(0.5, 0.25))
    assert plain["loss"] == looked["loss"] and plain["D"] == looked["D"]
    (early, high), (later, low) = looked["cut_early"]
    assert early < later < looked["D"] and high > low > looked["loss"]
