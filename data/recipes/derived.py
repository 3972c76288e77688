"""Students of four recipes, of people and of bare answers, three times each; their marks in one exam.

Every student starts from the base model and learns from as many tokens. Each is saved as soon as it has sat the exam,
so that a stopped recipe goes on with the next one. What is kept in `data/` are the marks.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from recipes.common import DATA, bits_per_character, held_out_stories, load_base, made_once, save_json, tokenizer

from minillama import data_path
from minillama.alignment.measures import ask
from minillama.alignment.sft import Example, Recipe, fine_tune
from minillama.family import derived
from minillama.family.derived import TEMPERATURE, exam, sit, within
from minillama.family.explanations import final, told, unseen_sum
from minillama.family.self_instruct import seed_requests, write_requests
from minillama.model.checkpoints import load_safetensors
from minillama.model.transformer import Llama
from minillama.village.judges import helpfulness

OUTPUTS = ("runs/derived.json",)
SEEDS = (0, 1, 2)
TEACHER = "gatt/model"  # chapter 16's: it obeys instructions, and keeps them
BUDGET, EPOCHS, ROW = 50_000, 3, 320  # tokens of lessons, times seen, tokens of a row
PAGES, SEED_REQUESTS = 2600, 40  # of self-instruct
NUMBER, EXPLAINED = 1400, 1100  # requests, more than the budget takes; with explanations, which are long
ASKED, ASKED_SEED = 150, 20  # of each part of the exam
STORIES = 30  # of the village, unseen


def recipe_of(seed: int) -> Recipe:
    """How all are tuned; rate and batch were chosen on validation requests."""
    return Recipe(epochs=EPOCHS, batch_size=4, peak_lr=2e-3, context=ROW, seed=seed)


def teacher() -> Llama:
    """The model whose answers are learnt."""
    return load_safetensors(data_path(f"{TEACHER}.safetensors"), dtype=torch.float32)


def written() -> dict:
    """Requests that the base has written, the same for all seeds, and why the others were thrown away."""
    found, reasons = write_requests(load_base(), tokenizer(), seed_requests(SEED_REQUESTS, 0), PAGES)
    return {"requests": found, "reasons": dict(reasons)}


def lessons(name: str, seed: int, folder: Path) -> list[Example]:
    """All lessons of a condition, before they are cut to the budget."""
    tok = tokenizer()
    makers: dict[str, Callable[[], list[Example]]] = {
        "people": lambda: derived.people(tok, NUMBER, seed),
        "alpaca": lambda: derived.alpaca(teacher(), tok, made_once(folder / "written.json", written)["requests"], seed),
        "vicuna": lambda: derived.vicuna(tok, derived.recorded(teacher(), tok, NUMBER // 2, seed)),
        "wizardlm": lambda: derived.wizard(teacher(), tok, NUMBER // 2, seed),
        "orca": lambda: derived.orca(teacher(), tok, EXPLAINED, seed),
        "orca, no traces": lambda: derived.orca(teacher(), tok, NUMBER, seed, trace=None),
        "orca, counting up": lambda: derived.orca(teacher(), tok, EXPLAINED, seed, trace="up"),
    }
    return makers[name]()


CONDITIONS = ("orca", "orca, no traces", "people", "alpaca", "vicuna", "wizardlm")
CONTROLS = ("orca, counting up",)  # with the first seed only


def measured(model: Llama, seed: int) -> dict:
    """Marks by part of the exam; sums with the instruction to count in front; bits per character of unseen stories."""
    tok, paper = tokenizer(), exam("test", ASKED, ASKED_SEED)
    marks = sit(model, tok, paper, seed)
    asked = [told(r) for r in paper.sums]
    said = ask(model, tok, asked, TEMPERATURE, seed=seed)
    marks["sums, told"] = [round(helpfulness(r, final(a.text)), 3) for r, a in zip(paper.sums, said, strict=True)]
    marks["bits"] = round(bits_per_character(model, tok, [s.text for s in held_out_stories(STORIES)]), 4)
    return marks


def student(name: str, seed: int, folder: Path) -> dict:
    """A student's lessons, in numbers, and its marks."""
    learnt = within(lessons(name, seed, folder), BUDGET, ROW)
    model = load_base()
    losses = fine_tune(model, learnt, recipe_of(seed))
    numbers = {"examples": len(learnt), "tokens": sum(map(len, learnt)), "learnt": sum(sum(e.said) for e in learnt)}
    return {**numbers, "steps": len(losses), **measured(model, seed)}


def sat(name: str, seed: int, folder: Path) -> dict:
    """The marks of a student, or of a model that learns nothing here."""
    ready = {"base": load_base, "teacher": teacher}
    return measured(ready[name](), seed) if name in ready else student(name, seed, folder)


def main(work: Path, out: Path = DATA) -> None:
    """All runs that are missing, then one file."""
    torch.set_num_threads(1)
    folder = work / "derived"
    runs: dict[str, dict] = {}
    for names, seeds in ((("base", "teacher"), SEEDS), (CONDITIONS, SEEDS), (CONTROLS, SEEDS[:1])):
        for seed, name in itertools.product(seeds, names):
            path = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}.json"
            record = made_once(path, functools.partial(sat, name, seed, folder), f"seed {seed}: {name}")
            runs.setdefault(name, {})[str(seed)] = record
    reasons = made_once(folder / "written.json", written)["reasons"]
    paper = exam("test", ASKED, ASKED_SEED)
    questions = {
        "families": [r.family for r in paper.ordinary],
        "levels": [r.level for r in paper.ordinary],
        "unseen_sums": [int(unseen_sum(r)) for r in paper.sums],
    }
    settings = {"budget": BUDGET, "epochs": EPOCHS, "asked": ASKED, "teacher": TEACHER}
    save_json(out / OUTPUTS[0], {**settings, **questions, "written": reasons, "runs": runs})
