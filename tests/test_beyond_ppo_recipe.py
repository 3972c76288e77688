"""The comparison behind chapter 18: same budget, same tuning, and a stored file that holds what it says."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import beyond_ppo  # noqa: E402
from recipes.beyond_ppo import ALL, BUDGET, EQUAL_KL, Budget  # noqa: E402

from minillama.alignment.reward import reward_model  # noqa: E402
from minillama.model.checkpoints import save_safetensors  # noqa: E402
from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.village.requests import requests  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
SMALL = Budget(
    iterations=2, batch=8, epochs=(1, 2), every=1, tuning=1, asked=20, lrs=(1e-3,), betas=(0.1,), dpo_lrs=(1e-3,),
    dpo_betas=(0.1,),
)  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Two seeds of a finished recipe `alignment`, whose models have learnt nothing; few requests, short answers."""
    for seed in (0, 1):
        folder = tmp_path / "alignment" / f"seed-{seed}"
        folder.mkdir(parents=True)
        save_safetensors(Llama(TINY, seed), folder / "v0.safetensors")
        for i, name in enumerate(("helpful1", "safe1")):
            save_safetensors(reward_model(Llama(TINY, i), 20 * seed + i), folder / f"{name}.safetensors")
    monkeypatch.setattr(beyond_ppo, "SEEDS", (0, 1))
    monkeypatch.setattr(beyond_ppo, "test_requests", lambda split="test": requests(split, 24, 0))
    monkeypatch.setattr(beyond_ppo, "memory", lambda *_: {"before": 1.0, "peak": 2.0})
    return tmp_path


def test_all_methods_run_and_a_stopped_recipe_goes_on_with_the_same(work, monkeypatch):
    beyond_ppo.main(work, work, SMALL)
    stored = json.loads((work / beyond_ppo.OUTPUTS[0]).read_text())
    assert len(stored["families"]) == 6 and stored["validation"] == 3
    assert set(stored["settings"]) == set(ALL) and [run["seed"] for run in stored["runs"]] == [0, 1]
    for run in stored["runs"]:
        for method, own in run["methods"].items():
            budget = [16, 32] if method == "dpo" else [8, 16]
            assert [point["answers"] for point in own["curve"]] == budget
            assert set(own["test"]) == {str(own["near"]), str(own["best"])}
            assert all(len(found["true"]) == len(found["kl"]) == 6 for found in own["test"].values())
            near = abs(own["curve"][own["near"]]["kl"] - EQUAL_KL)
            assert all(near <= abs(point["kl"] - EQUAL_KL) for point in own["curve"])
            assert own["curve"][own["best"]]["true"] == max(point["true"] for point in own["curve"])
        assert all(abs(x) < 1e-3 for x in run["start"]["kl"])
    monkeypatch.setattr(beyond_ppo, "policies", None)  # nothing is trained again
    beyond_ppo.main(work, work, SMALL)
    assert json.loads((work / beyond_ppo.OUTPUTS[0]).read_text()) == stored


def test_every_method_may_sample_as_many_answers_and_try_as_many_settings(work):
    assert len({len(BUDGET.grid(method)) for method in ALL}) == 1
    run, sampled = beyond_ppo.Run(work / "alignment" / "seed-0", 0), {}
    for method in ALL:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("ppo", "group_policy_gradient", "rejection"):
                module = sys.modules[f"minillama.alignment.{name}"]
                patch.setattr(module, "sample", counting(module.sample, sampled.setdefault(method, [])))
            for _ in beyond_ppo.policies(run, method, 1e-3, 0.1, replace(SMALL, iterations=3, every=3)):
                pass
    assert {method: sum(numbers) for method, numbers in sampled.items()} == dict.fromkeys(ALL, 24)


def counting(sample, numbers):
    def counted(model, tokenizer, prompts, *args, **more):
        numbers.append(len(prompts))
        return sample(model, tokenizer, prompts, *args, **more)

    return counted


def test_prompts_are_of_the_training_set_a_fifth_of_them_harmful():
    asked = beyond_ppo.asked_of(0, 60)
    assert len(asked) == 60 and sum("harmful" in r.tags for r in asked) == 12
    assert all(beyond_ppo.asked_of(0, 60)[i].lines == asked[i].lines for i in range(60))
    assert {r.lines for r in asked} != {r.lines for r in beyond_ppo.asked_of(1, 60)}


# What is stored ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    return json.loads((DATA / "runs" / "beyond_ppo.json").read_text(encoding="utf-8"))


def test_the_file_holds_three_seeds_of_five_methods_on_the_same_test_requests(stored):
    asked = beyond_ppo.test_requests()[::4]
    assert stored["families"] == [r.family for r in asked] and len(asked) == 215
    assert stored["budget"] == json.loads(json.dumps(vars(BUDGET))) and stored["equal_kl"] == EQUAL_KL
    assert [run["seed"] for run in stored["runs"]] == [0, 1, 2]
    for run in stored["runs"]:
        assert set(run["methods"]) == set(ALL)
        for own in run["methods"].values():
            for found in own["test"].values():
                assert {len(found[name]) for name in ("true", "proxy", "kl")} == {215}
                assert all(0 <= x <= 1 for x in found["true"] + found["proxy"])


def test_settings_were_chosen_on_validation_prompts_alone(stored):
    for method in ALL:
        tried = stored["settings"][method]["tried"]
        assert [(t["lr"], t["beta"]) for t in tried] == BUDGET.grid(method)
        assert stored["settings"][method]["best"] == max(tried, key=lambda t: t["true"])


@pytest.mark.parametrize("method", ALL)
def test_the_findings_of_chapter_18_are_in_the_file(stored, method):
    runs = stored["runs"]
    best = [run["methods"][method]["test"][str(run["methods"][method]["best"])] for run in runs]
    harm = [np.mean(found["violated"]) for found in best]
    assert all(own < np.mean(run["start"]["violated"]) / 2 for own, run in zip(harm, runs, strict=True))
    assert np.mean([found["true"] for found in best]) > np.mean([run["start"]["true"] for run in runs]) + 0.01
    if method == "dpo":  # three passes over the pairs are too many, and even the proxy falls
        for one, three in (run["methods"]["dpo"]["curve"] for run in runs):
            assert three["kl"] > 2 * one["kl"] and three["true"] < one["true"] and three["proxy"] < one["proxy"]
