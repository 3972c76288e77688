"""A third round that asks for stories and facts only, and refuses: learnt alone, and with all earlier rounds.

Until V3 the paper learnt from the latest round alone, and saw skills fade. Here the latest round leaves out most
families on purpose. A third model learns from as many answers of the latest round of `alignment`, which has them all.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from recipes.alignment import SEEDS, SIZES, Run, test_requests
from recipes.common import DATA, load_base, save_json

from minillama.alignment.measures import ask, judge
from minillama.alignment.rounds import reject
from minillama.alignment.sft import Example, fine_tune
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama

OUTPUTS = ("runs/forgetting.json",)
FAMILIES = ("story", "fact")  # of the harmless prompts; a fifth of all prompts is harmful, as in every round
SMALL = replace(SIZES, prompts=300)


class Third:
    """The third round of one seed, in three ways; each model is kept in the folder."""

    def __init__(self, folder: Path, run: Run):
        self.folder, self.run = folder, run

    def kept(self, name: str, make: Callable[[], Llama]) -> Llama:
        """A model of the folder, after it was made if it was missing."""
        path = self.folder / f"{name}-{self.run.seed}.safetensors"
        if not path.exists():
            print(f"seed {self.run.seed}: {name}", flush=True)
            save_safetensors(make(), path)
        return load_safetensors(path, dtype=torch.float32)

    def narrow(self) -> Llama:
        """The base tuned on the best answers of a round of few families, and on nothing else."""
        run, path = self.run, self.folder / f"best-{self.run.seed}.json"
        tuned, best, _ = reject(
            load_base(), run.policy(2), run.judges(3), [], SMALL, run.seed_of(80), FAMILIES, progress=False
        )
        save_json(path, [[list(e.tokens), list(e.said)] for e in best])
        return tuned

    def cured(self) -> Llama:
        """The same with the best answers of the two rounds before."""
        own = json.loads((self.folder / f"best-{self.run.seed}.json").read_text())
        return self.tuned([*self.run.best(1), *self.run.best(2), *(Example(*e) for e in own)])

    def wide(self) -> Llama:
        """The base tuned on as many best answers of the full third round, and on nothing else."""
        own = json.loads((self.folder / f"best-{self.run.seed}.json").read_text())
        self.run.policy(3)
        return self.tuned(random.Random(self.run.seed).sample(self.run.best(3), len(own)))

    def tuned(self, examples: list) -> Llama:
        """The base tuned on examples."""
        base = load_base()
        fine_tune(base, examples, replace(SIZES.sft, seed=self.run.seed_of(80)), progress=False)
        return base


def main(work: Path, out: Path = DATA) -> None:
    """Three seeds, four models each, before the judges."""
    torch.set_num_threads(1)
    folder, asked, found = work / "forgetting", test_requests(), []
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        run = Run(work / "alignment" / f"seed-{seed}", seed)
        third, path = Third(folder, run), folder / f"measures-{seed}.json"
        if not path.exists():
            makers = {"narrow": third.narrow, "cured": third.cured, "wide": third.wide}
            models = {"before": run.policy(2)} | {name: third.kept(name, make) for name, make in makers.items()}
            scores = {}
            for name, model in models.items():
                judged = judge(asked, ask(model, run.tokenizer, asked, seed=9))
                scores[name] = [round(j.true, 3) for j in judged]
            save_json(path, {"seed": seed, "true": scores})
        found.append(json.loads(path.read_text()))
    settings = {"families": [r.family for r in asked], "asked": FAMILIES, "prompts": SMALL.prompts, "k": SMALL.k}
    save_json(out / OUTPUTS[0], {**settings, "runs": found})
