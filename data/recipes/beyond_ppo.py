"""PPO, REINFORCE, RLOO, GRPO and DPO from one SFT model, with one budget of answers and the same reward models.

Every method is tuned over as many settings, on validation prompts, with the first seed and short runs. Then it runs
with three seeds; validation prompts choose two of its checkpoints, the one nearest to a given KL divergence and the
best one, and test prompts measure both.
"""

import copy
import functools
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from recipes.alignment import SEEDS, Run, test_requests
from recipes.common import DATA, made_once, save_json

from minillama.alignment.comparisons import Comparison
from minillama.alignment.group_policy_gradient import METHODS, GroupPolicyGradient
from minillama.alignment.measures import Judged, ask, judge, kl, share
from minillama.alignment.ppo import PPO, PPOConfig, paper_reward
from minillama.alignment.preference_optimization import best_and_worst, train_dpo
from minillama.alignment.rejection import candidates
from minillama.alignment.rounds import HARMLESS, prompts
from minillama.alignment.sft import Recipe
from minillama.model.transformer import Llama
from minillama.village.draw import Request
from minillama.village.safety import harm, refuses

OUTPUTS = ("runs/beyond_ppo.json",)
ALL = ("ppo", *METHODS, "dpo")
GROUP = {"reinforce": 1, "rloo": 4, "grpo": 4}  # answers to a prompt; PPO gives one
EQUAL_KL = 0.5  # nats per answer


@dataclass(frozen=True)
class Budget:
    """How long the runs are.

    Args:
        iterations, batch: rollouts, and answers of each; DPO has as many answers, in pairs.
        epochs: of DPO, each one a run of its own.
        every: iterations between two looks at the validation prompts.
        tuning: iterations of a tuning run; DPO's goes twice over as many answers.
        asked: training prompts to draw from.
        lrs, betas: the settings that are tried. One beta is enough: how far a run goes is decided by where it stops.
        dpo_lrs, dpo_betas: and those for DPO, whose beta is on another scale.
    """

    iterations: int = 10
    batch: int = 64
    epochs: tuple[int, ...] = (1, 3)
    every: int = 2
    tuning: int = 5
    asked: int = 1000
    lrs: tuple[float, ...] = (1e-4, 2e-4)
    betas: tuple[float, ...] = (0.02,)
    dpo_lrs: tuple[float, ...] = (1e-4, 3e-4)
    dpo_betas: tuple[float, ...] = (0.1,)

    @property
    def answers(self) -> int:
        """Answers that a full run may sample."""
        return self.iterations * self.batch

    def grid(self, method: str) -> list[tuple[float, float]]:
        """The settings of a method: learning rate and beta."""
        own = (self.dpo_lrs, self.dpo_betas) if method == "dpo" else (self.lrs, self.betas)
        return list(itertools.product(*own))


BUDGET = Budget()


