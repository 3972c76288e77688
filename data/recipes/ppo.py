"""RLHF-V4 and V5 with three seeds: a fourth round of rejection sampling, then PPO, and what all judges say of V0 to V5.

The rounds are those of `rlhf`, one more. PPO's checkpoint is chosen by the true score of its answers to validation
prompts, which stands for the held-out prompts by which the paper stops early; V4 itself is among the choices.
"""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from recipes.alignment import SEEDS, Run, store, test_requests
from recipes.common import DATA, made_once, save_json
from recipes.rlhf import measured

from minillama.alignment.measures import ask, judge, kl, report, share
from minillama.alignment.ppo import PPO, PPOConfig, Reward, paper_reward
from minillama.alignment.rounds import HARMLESS, prompts
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama
from minillama.village.draw import Request

OUTPUTS = ("rlhf/v4.safetensors", "rlhf/v5.safetensors", "runs/ppo.json")
ROUND = 4
CONFIG = PPOConfig(iterations=24, batch_size=256, minibatch_size=64, lr=1e-4, beta=0.01)
EVERY = 6  # iterations between two looks at validation prompts
ASKED = 4000  # requests that rollouts are drawn from, a fifth of them harmful


def training_requests(seed: int) -> list[Request]:
    """What PPO's rollouts are drawn from; other prompts than those of the rounds."""
    harmful = prompts("train", ASKED // 5, 3000 + 2 * seed, ["harmful"])
    return prompts("train", ASKED - ASKED // 5, 3001 + 2 * seed, HARMLESS) + harmful


def seen(run: Run, policy: Llama, start: Llama, asked: Sequence[Request], reward: Reward) -> dict:
    """A policy's answers to held-out prompts: true scores, the reward as PPO sees it, and how far it has moved."""
    answers = ask(policy, run.tokenizer, asked, seed=7)
    judged = judge(asked, answers)
    found = report(judged)
    names = ("helpful", "violations", "false_refusals", "good_refusals", "ended", "tokens")
    return {
        "true": [round(j.true, 3) for j in judged],
        "proxy": round(reward(asked, answers).mean().item(), 4),
        "kl": round(share(kl(policy, start, run.tokenizer, asked, answers).tolist()), 4),
        **{name: round(found[name], 4) for name in names},
    }


def trained(
    folder: Path,
    run: Run,
    start: Llama,
    value: Llama,
    reward: Reward,
    config: PPOConfig,
    at: Sequence[int],
    look: Callable[[Llama], dict],
) -> list[dict]:
    """PPO in stages, and what `look` sees of the policy after each; a stopped run goes on where it was.

    Args:
        folder: of this run.
        run: whose tokenizer and seed.
        start, value: copies of them are trained.
        reward, config: as in `PPO`.
        at: iterations at which the stages end; 0 looks at the start.
        look: sees the policy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [stage for stage in at if not (folder / f"{stage}.json").exists()]
    if missing:
        ppo = PPO(
            copy.deepcopy(start),
            copy.deepcopy(value),
            run.tokenizer,
            training_requests(run.seed),
            reward,
            replace(config, iterations=max(at), seed=run.seed),
            folder=folder,
        )
        for stage in missing:
            records = ppo.train(stage, progress=False, save_every=EVERY)
            save_safetensors(ppo.policy, folder / f"{stage}.safetensors")
            own = {name: [round(getattr(r, name), 4) for r in records] for name in ("score", "kl", "explained", "beta")}
            save_json(folder / f"{stage}.json", {"iteration": stage, **look(ppo.policy), "records": own})
            print(f"{folder.name}, seed {run.seed}: {stage} iterations", flush=True)
    return [json.loads((folder / f"{stage}.json").read_text()) for stage in at]


def v5(work: Path, run: Run) -> tuple[Llama, list[dict], int]:
    """PPO from V4: the policy that answers validation prompts best, all looks, and the iteration that was chosen."""
    folder, start, judges = work / "ppo" / f"v5-{run.seed}", run.policy(ROUND), run.judges(ROUND)
    reward, asked = paper_reward(judges), test_requests("validation")
    looks = trained(
        folder, run, start, judges.helpful, reward, CONFIG, range(0, CONFIG.iterations + 1, EVERY),
        lambda policy: seen(run, policy, start, asked, reward),
    )  # fmt: skip
    best = max(looks, key=lambda look: share(look["true"]))["iteration"]
    return load_safetensors(folder / f"{best}.safetensors", dtype=torch.float32), looks, best


def shorter(values: list[float] | float) -> list[float] | float:
    """Three digits are enough."""
    return [round(x, 3) for x in values] if isinstance(values, list) else values


def main(work: Path, out: Path = DATA) -> None:
    """V4 and V5 of three seeds, the first one's models and everybody's measures."""
    torch.set_num_threads(1)
    asked, found = test_requests(), []
    runs = [Run(work / "alignment" / f"seed-{seed}", seed) for seed in SEEDS]
    for number, run in enumerate(runs):
        policy, looks, best = v5(work, run)
        other = runs[(number + 1) % len(runs)]  # its reward models have seen other prompts, answers and annotators
        judges = {"proxy_first": run.judges(1), "proxy_last": run.judges(ROUND), "proxy_other": other.judges(ROUND)}
        versions = []
        for version, model in enumerate([*(run.policy(n) for n in range(ROUND + 1)), policy]):
            path = work / "ppo" / f"measures-{run.seed}-{version}.json"
            own = made_once(path, lambda run=run, model=model, judges=judges: measured(run, model, asked, judges))
            versions.append({name: shorter(values) for name, values in own.items() if name not in ("text", "tokens")})
        curve = [{k: v for k, v in look.items() if k != "records"} | {"true": round(share(look["true"]), 4)}
                 for look in looks]  # fmt: skip
        found.append({"seed": run.seed, "chosen": best, "curve": curve, "versions": versions})
        if number == 0:
            store(out, OUTPUTS[:2], (copy.deepcopy(run.policy(ROUND)), policy))
    settings = {"families": [r.family for r in asked], "config": asdict(CONFIG), "prompts": ASKED}
    save_json(out / OUTPUTS[-1], {"runs": found, **settings})
