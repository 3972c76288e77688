"""PPO with one detail changed at a time: short runs from the SFT model, three seeds of each."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import torch
from recipes.alignment import SEEDS, Run, test_requests
from recipes.common import DATA, save_json
from recipes.ppo import seen, trained

from minillama.alignment.ppo import PPOConfig, paper_reward
from minillama.model.transformer import Llama

OUTPUTS = ("runs/ppo_ablations.json",)
CONFIG = PPOConfig(iterations=12, batch_size=64, minibatch_size=16, lr=1e-4, beta=0.01)
CHANGES: dict[str, dict] = {
    "as it is": {},
    "beta 0": {"beta": 0.0},
    "beta 0.2": {"beta": 0.2},
    "KL controller to 0.5 nats": {"target_kl": 0.5, "beta": 0.1},
    "rate x 10": {"lr": 1e-3},
    "4 epochs": {"epochs": 4},
    "rewards as they are": {"whiten_rewards": False},
    "advantages as they are": {"whiten_advantages": False},
    "policy not clipped": {"clip": math.inf},
    "values not clipped": {"value_clip": math.inf},
    "lambda 1": {"lam": 1.0},
    "no end costs nothing": {"no_end": 0.0},
    "values begin at random": {},
}


def value_model(change: str, run: Run) -> Llama:
    """Where the value model starts: at the helpfulness reward model unless the change says otherwise."""
    if change == "values begin at random":
        model = Llama(run.judges(1).helpful.config)
        model.init_weights(run.seed)
        return model
    return run.judges(1).helpful


def main(work: Path, out: Path = DATA) -> None:
    """All runs."""
    torch.set_num_threads(1)
    asked, found = test_requests()[::3], []
    for seed in SEEDS:
        run = Run(work / "alignment" / f"seed-{seed}", seed)
        start, reward = run.policy(0), paper_reward(run.judges(1))

        def look(policy: Llama, run=run, start=start, reward=reward) -> dict:
            return seen(run, policy, start, asked, reward)

        for number, (change, changed) in enumerate(CHANGES.items()):
            folder, config = work / "ppo_ablations" / f"{number}-{seed}", replace(CONFIG, **changed)
            last = trained(folder, run, start, value_model(change, run), reward, config, (CONFIG.iterations,), look)
            found.append({"seed": seed, "change": change, **last[0]})
    changes = {name: {k: str(v) for k, v in changed.items()} for name, changed in CHANGES.items()}
    settings = {"families": [r.family for r in asked], "config": asdict(CONFIG), "changes": changes}
    save_json(out / OUTPUTS[0], {"runs": found, **settings})
