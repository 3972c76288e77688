"""The recipes behind chapter 14: what is stored belongs together, and a stopped run goes on with the same."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import best_of_k, forgetting  # noqa: E402

from minillama.alignment.reward import reward_model  # noqa: E402
from minillama.alignment.sft import Recipe  # noqa: E402
from minillama.model.checkpoints import save_safetensors  # noqa: E402
from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.village.requests import requests  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
QUICK = Recipe(epochs=1, batch_size=4, peak_lr=1e-3)


@pytest.fixture
def work(tmp_path):
    """Two seeds of a finished recipe `alignment`, whose models have learnt nothing."""
    for seed in (0, 1):
        folder = tmp_path / "alignment" / f"seed-{seed}"
        folder.mkdir(parents=True)
        for i, name in enumerate(("v0", "variant", "v1", "v2", "v3")):
            save_safetensors(Llama(TINY, 10 * seed + i), folder / f"{name}.safetensors")
        for i, name in enumerate(("helpful1", "safe1", "helpful2", "safe2", "helpful3", "safe3")):
            save_safetensors(reward_model(Llama(TINY, i), 20 * seed + i), folder / f"{name}.safetensors")
        for number in (1, 2, 3):
            row = [[1, 5 + number, 2], [False, True, True]]
            (folder / f"best{number}.json").write_text(json.dumps([row] * 30))
    return tmp_path


def test_best_of_k_stores_answers_rewards_and_truth_of_the_same_prompts(work, monkeypatch):
    for name, value in {
        "SEEDS": (0, 1),
        "MANY": 3,
        "SOME": 2,
        "TEMPERATURES": (0.7, 1.0),
        "TEST": dict.fromkeys(best_of_k.TEST, 1),
        "WEAK": replace(best_of_k.SIZES, helpful=10, risky=3, reward=QUICK),
    }.items():
        monkeypatch.setattr(best_of_k, name, value)
    best_of_k.main(work, work)
    stored = json.loads((work / best_of_k.OUTPUTS[0]).read_text())
    assert [(r["seed"], r["temperature"]) for r in stored["runs"]] == [(0, 0.7), (0, 1.0), (1, 1.0)]
    for entry in stored["runs"]:
        number = 3 if entry["temperature"] == 1 else 2
        names = ["reward", "true"] + ["weak_reward"] * (number == 3)
        assert all([len(row) for row in entry[name]] == [number] * 11 for name in names)
    run = best_of_k.Run(work / "alignment" / "seed-1", 1)
    answers = best_of_k.answered(work / "best_of_k", run, 1.0)
    asked, judges = best_of_k.prompts(), run.judges(1)
    for i in (0, 9):  # graded alone, as the chapter would
        alone = judges([asked[i]] * 3, answers[i]).logit().tolist()
        assert stored["runs"][2]["reward"][i] == pytest.approx(alone, abs=2e-4)
    monkeypatch.setattr(best_of_k, "ask", None)  # nothing is sampled or graded again
    monkeypatch.setattr(best_of_k, "graded", None)
    best_of_k.main(work, work)
    assert json.loads((work / best_of_k.OUTPUTS[0]).read_text()) == stored


def test_a_changed_model_answers_anew(tmp_path):
    model = tmp_path / "model"
    model.write_text("a")
    assert best_of_k.kept(tmp_path, "x", (model,), lambda: [1]) == [1]
    assert best_of_k.kept(tmp_path, "x", (model,), lambda: [2]) == [1]
    model.write_text("b")
    assert best_of_k.kept(tmp_path, "x", (model,), lambda: [2]) == [2]


def test_the_three_third_rounds_learn_from_what_they_should(work, monkeypatch):
    monkeypatch.setattr(forgetting, "SEEDS", (0,))
    monkeypatch.setattr(forgetting, "SMALL", replace(forgetting.SIZES, prompts=10, k=2, sft=QUICK))
    monkeypatch.setattr(forgetting, "load_base", lambda: Llama(TINY, 7))
    monkeypatch.setattr(forgetting, "test_requests", lambda: requests("test", 6, 0))
    monkeypatch.setattr(forgetting.Third, "tuned", lambda self, examples: seen.append(examples) or Llama(TINY, 8))
    tuned, seen, reject = [], [], forgetting.reject

    def round_(base, policy, judges, earlier, sizes, seed, families, **more):
        assert earlier == [] and families == ("story", "fact") and sizes.prompts == 10
        _, best, found = reject(base, policy, judges, earlier, sizes, seed, families, **more)
        tuned.append({r.family for r in found.requests})
        return base, best or forgetting_examples, found

    run = forgetting.Run(work / "alignment" / "seed-0", 0)
    forgetting_examples = run.best(1)[:5]  # models that have learnt nothing do not end
    monkeypatch.setattr(forgetting, "reject", round_)
    forgetting.main(work, work)
    stored = json.loads((work / forgetting.OUTPUTS[0]).read_text())
    assert tuned == [{"story", "fact", "harmful"}]
    (cured, wide), own = seen, json.loads((work / "forgetting" / "best-0.json").read_text())
    assert len(cured) == 60 + len(own) and cured[:30] == run.best(1) and cured[30:60] == run.best(2)
    assert len(wide) == len(own) and all(e in run.best(3) for e in wide)
    (entry,) = stored["runs"]
    assert list(entry["true"]) == ["before", "narrow", "cured", "wide"]
    assert all(len(v) == 6 and all(math.isfinite(x) for x in v) for v in entry["true"].values())
    assert len(stored["families"]) == 6
