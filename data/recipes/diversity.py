"""How alike a model's answers are, by temperature, for V0 to V3 of three seeds: on factual and on creative prompts."""

import functools
from pathlib import Path

import torch
from recipes.alignment import SEEDS, Run
from recipes.common import DATA, made_once, save_json

from minillama.alignment.measures import ask, judge, self_bleu, share
from minillama.village.requests import requests

OUTPUTS = ("runs/diversity.json",)
VERSIONS, TEMPERATURES = (0, 1, 2, 3), (0.4, 0.7, 1.0, 1.3)
KINDS = {"factual": "fact", "creative": "story"}  # and the family that stands for it
PROMPTS, SAMPLES = 10, 10  # the paper's are 10 and 25


def measured(run: Run, kind: str, version: int, temperature: float) -> list[tuple[float, float]]:
    """Self-BLEU and mean true helpfulness of the answers to each prompt."""
    asked = requests("test", PROMPTS, 94, [KINDS[kind]])
    seed = 1000 * version + round(100 * temperature)
    judged = judge(
        many := [r for r in asked for _ in range(SAMPLES)],
        ask(run.policy(version), run.tokenizer, many, temperature, seed=seed),
    )
    groups = [judged[i : i + SAMPLES] for i in range(0, len(judged), SAMPLES)]
    return [(round(self_bleu([j.answer.text for j in own]), 4), round(share([j.helpful for j in own]), 4))
            for own in groups]  # fmt: skip


def main(work: Path, out: Path = DATA) -> None:
    """All seeds, versions and temperatures; what is stored has the shape (versions, temperatures, prompts)."""
    torch.set_num_threads(1)
    folder, found = work / "diversity", []
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        run, own = Run(work / "alignment" / f"seed-{seed}", seed), {"seed": seed}
        for kind in KINDS:
            tables: list[list] = []
            for version in VERSIONS:
                path = folder / f"{kind}-{seed}-v{version}.json"
                cells = functools.partial(measured, run, kind, version)
                tables.append(made_once(path, lambda cells=cells: [cells(t) for t in TEMPERATURES]))
            own[kind] = {name: [[[pair[i] for pair in cell] for cell in row] for row in tables]
                         for i, name in enumerate(("self_bleu", "helpful"))}  # fmt: skip
        found.append(own)
    settings = {"versions": VERSIONS, "temperatures": TEMPERATURES, "prompts": PROMPTS, "samples": SAMPLES}
    save_json(out / OUTPUTS[0], {**settings, "runs": found})
