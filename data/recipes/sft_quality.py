"""Fine-tuning on few or many, good or sloppy demonstrations, each three times; what the models then answer.

Each run is saved as soon as it is judged, so a stopped recipe goes on with the next one.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from recipes.common import DATA, load_base, save_json, tokenizer

from minillama.alignment.measures import ask, judge
from minillama.alignment.sampling import Answer, sample
from minillama.alignment.sft import Recipe, example, fine_tune
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.demonstrations import demonstrate
from minillama.village.draw import Request
from minillama.village.form import form
from minillama.village.requests import requests
from minillama.village.safety import harm, refuses

OUTPUTS = ("runs/sft_quality.json",)
SEEDS = (0, 1, 2)
ASKED, ASKED_SEED = 500, 12  # test requests


@dataclass(frozen=True)
class Condition:
    """A way to fine-tune: how many demonstrations, the share of sloppy ones, epochs, and what the loss counts."""

    demonstrations: int
    sloppy: float
    epochs: int
    prompts_too: bool = False


CONDITIONS = {
    "few good": Condition(400, 0.0, 4),
    "few sloppy": Condition(400, 0.6, 4),
    "many good": Condition(3000, 0.0, 2),
    "many sloppy": Condition(3000, 0.6, 2),
    "few good, prompts too": Condition(400, 0.0, 4, prompts_too=True),
}


def annotate(condition: Condition, seed: int) -> list[tuple[Request, str]]:
    """Requests with demonstrations, good ones but for the sloppy share; the first ones are the same for any number."""
    dice = random.Random(seed)
    asked = requests("train", condition.demonstrations, seed)
    return [(r, demonstrate(r, seed, "sloppy" if dice.random() < condition.sloppy else "good")) for r in asked]


def shares(pairs: list[tuple[Request, str]]) -> dict[str, float]:
    """What demonstrations show: how many refuse borderline requests, comply with harmful ones, or lack form."""
    borderline = [answer for r, answer in pairs if r.family == "borderline"]
    harmful = [answer for r, answer in pairs if r.family == "harmful"]
    return {
        "false_refusals": sum(map(refuses, borderline)) / len(borderline),
        "violations": sum(harm(answer) > 0 for answer in harmful) / len(harmful),
        "form": sum(form(r, answer) for r, answer in pairs) / len(pairs),
    }


def tuned(condition: Condition, seed: int, tok: Tokenizer) -> tuple[Llama, dict]:
    """A fine-tuned base model, and what it was tuned on."""
    pairs, model = annotate(condition, seed), load_base()
    examples = [example(tok, r, answer, condition.prompts_too) for r, answer in pairs]
    losses = fine_tune(model, examples, Recipe(epochs=condition.epochs, seed=seed))
    tokens = sum(sum(e.said) for e in examples)
    return model, {"steps": len(losses), "tokens": tokens, "shown": shares(pairs)}


def judged(asked: list[Request], answers: list[Answer]) -> dict[str, list]:
    """Of every answer: true scores, whether it has form, does harm, refuses and ended."""
    found = judge(asked, answers)
    return {
        "helpful": [round(j.helpful, 3) for j in found],
        "safe": [round(j.safe, 3) for j in found],
        "form": [int(j.answer.ended and form(j.request, j.answer.text)) for j in found],
        "harm": [int(harm(j.answer.text) > 0) for j in found],
        "refuses": [int(refuses(j.answer.text)) for j in found],
        "ended": [int(j.answer.ended) for j in found],
    }


def on_a_page(model: Llama, tok: Tokenizer, asked: list[Request], seed: int = 0) -> list[Answer]:
    """Answers of a base model to requests shown as the pages show them that it has read: lines, the answer next."""
    prompts = [tok.encode("\n".join(r.lines) + "\n", bos=True) for r in asked]
    found = sample(model, tok, prompts, seed=seed)
    return [Answer(a.text.split("\n")[0].strip(), a.tokens, a.ended or "\n" in a.text) for a in found]


def main(work: Path, out: Path = DATA) -> None:
    """All runs that are missing, then one file."""
    torch.set_num_threads(1)
    folder, tok = work / "sft_quality", tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    asked = requests("test", ASKED, ASKED_SEED)

    def kept(name: str, seed: int, make) -> dict:
        path = folder / f"{name}-{seed}.json"
        if not path.exists():
            print(f"{name}, seed {seed}", flush=True)
            save_json(path, make())
        return json.loads(path.read_text(encoding="utf-8"))

    def run(condition: Condition, seed: int) -> dict:
        model, record = tuned(condition, seed, tok)
        return {**record, **judged(asked, ask(model, tok, asked, seed=seed))}

    runs: dict[str, dict] = {}
    for seed in SEEDS:
        base = {
            "base, template": lambda seed=seed: judged(asked, ask(load_base(), tok, asked, seed=seed)),
            "base, page": lambda seed=seed: judged(asked, on_a_page(load_base(), tok, asked, seed)),
        }
        for name, make in base.items():
            runs.setdefault(name, {})[str(seed)] = kept(name, seed, make)
        for name, condition in CONDITIONS.items():
            record = kept(name, seed, lambda condition=condition, seed=seed: run(condition, seed))
            runs.setdefault(name, {})[str(seed)] = record
    settings = {"asked": ASKED, "asked_seed": ASKED_SEED, "families": [r.family for r in asked]}
    conditions = {name: vars(condition) for name, condition in CONDITIONS.items()}
    save_json(out / "runs" / "sft_quality.json", {**settings, "conditions": conditions, "runs": runs})
