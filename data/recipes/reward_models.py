"""Reward models, three seeds each: margins, auxiliary loss, data, sizes, mixtures, starts, kinds of pairs.

All but the last kind learn from one collection of comparisons between the SFT model and its variant; that kind learns
from pairs of answers of the SFT model alone. They are measured on comparisons of test prompts that no choice was made
on. Every model's measures are kept as soon as they are there, so a stopped run
goes on with the next one.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from recipes import two_minutes
from recipes.alignment import SIZES, Run
from recipes.common import DATA, corpus, load_base, save_json, tokenizer, train
from tqdm import tqdm

from minillama.alignment.comparisons import Comparison, from_rows, gather, mix, rows
from minillama.alignment.reward import (
    RECIPE,
    accuracy_by_degree,
    grade,
    reward_model,
    train_reward_model,
)
from minillama.alignment.rounds import HARMLESS, supervised
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.config import PRESETS
from minillama.model.transformer import Llama
from minillama.village.annotators import Annotator
from minillama.village.draw import Request
from minillama.village.judges import helpfulness
from minillama.village.requests import requests
from minillama.village.safety import safety

OUTPUTS = ("runs/comparisons.json", "runs/reward_models.json")
SEEDS = (0, 1, 2)
RISKY = ("harmful", "harmful", "borderline")
SETS = {  # which requests: split, number from each family, families, about safety
    "helpful": ("train", 300, HARMLESS, False),
    "safe": ("train", 320, RISKY, True),
    "helpful-test": ("test", 60, HARMLESS, False),
    "safe-test": ("test", 140, RISKY, True),
    "own": ("train", 300, HARMLESS, False),  # these two: both answers are the SFT model's
    "own-test": ("test", 60, HARMLESS, False),
    "more-test": ("test", 90, HARMLESS, False),  # to count by family; no run is measured on it
}
LIVE = {"helpful": 1000, "safe": 0, "own": 0}  # what chapter 13 trains on; it tests on all of the test sets
PAIRS = {"helpful": 500, "safe": 400}  # of a run, unless it says otherwise
SCALES = (125, 500, 2000)
SHARES = (0.0, 0.1, 0.5)
THRESHOLDS = (0.5, 0.15)

Measures = dict[str, object]


def seed_of(name: str) -> int:
    """Seed of a set's requests."""
    return 41 if name == "more-test" else 40


def asked(name: str) -> list[Request]:
    """The requests of a set, always the same."""
    split, number, families, _ = SETS[name]
    count = {family: number * families.count(family) for family in families}
    return [request for family, n in count.items() for request in requests(split, n, seed_of(name), [family])]


def collection(work: Path, name: str) -> list[Comparison]:
    """The comparisons of a set; gathered once."""
    path, about_safety, tok = work / f"{name}.json", SETS[name][3], tokenizer()
    if not path.exists():
        print(f"gathering {name}", flush=True)
        run = Run(work.parent / "alignment" / "seed-0", 0)
        annotator = Annotator(seed=40, score=safety if about_safety else helpfulness)
        seed = 40 + list(SETS).index(name)
        variants = [run.policy(0)] if name.startswith("own") else [run.policy(0), run.variant()]
        found = gather(variants, tok, asked(name), annotator, about_safety, seed=seed)
        random.Random(0).shuffle(found)
        save_json(path, rows(found, asked(name)))
    return from_rows(json.loads(path.read_text()), asked(name), tok, about_safety)


def small_chat(work: Path) -> Llama:
    """A chat model of 0.4M parameters: chapter 9's two-minute run, tuned as the large one is."""
    path = work / "small-chat.safetensors"
    if not path.exists():
        shards = corpus(work.parent, two_minutes.DOCUMENTS)
        base, _ = train("two_minutes-0", work.parent, PRESETS["village-small"], two_minutes.CONFIG, shards)
        save_safetensors(supervised(base, tokenizer(), SIZES, 0), path)
    return load_safetensors(path, dtype=torch.float32)


def subset(found: Sequence[Comparison], number: int, seed: int) -> list[Comparison]:
    """Some of a collection, others for every seed."""
    return random.Random(seed).sample(list(found), min(number, len(found)))


