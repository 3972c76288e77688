"""The recipe of SFT, reward models and rejection sampling, with tiny sizes: complete, and resumable."""

import sys
from pathlib import Path

import torch

from minillama.alignment.rounds import Sizes
from minillama.alignment.sft import Recipe
from minillama.village.requests import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

from recipes import alignment, rlhf

SIZES = Sizes(demonstrations=16, helpful=20, risky=12, fresh=1.0, prompts=25, k=2, sft=Recipe(epochs=1, batch_size=2))


def test_a_stopped_run_goes_on_with_the_same_result(tmp_path, monkeypatch):
    run = alignment.Run(tmp_path, 0, SIZES)
    wanted = run.policy(2).state_dict()
    made = {path.stem for path in tmp_path.iterdir()}
    assert made == {"v0", "variant", "helpful1", "safe1", "best1", "v1", "helpful2", "safe2", "best2", "v2"}
    for name in ("v2.safetensors", "best2.json", "safe2.safetensors"):
        (tmp_path / name).unlink()
    again = alignment.Run(tmp_path, 0, SIZES)
    assert all(torch.equal(weight, wanted[name]) for name, weight in again.policy(2).state_dict().items())
    assert len(again.best(1)) > 0

    monkeypatch.setattr(rlhf, "ROUNDS", 2)
    monkeypatch.setattr(rlhf, "SAMPLES", 2)
    asked = requests("validation", 12, 0)
    judges = {"proxy_first": again.judges(1), "proxy_last": again.judges(2)}
    found = rlhf.measured(again, again.policy(1), asked, judges)
    assert {len(found[key]) for key in ("helpful", "safe", "text", "kl", "proxy_first", "proxy_last")} == {len(asked)}
    assert max(map(abs, found["kl"])) > 0


def test_what_is_measured_is_never_trained_on():
    asked = alignment.test_requests()
    assert len({r.lines for r in asked}) == len(asked)
    harmless = [r for r in asked if r.family not in ("harmful", "borderline")]
    assert len(harmless) >= 500
    assert sum(r.family == "harmful" for r in asked) >= 150 and sum(r.family == "borderline" for r in asked) >= 90
    trained = {r.lines for r in requests("train", 3000, 0)} | {r.lines for r in requests("validation", 900)}
    assert not trained & {r.lines for r in asked}
    assert any("held-out" in r.tags for r in asked)
