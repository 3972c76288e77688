"""Learning from one's own solutions that pass their tests, three times: a few given ones, filtered, unfiltered.

A tiny model reads functions, then learns a few solved exercises. It answers new questions ten times; the first answer
that passes is learnt beside the few (from the model that had only read), or, for comparison, the first answer, whatever
it is. Each model and each measure is kept as soon as it is there.
"""

import json
import random
from dataclasses import replace
from pathlib import Path

import torch
from recipes.common import DATA, made_once, save_json

from minillama.alignment.sft import Example, Recipe
from minillama.family.code_exercises import (
    Exercise,
    attempts,
    exercises,
    first_passing,
    judged,
    lesson,
    programs,
    read,
    tune_for,
    vocabulary,
)
from minillama.family.long_context import beginner
from minillama.family.sandbox import Sandbox
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

OUTPUTS = ("runs/self_instruct.json",)
SEEDS = (0, 1, 2)
MODEL = ModelConfig(dim=96, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=600, multiple_of=32, max_seq_len=256)
RECIPE = Recipe(batch_size=4, peak_lr=3e-3, context=128)
READ, READING = 4000, 250  # functions without a question, steps
FEW, QUESTIONS, TUNING = 120, 300, 400  # solved exercises, unsolved ones, steps
REHEARSAL = 0.06  # of what is learnt, as in the paper
TRIES, ASKED, SAMPLES = 10, 64, 20  # solutions of a question; test exercises, solutions of each
TEMPERATURE = 0.8


class Runs:
    """One seed's models and measures."""

    def __init__(self, work: Path, seed: int):
        self.folder, self.seed = work / "self_instruct" / f"seed-{seed}", seed
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer: Tokenizer = vocabulary(MODEL.vocab_size)
        self.few = exercises(FEW, "train", 10 * seed)
        known = {exercise.question for exercise in self.few}
        asked = exercises(QUESTIONS + FEW, "train", 10 * seed + 1)
        self.questions = [exercise for exercise in asked if exercise.question not in known][:QUESTIONS]

    def model(self, name: str) -> Llama:
        """ "code" (has read functions), "few", "filtered" or "unfiltered"."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            print(f"seed {self.seed}: training {name}", flush=True)
            recipe = replace(RECIPE, seed=self.seed)
            if name == "code":
                model = beginner(MODEL, self.seed, 0.05)
                functions = [read(self.tokenizer, text) for text in programs(READ, self.seed)]
                tune_for(model, functions, READING, recipe)
            else:
                model = self.model("code")
                tune_for(model, self.lessons(name), TUNING, recipe)
            save_safetensors(model, path)
        return load_safetensors(path, dtype=torch.float32)

    def lessons(self, name: str) -> list[Example]:
        """What a model learns: solved exercises, its own solutions, and some functions to rehearse."""
        solved = [(exercise, exercise.solution) for exercise in self.few]
        if name != "few":
            own = self.own()["filtered" if name == "filtered" else "unfiltered"]
            solved += [(self.questions[int(number)], text) for number, text in own.items() if text]
        lessons = [lesson(self.tokenizer, exercise, text) for exercise, text in solved]
        again = list(programs(READ, self.seed))
        some = random.Random(self.seed).sample(again, round(REHEARSAL * len(lessons)))
        return lessons + [read(self.tokenizer, text) for text in some]

    def own(self) -> dict:
        """The model's own solutions by the number of the question, and how good the choice is."""
        return made_once(self.folder / "own.json", self._own, f"seed {self.seed}: solving {QUESTIONS} questions")

    def _own(self) -> dict:
        given = attempts(
            self.model("few"), self.tokenizer, self.questions, TRIES, TEMPERATURE, 100 + self.seed, progress=True
        )
        more = exercises_with_more_cases(self.questions)
        with Sandbox() as sandbox:
            verdicts = judged(sandbox, self.questions, given, progress=True)
            chosen = first_passing(given, verdicts)
            weak = first_passing(
                given, judged(sandbox, [replace(e, cases=e.cases[1:2]) for e in self.questions], given)
            )
            right = {
                name: sum(
                    row[0].passed for row in judged(sandbox, [more[i] for i in some], [[t] for t in some.values()])
                )
                for name, some in (("eight tests", chosen), ("one test", weak))
            }
        reasons: dict[str, int] = {}
        for row in verdicts:
            for verdict in row:
                reasons[verdict.reason] = reasons.get(verdict.reason, 0) + 1
        return {
            "filtered": chosen,
            "unfiltered": {i: row[0] for i, row in enumerate(given)},
            "kept": {"eight tests": len(chosen), "one test": len(weak)},
            "right": right,
            "as the solution": sum(text == self.questions[i].solution for i, text in chosen.items()),
            "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
            "first passed": sum(row[0].passed for row in verdicts),
        }

    def measured(self, name: str) -> list[int]:
        """How many of the samples passed, for each exercise of the test."""

        def measure() -> list[int]:
            asked = exercises(ASKED, "test")
            given = attempts(self.model(name), self.tokenizer, asked, SAMPLES, TEMPERATURE, 200 + self.seed)
            with Sandbox() as sandbox:
                return [sum(v.passed for v in row) for row in judged(sandbox, asked, given)]

        return made_once(self.folder / f"{name}.json", measure, f"seed {self.seed}: measuring {name}")


def exercises_with_more_cases(some: list[Exercise], tests: int = 60) -> list[Exercise]:
    """The same exercises with other and more tests, to see what passed by luck."""
    dice = random.Random(7)
    lists = [[dice.randint(-9, 9) for _ in range(dice.randint(0, 8))] for _ in range(tests)]
    return [exercise.with_cases(lists) for exercise in some]


def main(work: Path, out: Path = DATA) -> None:
    """Three seeds, three models each."""
    torch.set_num_threads(1)
    runs = []
    for seed in SEEDS:
        run = Runs(work, seed)
        passed = {name: run.measured(name) for name in ("few", "filtered", "unfiltered")}
        own = {k: v for k, v in run.own().items() if k not in ("filtered", "unfiltered")}
        runs.append({"seed": seed, "passed": passed, "own": own})
    sizes = {
        "few": FEW, "questions": QUESTIONS, "tries": TRIES, "samples": SAMPLES, "asked": ASKED, "steps": TUNING,
        "temperature": TEMPERATURE, "parameters": MODEL.n_parameters(),
    }  # fmt: skip
    save_json(out / OUTPUTS[0], {"sizes": sizes, "runs": json.loads(json.dumps(runs))})