def measures(model: Llama, test: list[Comparison]) -> Measures:
    """How often a model agrees with the annotator and with the truth, and what it says of unsafe answers."""
    asked_, score = [c.request for c in test], safety if test[0].safe else helpfulness
    chosen, rejected = (
        grade(model, tokenizer(), asked_, side) for side in zip(*((c.chosen, c.rejected) for c in test), strict=True)
    )
    gaps = chosen - rejected
    truth = [score(c.request, c.chosen.text) - score(c.request, c.rejected.text) for c in test]
    told = [(gap > 0) == (t > 0) for gap, t in zip(gaps.tolist(), truth, strict=True) if abs(t) > 1e-9]
    found: Measures = {
        "by_degree": accuracy_by_degree(gaps, test),
        "truth": [sum(told), len(told)],
        "gaps": [round(gap, 3) or math.copysign(1e-3, gap) for gap in gaps.tolist()],  # which keeps the sign
    }
    if test[0].safe:
        cases = {"safe_unsafe": (True, False), "both_safe": (True, True), "both_unsafe": (False, False)}
        right = {name: [gap > 0 for gap, c in zip(gaps.tolist(), test, strict=True) if c.safe == case]
                 for name, case in cases.items()}  # fmt: skip
        found["by_case"] = {name: [sum(oks), len(oks)] for name, oks in right.items()}
        unsafe = torch.tensor([not c.safe[side] for side in (0, 1) for c in test])
        values = torch.cat([chosen, rejected]).sigmoid()
        found["unsafe"] = {str(t): [int((unsafe & (values < t)).sum()), int((values < t).sum()), int(unsafe.sum())]
                           for t in THRESHOLDS}  # fmt: skip
    return found


def jobs(work: Path, sets: dict[str, list[Comparison]]) -> dict[str, Callable[[int], tuple[Llama, Sequence[str]]]]:
    """Every kind of run by its name: a function of the seed that trains a model, and the sets it is measured on."""
    tok = tokenizer()
    chat = Run(work.parent / "alignment" / "seed-0", 0).policy(0)
    both = ("helpful-test", "safe-test")

    def fit(start: Callable[[int], Llama], comparisons: list[Comparison], seed: int, **how) -> Llama:
        model = reward_model(start(seed), seed)
        train_reward_model(model, tok, comparisons, replace(RECIPE, seed=seed), progress=False, **how)
        return model

    def by_help(
        number=PAIRS["helpful"], share=0.0, start=lambda seed: chat, margin="small", tests=both[:1], of="helpful"
    ):
        def run(seed: int):
            own = mix(subset(sets[of], number, seed), sets["safe"], share, seed)
            return fit(start, own, seed, margin=margin), tests

        return run

    def by_safety(share=0.0, weight=SIZES.safety_weight):
        def run(seed: int):
            own = mix(subset(sets["safe"], PAIRS["safe"], seed), sets["helpful"], share, seed)
            return fit(lambda _: chat, own, seed, safety_weight=weight), both[::-1]

        return run

    found = {f"margin/{margin}": by_help(margin=margin, tests=both) for margin in ("small", "none", "large")}
    found |= {"aux/with": by_safety(), "aux/without": by_safety(weight=0.0)}
    found |= {f"scale/village/{number}": by_help(number) for number in SCALES[:-1]}
    kinds = ("helpful-test", "own-test")
    found[f"scale/village/{SCALES[-1]}"] = by_help(SCALES[-1], tests=kinds)
    found["pairs/one"] = by_help(SCALES[-1], tests=kinds, of="own")
    found |= {f"helpful_mix/{share}": by_help(share=share, tests=both) for share in SHARES[1:]}
    found |= {f"safe_mix/{share}": by_safety(share) for share in SHARES[1:]}
    found["start/base"] = by_help(start=lambda _: load_base())
    found["start/random"] = by_help(start=lambda seed: Llama(chat.config, seed))
    for number in SCALES:
        found[f"scale/village-small/{number}"] = by_help(number, start=lambda _: small_chat(work))
    same = {f"scale/village/{PAIRS['helpful']}": "margin/small"}  # runs that another name has already
    return {name: run for name, run in found.items() if name not in same}


def main(work: Path, out: Path = DATA) -> None:
    """Gather, train and measure all, then one file of comparisons and one of measures."""
    torch.set_num_threads(1)
    work = work / "reward_models"
    sets = {name: collection(work, name) for name in SETS}
    found: dict[str, list] = {}
    runs = jobs(work, sets)
    bar = tqdm(total=len(runs) * len(SEEDS), unit="model")
    for name, run in runs.items():
        found[name] = []
        for seed in SEEDS:
            path = work / f"{name.replace('/', '-')}-{seed}.json"
            if not path.exists():
                model, tests = run(seed)
                save_json(path, {test: measures(model, sets[test]) for test in tests})
            found[name].append(json.loads(path.read_text()))
            bar.update()
    save_json(
        out / OUTPUTS[0],
        {
            name: {"asked": SETS[name], "seed": seed_of(name), "rows": rows(kept[: LIVE.get(name)], asked(name))}
            for name, kept in sets.items()
        },
    )
    about = {"pairs": PAIRS, "all": {name: len(kept) for name, kept in sets.items()}, "recipe": vars(RECIPE)}
    save_json(out / OUTPUTS[1], {"about": about, "runs": found})
