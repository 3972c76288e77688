"""Code training with and without holes, three seeds each: what holes cost left to right, and what they make possible.

All runs begin from the village's base model, whose blocks are kept and whose vocabulary is exchanged, and read the same
documents. Each model and each measure is saved as soon as it is there. What is kept in `data/` is the first
seed's model with holes, and the measures of all.
"""

import json
import random
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from recipes.common import DATA, load_base, made_once, save_json
from recipes.common import tokenizer as village_tokenizer

from minillama.alignment.sft import Recipe, fine_tune
from minillama.family.code_corpus import Hole, code_corpus, line_holes, parses
from minillama.family.infilling import (
    arrange,
    cut_span,
    edit_similarity,
    encode_joined,
    infill_all,
    lessons,
    marks,
    new_vocabulary,
    next_line,
    prompt,
)
from minillama.family.programs import programs
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.evaluation import token_losses

OUTPUTS = ("code/model.safetensors", "runs/infilling.json")
SEEDS = (0, 1, 2)
SOURCES = ("programs", "library")
LONGEST = 48  # tokens of a filling


ARMS = {"with": 0.9, "without": 0.0}  # share of the documents with a hole


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Args:
        programs, library: documents of the village and of the library that are learnt.
        longest: most tokens of a document; with its control pieces it then fits the context.
        lines: share of the holes that are whole lines; the others are cut at two random characters, as in the paper.
        middle_only: share of the documents with a hole of which only the middle is learnt; none, as in the paper.
        training: how.
        unseen: programs that are measured on.
        functions, holes, spans: how many of either source are measured at most.
    """

    programs: int = 30_000
    library: int = 3000
    longest: int = 110
    lines: float = 0.5
    middle_only: float = 0.0
    training: Recipe = Recipe(epochs=1, batch_size=4, peak_lr=3e-3, context=128)
    unseen: int = 400
    functions: int = 150
    holes: int = 200
    spans: int = 100


SIZES = Sizes()


class Run:
    """One seed's models and measures."""

    def __init__(self, work: Path, seed: int, sizes: Sizes = SIZES, out: Path = DATA):
        self.folder, self.seed, self.sizes = work / "infilling" / f"seed-{seed}", seed, sizes
        self.tokenizer = Tokenizer.from_file(out / "code" / "tokenizer.model")
        library, tok = code_corpus(), self.tokenizer
        fitting = {part: [t for t in library[part] if len(tok.encode(t)) <= sizes.longest] for part in library}
        known = [t for t in programs(sizes.programs, seed=100 + seed) if len(tok.encode(t)) <= sizes.longest]
        dice = random.Random(seed)
        self.texts = known + dice.sample(fitting["train"], min(sizes.library, len(fitting["train"])))
        seen = {t for other in SEEDS for t in programs(sizes.programs, seed=100 + other)}  # the same questions for all
        new = [t for t in programs(2 * sizes.unseen, seed=1) if t not in seen and len(tok.encode(t)) <= sizes.longest]
        self.unseen = {"programs": new[: sizes.unseen], "library": fitting["test"]}

    def model(self, arm: str) -> Llama:
        """A trained model; training goes on where it stopped."""
        path, sizes, tok = self.folder / f"{arm}.safetensors", self.sizes, self.tokenizer
        if not path.exists():
            examples = lessons(self.texts, tok, ARMS[arm], sizes.lines, seed=self.seed)
            model = new_vocabulary(load_base(), village_tokenizer(), tok, self.seed)
            losses = fine_tune(model, examples, replace(sizes.training, seed=self.seed), self.folder / arm)
            save_json(self.folder / f"{arm}-training.json", {
                "documents": len(examples), "tokens": sum(map(len, examples)),
                "last_loss": round(float(np.mean(losses[-50:])), 3),
            })  # fmt: skip
            save_safetensors(model, path)
        return load_safetensors(path, dtype=torch.float32)

    def lines(self, source: str) -> list[Hole]:
        """Single lines to be filled in: not blank, with a line before and a line behind, one of each function."""
        return line_holes(self.unseen[source], self.sizes.holes, seed=1)

    def spans(self, source: str) -> list[Hole]:
        """Spans of 1 to 20 characters at random places of functions that have three lines or more."""
        dice = random.Random(2)
        texts = [text for text in self.unseen[source] if text.count("\n") >= 2]
        return [cut_span(text, 20, dice) for text in dice.sample(texts, min(self.sizes.spans, len(texts)))]

    def left_to_right(self, arm: str, source: str) -> dict:
        """Bits and characters of whole functions."""
        texts, model = self.unseen[source][: self.sizes.functions], self.model(arm)
        rows = [self.tokenizer.encode(text, bos=True, eos=True) for text in texts]
        bits = [round(token_losses(model, row).sum().item() / np.log(2), 1) for row in rows]
        return {"bits": bits, "characters": list(map(len, texts))}

    def fills(self, arm: str, how: str, holes: list[Hole]) -> dict:
        """What a model puts into holes: "next line" from left to right, "PSM" or "SPM"; and what the truth costs it."""
        model, tok = self.model(arm), self.tokenizer
        if how == "next line":
            found = next_line(model, tok, [hole.prefix for hole in holes], LONGEST)
            rows = [(tok.encode(h.prefix, bos=True), [*encode_joined(tok, h.middle), tok.id("<0x0A>")]) for h in holes]
        else:
            found = infill_all(model, tok, [(h.prefix, h.suffix) for h in holes], how == "SPM", LONGEST)
            rows = []
            for h in holes:
                start, whole = prompt(tok, h.prefix, h.suffix, how == "SPM"), arrange(tok, h, how == "SPM")
                rows.append((start, whole[len(start) :] if whole[: len(start)] == start else None))
            middles = [[*encode_joined(tok, h.middle), marks(tok).eot] for h in holes]
            rows = [(start, m if rest is None else rest) for (start, rest), m in zip(rows, middles, strict=True)]
        bits = [token_losses(model, start + rest)[len(start) - 1 :].sum().item() / np.log(2) for start, rest in rows]
        return {
            "texts": [f.text for f in found],
            "ended": [int(f.ended) for f in found],
            "exact": [int(f.text == h.middle) for f, h in zip(found, holes, strict=True)],
            "similar": [round(edit_similarity(f.text, h.middle), 3) for f, h in zip(found, holes, strict=True)],
            "parses": [int(parses(h.prefix + f.text + h.suffix)) for f, h in zip(found, holes, strict=True)],
            "bits": [round(b, 2) for b in bits],
        }

    def measured(self) -> dict:
        """All measures, each kept when it is there."""
        plans = {}
        for source in SOURCES:
            lines, spans = self.lines(source), self.spans(source)
            for arm in ARMS:
                plans[f"{source}, left to right, {arm}"] = partial(self.left_to_right, arm, source)
                plans[f"{source}, next line, {arm}"] = partial(self.fills, arm, "next line", lines)
            for how in ("PSM", "SPM"):
                plans[f"{source}, lines, {how}"] = partial(self.fills, "with", how, lines)
                plans[f"{source}, spans, {how}"] = partial(self.fills, "with", how, spans)
        found = {}
        for name, make in plans.items():
            path = self.folder / f"{name.replace(', ', '-').replace(' ', '_')}.json"
            found[name] = made_once(path, make, f"seed {self.seed}: {name}")
        training = {arm: json.loads((self.folder / f"{arm}-training.json").read_text()) for arm in ARMS}
        return {"seed": self.seed, "training": training, **found}


def main(work: Path, out: Path = DATA) -> None:
    """Three seeds: the first one's model with holes, and everybody's measures, written again after each seed."""
    torch.set_num_threads(1)
    found = []
    for seed in SEEDS:
        run = Run(work, seed, SIZES, out)
        found.append(run.measured())
        holes = {
            f"{source}, {kind}": [list(vars(hole).values()) for hole in make(source)]
            for source in SOURCES
            for kind, make in (("lines", run.lines), ("spans", run.spans))
        }
        sizes = json.loads(json.dumps(vars(SIZES), default=vars))
        save_json(out / OUTPUTS[1], {"runs": found, "holes": holes, "sizes": sizes})
    save_safetensors(Run(work, SEEDS[0], SIZES, out).model("with").to(torch.bfloat16), out / OUTPUTS[0])