def asked_of(seed: int, number: int) -> list[Request]:
    """Training prompts, a fifth of them harmful."""
    harmful = number // 5
    harmless = number - harmful
    enough = -(-harmless // len(HARMLESS)) * len(HARMLESS)  # `prompts` draws as many of every family
    return (
        prompts("train", enough, 1000 + 2 * seed, HARMLESS)[:harmless]
        + prompts("train", harmful, 1001 + 2 * seed, ["harmful"])
    )  # fmt: skip


def measured(run: Run, policy: Llama, asked: list[Request]) -> dict:
    """A policy before the judges and the reward models; lists have one entry a request."""
    answers = ask(policy, run.tokenizer, asked, seed=7)
    judged = judge(asked, answers)
    return {
        "true": [round(j.true, 3) for j in judged],
        "proxy": [round(x, 4) for x in run.judges(1)(asked, answers).tolist()],
        "kl": [round(x, 3) for x in kl(policy, run.policy(0), run.tokenizer, asked, answers).tolist()],
        "refused": [int(refuses(j.answer.text)) for j in judged if "borderline" in j.request.tags],
        "violated": [int(violates(j)) for j in judged if "harmful" in j.request.tags],
        "ended": round(share([j.answer.ended for j in judged]), 4),
        "tokens": round(share([len(j.answer.tokens) for j in judged]), 2),
    }


def violates(judged: Judged) -> bool:
    """Whether an answer does harm."""
    return harm(judged.answer.text) > 0


def summary(found: dict) -> dict[str, float]:
    """Means of what `measured` found."""
    return {name: round(share(value), 4) if isinstance(value, list) else value for name, value in found.items()}


@functools.cache
def pairs_of(run: Run, answers: int) -> tuple[list[Comparison], float]:
    """Two answers of the SFT model to each of some prompts, the better one by the reward models, and the seconds."""
    began = time.process_time()
    found = candidates(run.policy(0), run.tokenizer, asked_of(run.seed, answers // 2), 2, run.judges(1), seed=run.seed)
    return best_and_worst(found), time.process_time() - began


def policies(
    run: Run, method: str, lr: float, beta: float, budget: Budget
) -> Iterator[tuple[int, Llama, float, list[dict]]]:
    """A run of a method, seen from outside.

    Yields:
        how many answers it has learnt from (DPO: times the epochs), the policy, seconds of the processor that it has
        used since the last time, and records of the iterations since then.
    """
    start, seed = run.policy(0), run.seed
    if method == "dpo":
        pairs, sampling = pairs_of(run, budget.answers)
        for epochs in budget.epochs:
            began, policy = time.process_time(), copy.deepcopy(start)
            recipe = Recipe(epochs=epochs, batch_size=16, peak_lr=lr, seed=seed)
            losses = train_dpo(policy, run.tokenizer, pairs, beta, recipe, progress=False)
            note = {"pairs": len(pairs), "sampling": round(sampling, 2), "loss": round(sum(losses[-10:]) / 10, 4)}
            yield epochs * budget.answers, policy, sampling + time.process_time() - began, [note]
        return
    config = PPOConfig(
        iterations=budget.iterations,
        batch_size=budget.batch,
        minibatch_size=budget.batch // 4,
        lr=lr,
        beta=beta,
        seed=seed,
    )
    asked, reward, policy = asked_of(seed, budget.asked), paper_reward(run.judges(1)), copy.deepcopy(start)
    if method == "ppo":
        value = copy.deepcopy(run.judges(1).helpful)
        learner = PPO(policy, value, run.tokenizer, asked, reward, config)
    else:
        learner = GroupPolicyGradient(policy, run.tokenizer, asked, reward, config, method, GROUP[method])
    for last in range(budget.every, budget.iterations + 1, budget.every):
        began = time.process_time()
        records = learner.train(last, progress=False)
        notes = [{"score": round(r.score, 3), "kl": round(r.kl, 3), "clipped": round(r.clipped, 4)} for r in records]
        yield last * budget.batch, policy, time.process_time() - began, notes


def tuned(folder: Path, run: Run, method: str, budget: Budget) -> dict:
    """Every setting of a method in a short run, and the one that is best on validation prompts."""
    short = replace(budget, iterations=budget.tuning, every=budget.tuning, epochs=(2,))
    validation, tried = test_requests("validation")[::8], []
    for lr, beta in budget.grid(method):

        def make(lr: float = lr, beta: float = beta) -> dict:
            *_, (_, policy, _, _) = policies(run, method, lr, beta, short)
            return {"lr": lr, "beta": beta, **summary(measured(run, policy, validation))}

        tried.append(made_once(folder / f"tuning-{method}-{lr}-{beta}.json", make))
        print(f"tuning {method}: {tried[-1]}", flush=True)
    return {"tried": tried, "best": max(tried, key=lambda t: t["true"])}


def compared(run: Run, method: str, lr: float, beta: float, budget: Budget) -> dict:
    """A full run of a method: its curve on validation prompts, and two of its checkpoints on test prompts."""
    validation, test = test_requests("validation")[::8], test_requests()[::4]
    curve, weights, seconds, notes = [], [], [], []
    for answers, policy, used, records in policies(run, method, lr, beta, budget):
        curve.append({"answers": answers, **summary(measured(run, policy, validation))})
        weights.append(copy.deepcopy(policy.state_dict()))
        seconds.append(round(used, 2))
        notes += records
        print(f"seed {run.seed} {method}: {curve[-1]}", flush=True)
    near = min(range(len(curve)), key=lambda i: abs(curve[i]["kl"] - EQUAL_KL))
    best = max(range(len(curve)), key=lambda i: curve[i]["true"])
    found, policy = {}, copy.deepcopy(run.policy(0))
    for place in dict.fromkeys((near, best)):
        policy.load_state_dict(weights[place])
        found[str(place)] = measured(run, policy, test)
    return {"curve": curve, "near": near, "best": best, "test": found, "seconds": seconds, "records": notes}


def resident(what: str) -> float:
    """Megabytes of this process that lie in memory now ("VmRSS") or lay in it at most ("VmHWM"), as Linux tells."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def peak_of(work: Path, method: str, lr: float, beta: float, budget: Budget) -> dict[str, float]:
    """Megabytes that a short run of a method needs at most, and those before it begins."""
    torch.set_num_threads(1)
    run = Run(work / "alignment" / f"seed-{SEEDS[0]}", SEEDS[0])
    run.policy(0), run.judges(1)
    before = resident("VmRSS")
    for _ in policies(run, method, lr, beta, budget):
        pass
    return {"before": before, "peak": resident("VmHWM")}


def memory(work: Path, method: str, best: dict, budget: Budget) -> dict[str, float]:
    """`peak_of` one iteration (or an epoch on as many answers), in a process of its own."""
    short = replace(budget, iterations=1, every=1, epochs=(1,))
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(peak_of, (work, method, best["lr"], best["beta"], short))
    return {name: round(value, 1) for name, value in found.items()}


def main(work: Path, out: Path = DATA, budget: Budget = BUDGET) -> None:
    """Tune, run three times, measure."""
    torch.set_num_threads(1)
    folder = work / "beyond_ppo"
    folder.mkdir(parents=True, exist_ok=True)
    runs = {seed: Run(work / "alignment" / f"seed-{seed}", seed) for seed in SEEDS}
    settings = {method: tuned(folder, runs[SEEDS[0]], method, budget) for method in ALL}
    found = []
    for seed, run in runs.items():
        start = made_once(
            folder / f"start-{seed}.json", lambda run=run: measured(run, run.policy(0), test_requests()[::4])
        )
        own = {"seed": seed, "start": start, "methods": {}}
        for method in ALL:
            best = settings[method]["best"]
            own["methods"][method] = made_once(
                folder / f"{method}-{seed}.json",
                lambda run=run, method=method, best=best: compared(run, method, best["lr"], best["beta"], budget),
            )
        found.append(own)
    peaks = {
        method: made_once(
            folder / f"memory-{method}.json",
            lambda method=method: memory(work, method, settings[method]["best"], budget),
        )
        for method in ALL
    }
    save_json(
        out / OUTPUTS[0],
        {
            "budget": vars(budget),
            "group": GROUP,
            "equal_kl": EQUAL_KL,
            "validation": len(test_requests("validation")[::8]),
            "families": [r.family for r in test_requests()[::4]],
            "settings": settings,
            "runs": found,
            "memory": peaks,
        },
    )
