"""The recipe on longer texts behind chapter 19: what is measured is the right model's, and a stopped run goes on."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import long_context  # noqa: E402

from minillama.model.checkpoints import load_safetensors  # noqa: E402


@pytest.fixture
def small(monkeypatch):
    model = replace(long_context.MODEL, dim=16, n_layers=1)
    sizes = {"MODEL": model, "TEXTS": 64, "TUNED_ON": 8, "ASKED": 4, "READ": 8, "SEEDS": (0, 1), "DEPTHS": (0.0, 1.0)}
    for name, value in {**sizes, "LENGTHS": (32, 64), "EDGES": (0, 8, 32, 64)}.items():
        monkeypatch.setattr(long_context, name, value)


def test_six_ways_are_measured_and_kept(small, tmp_path, monkeypatch):
    seen, tuned_with = [], []
    measured, learn = long_context.measured, long_context.learn

    def watch(model, *rest):
        seen.append((model.config.rope_theta, model.scale, model.output.weight.sum().item(), model.training))
        return measured(model, *rest)

    def watch_learning(model, texts, recipe):
        tuned_with.append((model.config.rope_theta, getattr(model, "scale", None), tuple(texts.shape), recipe.seed))
        return learn(model, texts, recipe, progress=False)

    monkeypatch.setattr(long_context, "measured", watch)
    monkeypatch.setattr(long_context, "learn", watch_learning)
    long_context.main(tmp_path, tmp_path)
    stored = json.loads((tmp_path / long_context.OUTPUTS[1]).read_text())
    assert [run["seed"] for run in stored["runs"]] == [0, 1]
    for run in stored["runs"]:
        for kind in ("untuned", "tuned"):
            for change in ("none", "base", "positions"):
                measures = run[kind][change]
                assert np.array(measures["losses"], float).shape == (8, 3)
                for what in ("found", "overwritten"):
                    assert [[len(cell) for cell in row] for row in measures[what]] == [[4, 4], [4, 4]]
    # in each seed: untuned ways share their weights, tuned ones do not; none is in training mode
    settings = [(30.0, 1.0), (3000.0, 1.0), (30.0, 0.25)]
    assert [row[:2] for row in seen] == 4 * settings and not any(row[3] for row in seen)
    assert len({row[2] for row in seen[:3]}) == 1 and len({row[2] for row in seen[3:6]}) == 3
    first = [(30.0, None, (64, 64), 0), *((theta, scale, (8, 256), 0) for theta, scale in settings)]
    assert tuned_with[:4] == first and [row[3] for row in tuned_with[4:]] == [1] * 4
    kept = load_safetensors(tmp_path / long_context.OUTPUTS[0])
    assert kept.config.rope_theta == 30 and kept.config.max_seq_len == 64
    monkeypatch.setattr(long_context, "learn", None)
    monkeypatch.setattr(long_context, "measured", None)
    monkeypatch.setattr(long_context, "keys", None)
    long_context.main(tmp_path, tmp_path)
    assert json.loads((tmp_path / long_context.OUTPUTS[1]).read_text()) == stored


def test_ways_are_measured_on_the_same_texts(small):
    model = long_context.rescaled(long_context.beginner(long_context.MODEL, 0)).eval()
    assert long_context.measured(model) == long_context.measured(model)


def test_what_is_stored_is_whole():
    stored = json.loads((DATA / long_context.OUTPUTS[1]).read_text())
    assert [run["seed"] for run in stored["runs"]] == list(long_context.SEEDS)
    assert stored["sizes"]["parameters"] == long_context.MODEL.n_parameters()
    model = load_safetensors(DATA / long_context.OUTPUTS[0])
    assert model.config == long_context.MODEL
    for run in stored["runs"]:
        for kind in ("untuned", "tuned"):
            for change in ("none", "base", "positions"):
                assert [[len(c) for c in row] for row in run[kind][change]["found"]] == [[64] * 5] * 6
