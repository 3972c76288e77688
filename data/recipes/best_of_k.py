"""Many answers to the same test prompts, their rewards and their true scores: what best-of-K gives for every K.

Each of the three SFT models of `alignment` answers, and its own first reward models grade. Two weaker reward models,
from fewer comparisons, grade the same answers; the first SFT model answers at other temperatures too.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from recipes.alignment import SEEDS, SIZES, Run
from recipes.common import DATA, save_json

from minillama.alignment.measures import ask, judge
from minillama.alignment.rejection import Judges
from minillama.alignment.rounds import HARMLESS, collect, reward_models
from minillama.alignment.sampling import Answer
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama
from minillama.village.draw import Request
from minillama.village.requests import FAMILIES, requests

OUTPUTS = ("runs/best_of_k.json",)
TEST = {"harmful": 20, "borderline": 10, **{family: 8 for family in HARMLESS if family != "borderline"}}
MANY, SOME = 64, 32  # answers to each prompt at temperature 1, and at others
TEMPERATURES = (0.7, 1.0, 1.3)
WEAK = replace(SIZES, helpful=450, risky=180)  # requests compared for the weaker reward models


def prompts() -> list[Request]:
    """102 test prompts: 8 of each harmless family, 20 harmful and 10 borderline ones."""
    return [request for family in FAMILIES for request in requests("test", TEST[family], 97, [family])]


def kept(folder: Path, name: str, models: tuple[Path, ...], make: Callable[[], list]) -> list:
    """A list that was made from models; made again if they have changed."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in models)).hexdigest()[:12]
    path = folder / f"{name}-{digest}.json"
    if not path.exists():
        save_json(path, make())
    return json.loads(path.read_text())


def answered(folder: Path, run: Run, temperature: float) -> list[list[Answer]]:
    """The SFT model's answers, MANY or SOME to each prompt."""
    number, policy = MANY if temperature == 1 else SOME, run.policy(0)

    def make() -> list:
        asked = [request for request in prompts() for _ in range(number)]
        print(f"seed {run.seed}: {len(asked):,} answers at temperature {temperature}", flush=True)
        said = ask(policy, run.tokenizer, asked, temperature, seed=round(100 * temperature), progress=True)
        return [[a.text, a.tokens, a.ended] for a in said]

    name = f"answers-{run.seed}-{temperature}"
    flat = [Answer(t, tuple(i), e) for t, i, e in kept(folder, name, (run.folder / "v0.safetensors",), make)]
    return [flat[i : i + number] for i in range(0, len(flat), number)]


def weaker(folder: Path, run: Run) -> tuple[Judges, tuple[Path, ...]]:
    """Reward models from fewer comparisons, and their files."""
    paths = tuple(folder / f"{name}-{run.seed}.safetensors" for name in ("helpful", "safe"))
    if not all(path.exists() for path in paths):
        found = collect([run.policy(0), run.variant()], run.tokenizer, WEAK, run.seed_of(70))
        made = reward_models(run.policy(0), run.tokenizer, found, WEAK, run.seed_of(70))
        for path, model in zip(paths, (made.helpful, made.safe), strict=True):
            save_safetensors(model, path)
    return loaded(paths, run), paths


def loaded(paths: tuple[Path, ...], run: Run) -> Judges:
    """Reward models of files."""
    models: list[Llama] = [load_safetensors(path, dtype=torch.float32) for path in paths]
    return Judges(*models, run.tokenizer)


def graded(answers: list[list[Answer]], judges: Judges) -> list[list[float]]:
    """R_c before the last sigmoid, which would hide the differences near 1."""
    asked = [request for request, own in zip(prompts(), answers, strict=True) for _ in own]
    rewards = judges(asked, [a for own in answers for a in own])
    rows = rewards.double().clamp(1e-7, 1 - 1e-7).logit().view(len(answers), -1)
    return [[round(x, 4) for x in row] for row in rows.tolist()]


def curve(folder: Path, run: Run, temperature: float, weak: bool) -> dict:
    """One model's answers at one temperature: a list of numbers for each prompt, one number for each answer."""
    answers, v0 = answered(folder, run, temperature), run.folder / "v0.safetensors"
    paths = tuple(run.folder / f"{name}1.safetensors" for name in ("helpful", "safe"))
    judges, name = run.judges(1), f"{run.seed}-{temperature}"
    found = {
        "seed": run.seed,
        "temperature": temperature,
        "reward": kept(folder, f"reward-{name}", (v0, *paths), lambda: graded(answers, judges)),
        "true": [
            [round(j.true, 3) for j in judge([request] * len(own), own)]
            for request, own in zip(prompts(), answers, strict=True)
        ],
        "ended": [sum(a.ended for a in own) for own in answers],
        "different": [len({a.text for a in own}) for own in answers],
    }
    if weak:
        worse, paths = weaker(folder, run)
        found["weak_reward"] = kept(folder, f"weak-{name}", (v0, *paths), lambda: graded(answers, worse))
    return found


def main(work: Path, out: Path = DATA) -> None:
    """All curves: three seeds at temperature 1, the first seed at the others."""
    torch.set_num_threads(1)
    folder, found = work / "best_of_k", []
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        run = Run(work / "alignment" / f"seed-{seed}", seed)
        for temperature in TEMPERATURES if seed == SEEDS[0] else (1.0,):
            found.append(curve(folder, run, temperature, weak=temperature == 1))
    asked = [{"family": r.family, "tags": sorted(r.tags), "lines": r.lines} for r in prompts()]
    sizes = {"comparisons": [SIZES.helpful, SIZES.risky], "weak_comparisons": [WEAK.helpful, WEAK.risky]}
    save_json(out / OUTPUTS[0], {"prompts": asked, "runs": found, **sizes})
