"""The recipe of chapter 13's experiments: every run is kept, made once, and measured on test prompts."""

import json
import sys
from pathlib import Path

import pytest

from minillama import data_path
from minillama.alignment.comparisons import from_rows
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import reward_models as recipe  # noqa: E402

BOOK = Tokenizer.from_file(data_path("tokenizer.model"))
SHAPE = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=BOOK.vocab_size, multiple_of=16, max_seq_len=256)


class Made:
    """Models of an alignment run, made of nothing."""

    def __init__(self, folder, seed):
        pass

    def policy(self, number):
        return Llama(SHAPE, 0).eval()

    def variant(self):
        return Llama(SHAPE, 1).eval()


@pytest.fixture
def tiny(monkeypatch):
    small = {name: (split, 1 if name != "safe-test" else 2, ("fact", "list") if not safe else families, safe)
             for name, (split, _, families, safe) in recipe.SETS.items()}  # fmt: skip
    changes = {
        "SETS": small, "SEEDS": (0, 1), "SCALES": (1, 2), "PAIRS": {"helpful": 2, "safe": 2}, "Run": Made,
        "load_base": lambda: Llama(SHAPE, 2), "small_chat": lambda work: Llama(SHAPE, 3),
        "LIVE": {**recipe.LIVE, "helpful": 1},
    }  # fmt: skip
    for name, value in changes.items():
        monkeypatch.setattr(recipe, name, value)


def test_all_runs_are_made_once_and_measured_on_test_prompts(tiny, tmp_path, monkeypatch):
    made, train = [], recipe.train_reward_model
    monkeypatch.setattr(recipe, "train_reward_model", lambda *a, **k: made.append(a[2]) or train(*a, **k))
    recipe.main(tmp_path, tmp_path)
    stored = json.loads((tmp_path / recipe.OUTPUTS[1]).read_text())
    runs = stored["runs"]
    assert len(made) == 2 * len(runs) and all(len(each) == 2 for each in runs.values())
    kinds = {"margin", "aux", "scale", "helpful_mix", "safe_mix", "start", "pairs"}
    assert {name.split("/")[0] for name in runs} == kinds
    trained = {request.lines for part in made for request in (c.request for c in part)}
    for name in ("helpful-test", "safe-test", "own-test"):
        assert trained.isdisjoint(request.lines for request in recipe.asked(name))
    for each in runs.values():
        for run in each:
            for test, measured in run.items():
                right, of = measured["by_degree"]["all"]
                assert len(measured["gaps"]) == of == stored["about"]["all"][test]
                assert sum(gap > 0 for gap in measured["gaps"]) == right
                if test == "safe-test":
                    assert sum(of for _, of in measured["by_case"].values()) == of
                    for hit, flagged, unsafe in measured["unsafe"].values():
                        assert 0 <= hit <= min(flagged, unsafe)
    before = len(made)
    recipe.main(tmp_path, tmp_path)
    assert len(made) == before and json.loads((tmp_path / recipe.OUTPUTS[1]).read_text()) == stored


def test_what_a_chapter_reads_is_what_was_gathered(tiny, tmp_path):
    found = {name: recipe.collection(tmp_path, name) for name in recipe.SETS}
    assert found == {name: recipe.collection(tmp_path, name) for name in recipe.SETS}
    for name, (_, _, _, about_safety) in recipe.SETS.items():
        stored = json.loads((tmp_path / f"{name}.json").read_text())
        assert from_rows(stored, recipe.asked(name), BOOK, about_safety) == found[name] != []
        assert all((c.safe is not None) == about_safety for c in found[name])


def test_seeds_draw_other_comparisons(tiny):
    assert recipe.subset(range(100), 10, 0) == recipe.subset(range(100), 10, 0) != recipe.subset(range(100), 10, 1)
    assert sorted(recipe.subset(range(5), 10, 0)) == list(range(5))
