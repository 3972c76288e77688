"""The recipes behind chapter 15: what is stored belongs together, and a stopped run goes on with the same."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import over_optimisation, ppo, ppo_ablations  # noqa: E402

from minillama.alignment.ppo import PPOConfig, paper_reward  # noqa: E402
from minillama.alignment.reward import reward_model  # noqa: E402
from minillama.alignment.rounds import Sizes  # noqa: E402
from minillama.alignment.sft import Recipe  # noqa: E402
from minillama.model.checkpoints import load_safetensors, save_safetensors  # noqa: E402
from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.village.requests import requests  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
CONFIG = PPOConfig(iterations=4, batch_size=4, minibatch_size=2, lr=2e-3, max_new_tokens=6)
QUICK = Sizes(helpful=200, risky=60, reward=Recipe(epochs=1, batch_size=4, peak_lr=1e-3))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Two seeds of a finished recipe `rlhf`, whose models have learnt nothing, and small numbers."""
    for seed in (0, 1):
        folder = tmp_path / "alignment" / f"seed-{seed}"
        folder.mkdir(parents=True)
        for i, name in enumerate(("v0", "variant", "v1", "v2", "v3", "v4")):
            save_safetensors(Llama(TINY, 10 * seed + i), folder / f"{name}.safetensors")
        for i, name in enumerate(("helpful1", "safe1", "helpful4", "safe4")):
            save_safetensors(reward_model(Llama(TINY, i), 20 * seed + i + 3), folder / f"{name}.safetensors")
    some = [request for family in ("fact", "harmful", "borderline") for request in requests("test", 3, 5, [family])]
    for module in (ppo, over_optimisation, ppo_ablations):
        monkeypatch.setattr(module, "SEEDS", (0, 1))
        monkeypatch.setattr(module, "CONFIG", CONFIG)
        monkeypatch.setattr(module, "test_requests", lambda split="test": some)
    monkeypatch.setattr(ppo, "ASKED", 20)
    monkeypatch.setattr(ppo, "EVERY", 2)
    return tmp_path


def test_a_stopped_run_goes_on_bit_for_bit(work):
    run = ppo.Run(work / "alignment" / "seed-0", 0)
    reward = paper_reward(run.judges(1))

    def train(name, at):
        arguments = (run, run.policy(0), run.judges(1).helpful, reward, CONFIG, at, lambda policy: {"seen": True})
        return ppo.trained(work / name, *arguments)

    train("stopped", (0, 2))
    looks = train("stopped", (0, 2, 4))
    assert [look["iteration"] for look in looks] == [0, 2, 4] and len(looks[2]["records"]["kl"]) == 2
    assert train("whole", (0, 2, 4)) == looks
    ends = [load_safetensors(work / name / "4.safetensors").state_dict() for name in ("stopped", "whole")]
    start = run.policy(0).state_dict()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in start)
    assert not all(torch.equal(ends[0][name], start[name]) for name in start)


def test_v5_is_the_checkpoint_that_answers_validation_prompts_best(work):
    ppo.main(work, work)
    stored = json.loads((work / "runs" / "ppo.json").read_text())
    assert [run["seed"] for run in stored["runs"]] == [0, 1] and len(stored["families"]) == 9
    for run in stored["runs"]:
        best = max(run["curve"], key=lambda look: look["true"])
        assert run["chosen"] == best["iteration"]
        assert len(run["versions"]) == 6
        assert all(len(version[key]) == 9 for version in run["versions"] for key in ("safe", "proxy_other", "kl"))
        assert set(run["versions"][0]["kl"]) == {0.0}
    v5 = load_safetensors(work / "rlhf" / "v5.safetensors").state_dict()
    chosen = work / "ppo" / "v5-0" / f"{stored['runs'][0]['chosen']}.safetensors"
    kept = load_safetensors(chosen, dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(v5[name], kept[name]) for name in kept)


def test_over_optimisation_changes_one_thing_at_a_time(work, monkeypatch):
    for name, value in {"EVERY": 1, "HALF": 2, "SHARE": 0.2, "SHOWN": ("fact",)}.items():
        monkeypatch.setattr(over_optimisation, name, value)
    monkeypatch.setattr(over_optimisation, "Run", lambda folder, seed: ppo.Run(folder, seed, QUICK))
    monkeypatch.setattr(over_optimisation, "weaker", lambda folder, run: (run.judges(4), ()))
    over_optimisation.main(work, work)
    stored = json.loads((work / "runs" / "over_optimisation.json").read_text())
    assert len(stored["runs"]) == 2 * len(over_optimisation.KINDS)
    assert all(len(one["answers"]) == 2 for one in stored["examples"]) and stored["examples"]
    of = {(run["seed"], run["kind"]): run["looks"] for run in stored["runs"]}
    for seed in (0, 1):
        plain, other = of[seed, "plain"], of[seed, "refreshed"]
        assert [look["iteration"] for look in plain] == [0, 1, 2, 3, 4]
        assert other[:3] == plain[:3] and other[4] != plain[4]  # the same until half-way
        assert "validation" in plain[1] and "validation" not in of[seed, "beta"][1]
        assert plain[0]["kl"] == 0 and plain[0]["true"] == of[seed, "ensemble"][0]["true"]


def test_ablations_change_what_they_name(work):
    ppo_ablations.main(work, work)
    stored = json.loads((work / "runs" / "ppo_ablations.json").read_text())
    assert len(stored["runs"]) == 2 * len(ppo_ablations.CHANGES)
    kl = {run["change"]: run["records"]["kl"] for run in stored["runs"] if run["seed"] == 0}
    assert kl["rate x 10"][-1] != kl["as it is"][-1]
    run = ppo.Run(work / "alignment" / "seed-0", 0)
    own = {change: ppo_ablations.value_model(change, run).state_dict() for change in ppo_ablations.CHANGES}
    for change, weights in own.items():
        same = torch.equal(weights["output.weight"], own["as it is"]["output.weight"])
        assert same == (not change.startswith("values begin")), change
    for change, changed in ppo_ablations.CHANGES.items():
        assert replace(CONFIG, **changed) != CONFIG or not changed, change
