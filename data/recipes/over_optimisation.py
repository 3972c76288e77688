"""PPO against the first reward models until the true score falls, and what helps against it; three seeds of each.

All runs start at the SFT model. One cure is changed at a time: a larger weight of the KL penalty, reward models
refreshed half-way on answers of the policy that exploits them, three pairs of reward models instead of one; and, the
other way round, reward models from few comparisons. Where to stop early is decided on validation prompts.
"""

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from recipes.alignment import SEEDS, Run, test_requests
from recipes.best_of_k import weaker
from recipes.common import DATA, save_json
from recipes.ppo import seen, trained

from minillama.alignment.measures import ask, judge, share
from minillama.alignment.ppo import PPOConfig, Reward, paper_reward
from minillama.alignment.rejection import Judges
from minillama.alignment.rounds import collect, reward_models
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama

OUTPUTS = ("runs/over_optimisation.json",)
CONFIG = PPOConfig(iterations=48, batch_size=96, minibatch_size=24, lr=2e-4, beta=0.01)
EVERY, HALF = 8, 24
KINDS = ("plain", "beta", "refreshed", "ensemble")
BETA = 0.2
SHOWN = ("summary", "story")  # families of the answers that are kept as text
SHARE = 0.15  # of the first round's comparisons, as many from the policy at half-way and from the first models


def mean_reward(judges: list[Judges]) -> Reward:
    """The mean of several pairs of reward models, each as the paper's reward."""
    rewards = [paper_reward(pair) for pair in judges]
    return lambda requests, answers: torch.stack([reward(requests, answers) for reward in rewards]).mean(0)


def refreshed(folder: Path, run: Run) -> Judges:
    """The first reward models after they have learnt from comparisons of two answers of the policy at half-way."""
    paths = [folder / f"{name}.safetensors" for name in ("helpful", "safe")]
    if not all(path.exists() for path in paths):
        policy = load_safetensors(folder / f"{HALF}.safetensors", dtype=torch.float32)
        seed = run.seed_of(80)
        fresh = collect([policy, run.policy(0)], run.tokenizer, run.sizes, seed, SHARE)
        earlier = collect([run.policy(0), run.variant()], run.tokenizer, run.sizes, seed + 1, SHARE)
        found = fresh.with_replay(earlier, seed)
        made = reward_models(policy, run.tokenizer, found, run.sizes, seed, run.copy(1), progress=False)
        for path, model in zip(paths, (made.helpful, made.safe), strict=True):
            save_safetensors(model, path)
    models: list[Llama] = [load_safetensors(path, dtype=torch.float32) for path in paths]
    return Judges(*models, run.tokenizer)


def looks_of(kind: str, work: Path, runs: list[Run], run: Run) -> list[dict]:
    """One run: test prompts, and for the plain one validation prompts, seen every few iterations."""
    folder, start, first = work / "over_optimisation" / f"{kind}-{run.seed}", run.policy(0), run.judges(1)
    rewards = {
        "ensemble": lambda: mean_reward([r.judges(1) for r in runs]),
        "weak": lambda: paper_reward(weaker(work / "best_of_k", run)[0]),
    }
    reward = rewards.get(kind, lambda: paper_reward(first))()
    config = replace(CONFIG, beta=BETA) if kind == "beta" else CONFIG
    test, validation = test_requests()[::3], test_requests("validation")[::3]

    def look(policy: Llama, reward: Reward) -> dict:
        found = seen(run, policy, start, test, reward)
        if kind == "plain":
            found["validation"] = round(share(seen(run, policy, start, validation, reward)["true"]), 4)
        return found

    at = range(0, CONFIG.iterations + 1, EVERY)
    train = partial(trained, folder, run, start, first.helpful)
    if kind not in ("plain", "refreshed"):
        return train(reward, config, at, partial(look, reward=reward))
    found = train(reward, config, at[: 1 + HALF // EVERY], partial(look, reward=reward))
    other = folder.with_name(f"refreshed-{run.seed}")
    if not other.exists():  # it goes on from here with other reward models
        shutil.copytree(folder, other.with_suffix(".tmp"), dirs_exist_ok=True)
        other.with_suffix(".tmp").rename(other)
    if kind == "refreshed":
        reward = paper_reward(refreshed(folder, run))
    return found + train(reward, config, at[1 + HALF // EVERY :], partial(look, reward=reward))


def examples(work: Path, run: Run, number: int = 12) -> list[dict]:
    """Answers of the SFT model and of the plain run's last policy to some test prompts, rewards and true scores."""
    last = work / "over_optimisation" / f"plain-{run.seed}" / f"{CONFIG.iterations}.safetensors"
    policies = (run.policy(0), load_safetensors(last, dtype=torch.float32))
    asked = [r for r in test_requests() if r.family in SHOWN][:: 60 * len(SHOWN) // number]
    reward, found = paper_reward(run.judges(1)), [{"lines": r.lines, "answers": []} for r in asked]
    for policy in policies:
        answers = ask(policy, run.tokenizer, asked, seed=7)
        for one, j, value in zip(found, judge(asked, answers), reward(asked, answers).tolist(), strict=True):
            one["answers"].append({"text": j.answer.text, "reward": round(value, 2), "true": round(j.true, 2)})
    return found


def main(work: Path, out: Path = DATA) -> None:
    """All runs."""
    torch.set_num_threads(1)
    (work / "best_of_k").mkdir(parents=True, exist_ok=True)
    runs = [Run(work / "alignment" / f"seed-{seed}", seed) for seed in SEEDS]
    found = [
        {"seed": run.seed, "kind": kind, "looks": looks_of(kind, work, runs, run)} for run in runs for kind in KINDS
    ]
    for one in found:
        for look in one["looks"]:
            del look["records"]
    asked = [r.family for r in test_requests()[::3]]
    settings = {"families": asked, "config": asdict(CONFIG), "beta": BETA, "examples": examples(work, runs[0])}
    save_json(out / OUTPUTS[0], {"runs": found, **settings})
