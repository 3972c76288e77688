"""The recipe behind chapter 21: what is stored belongs together, and a stopped run goes on with the same."""

import json
import sys
from pathlib import Path

import pytest
import torch

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import alignment, quantization  # noqa: E402
from recipes.common import held_out_stories, load_base  # noqa: E402

from minillama.family.rounding import rounded  # noqa: E402


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads((DATA / quantization.OUTPUTS[0]).read_text())


def test_stored_results_are_complete_and_of_one_size(stored):
    assert list(stored["grids"]) == list(quantization.GRIDS) and stored["seeds"] == list(alignment.SEEDS)
    asked, stories = len(alignment.test_requests()[::3]), held_out_stories(quantization.STORIES, "test")
    assert stored["characters"] == [len(story.text) for story in stories]
    for grid in stored["grids"].values():
        assert len(grid["nats"]) == len(stories) and len(grid["facts"]) == len(stored["grids"]["float32"]["facts"])
        assert [len(row) for row in grid["true"]] == [asked] * len(alignment.SEEDS)
        assert all(0 <= value <= 1 for row in grid["true"] for value in row)


def test_stored_results_say_what_the_chapter_says(stored):
    total = {name: sum(grid["nats"]) for name, grid in stored["grids"].items()}
    assert stored["grids"]["bfloat16"] == stored["grids"]["float32"]
    order = ["8 bits, row", "4 bits, groups of 32, zero", "3 bits, groups of 32, zero", "2 bits, groups of 32, zero"]
    assert [total[name] for name in order] == sorted(total[name] for name in order)
    assert total["4 bits, row"] < total["4 bits, matrix"] and total["3 bits, row"] > total["3 bits, groups of 32, zero"]


def test_the_model_of_a_grid_has_its_weights():
    base, small = load_base(), quantization.rounded_model(load_base(), "4 bits, groups of 32, zero")
    for name, weight in small.state_dict().items():
        kept = "norm" in name or name.startswith("tok_embeddings")
        before = base.state_dict()[name]
        assert torch.equal(weight, before if kept else rounded(before, 4, 32, True))
    assert torch.equal(quantization.rounded_model(load_base(), "bfloat16").output.weight, base.output.weight)


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(quantization, "measured", lambda name: made.append(name) or {"nats": [len(made)]})
    (tmp_path / "quantization").mkdir()
    (tmp_path / "quantization" / "float32.json").write_text('{"nats": [7]}')
    quantization.main(tmp_path, tmp_path)
    quantization.main(tmp_path, tmp_path)
    assert made == list(quantization.GRIDS)[1:]
    assert json.loads((tmp_path / quantization.OUTPUTS[0]).read_text())["grids"]["float32"] == {"nats": [7]}
