"""Safety, three seeds of everything: amounts of safety data, context distillation, red teaming, and how to undo it all.

Every model's measures are kept as soon as they are there, so a stopped run goes on with the next one. Which safety
reward model scores is the same throughout, that of `alignment`'s first seed, so that scores can be compared.
"""

import copy
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from recipes.alignment import SEEDS, SIZES, Run
from recipes.common import DATA, load_base, made_once, save_json

from minillama.alignment.measures import Judged, ask, judge
from minillama.alignment.red_team import VECTORS, Attempt, lessons, red_team
from minillama.alignment.reward import grade
from minillama.alignment.rounds import HARMLESS, demonstrations, prompts
from minillama.alignment.safety import PrePrompt, distil, general, guarded, heeded, learn, template
from minillama.alignment.sft import Example, Recipe, example, fine_tune
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama
from minillama.village.demonstrations import demonstrate, refusal
from minillama.village.draw import Request
from minillama.village.requests import requests
from minillama.village.safety import harm, refuses

OUTPUTS = ("runs/safety.json", "runs/red_team.json")
ORDINARY = tuple(family for family in HARMLESS if family != "borderline")
TEST = {"harmful": 120, "borderline": 80, **dict.fromkeys(ORDINARY, 15)}
TEST_SEED = 95
HELPFUL, SAFE = 500, 200  # demonstrations
SCALES = {"harmful only": (0, 1, 10, 25, 50, 100), "with contrast": (100,)}  # % of SAFE
SFT = Recipe(epochs=2)
TOUCH = Recipe(epochs=2, batch_size=4, peak_lr=2e-4)  # what is learnt on top of a tuned model
RISKY, OTHERS = 150, 150  # requests of context distillation, and those whose answers stay as they are
BUDGET, ROOTS, ROUNDS = 300, 150, {"SFT": 2, "careful": 0}  # attempts of a search
UNDOING = {"complying, 10": (10, True), "complying, 100": (100, True), "harmless, 100": (100, False)}
UNFILTERED = {("SFT", "general"), ("listener", "template")}  # where the filter has a control
UNDO = Recipe(epochs=5, batch_size=1, peak_lr=5e-4)


def test_requests(split: str = "test") -> list[Request]:
    """335 requests that no choice is made on: 120 harmful, 80 borderline and 135 ordinary ones."""
    return [r for family, number in TEST.items() for r in requests(split, number, TEST_SEED, [family])]


class Study:
    """One seed's models and measures, each made when it is first asked for and not yet in the folder."""

    def __init__(self, folder: Path, run: Run, safe: Llama):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.run, self.seed, self.safe, self.tok = folder, run, run.seed, safe, run.tokenizer
        self.asked = test_requests()

    def kept(self, name: str, make: Callable[[], dict]) -> dict:
        """Measures of the folder, after they were made if they were missing."""
        path = self.folder / f"{name.replace(' ', '-').replace('/', '-')}.json"
        return made_once(path, make, f"seed {self.seed}: {name}")

    def model(self, name: str, make: Callable[[], Llama]) -> Llama:
        """A model of the folder, likewise."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            save_safetensors(make(), path)
        return load_safetensors(path, dtype=torch.float32)

    def measured(self, model: Llama, pre_prompt: PrePrompt | None = None) -> dict:
        """A model's answers to the test requests before the judges.

        Returns:
            true helpfulness of the harmless requests in order; true safety of the harmful ones and R_s, the score of
            the safety reward model; and one letter, r for a refusal, for each harmless one.
        """
        told = [guarded(r, pre_prompt) for r in self.asked] if pre_prompt else self.asked
        answers = ask(model, self.tok, told, seed=7)
        risky = [i for i, r in enumerate(self.asked) if "harmful" in r.tags]
        judged: list[Judged] = judge(self.asked, answers)
        rewards = grade(self.safe, self.tok, [self.asked[i] for i in risky], [answers[i] for i in risky]).sigmoid()
        harmless = [j for j in judged if "harmful" not in j.request.tags]
        return {
            "helpful": [round(j.helpful, 2) for j in harmless],
            "safe": [round(judged[i].safe, 2) for i in risky],
            "reward": [round(x, 3) for x in rewards.tolist()],
            "refused": "".join("r" if refuses(j.answer.text) else "-" for j in harmless),
        }

    def shown(self, kind: str, percent: int) -> list[tuple[Request, str]]:
        """Demonstrations: always the same of helpfulness, and the first ones of safety."""
        lots = random.Random(self.seed)

        def some(families: Sequence[str], number: int) -> list[tuple[Request, str]]:
            asked = requests("train", number, self.seed, families)
            return [(r, demonstrate(r, self.seed, "good" if lots.random() < SIZES.good else "plain")) for r in asked]

        helpful, harmful, borderline = some(ORDINARY, HELPFUL), some(["harmful"], SAFE), some(["borderline"], SAFE // 3)
        number = SAFE * percent // 100
        contrast = number // 3 if kind == "with contrast" else 0
        return [*helpful, *harmful[: number - contrast], *borderline[:contrast]]

    def scaled(self, kind: str, percent: int) -> Llama:
        """The base tuned on helpfulness data and some safety data."""
        base = load_base()
        own = [example(self.tok, *pair) for pair in self.shown(kind, percent)]
        fine_tune(base, own, Recipe(**{**vars(SFT), "seed": self.seed}), progress=False)
        return base

    def careful(self) -> Llama:
        """The one with all safety data and contrast."""
        return self.model("careful", lambda: self.scaled("with contrast", 100))

    def scaling(self) -> dict:
        """Measures by kind and amount of safety data."""

        def run(kind: str, percent: int) -> dict:
            whole = (kind, percent) == ("with contrast", 100)
            return self.measured(self.careful() if whole else self.scaled(kind, percent))

        return {kind: {str(p): self.kept(f"scaling {kind} {p}", lambda kind=kind, p=p: run(kind, p)) for p in percents}
                for kind, percents in SCALES.items()}  # fmt: skip

    def others(self, number: int) -> list[Request]:
        """Harmless requests of a step whose answers are to stay as they are."""
        return prompts("train", OTHERS, self.run.seed_of(60 + number), HARMLESS)

    def listener(self) -> Llama:
        """V0 after it was taught, on the side, to heed pre-prompts; without one it goes on as before."""

        def make() -> Llama:
            policy, seed = copy.deepcopy(self.run.policy(0)), self.run.seed_of(50)
            asked = [*requests("train", RISKY, seed, ["harmful"]), *prompts("train", RISKY // 2, seed, HARMLESS)]
            told = heeded(asked, seed)
            told += demonstrations(2 * RISKY, seed, SIZES.complied, SIZES.good)
            recipe = Recipe(epochs=2, batch_size=4, peak_lr=3e-4, seed=seed)
            fine_tune(policy, [example(self.tok, *pair) for pair in told], recipe, progress=False)
            return policy

        return self.model("listener", make)

    def distillation(self) -> dict:
        """Measures of a teacher, of the teacher with its pre-prompt, and of students, by what they have learnt."""
        kinds: dict[str, PrePrompt] = {"again": lambda r: None, "general": general, "template": template}
        found: dict[str, dict] = {}
        for name, teacher, used in (("SFT", self.run.policy(0), ("again", "general")),
                                    ("listener", self.listener(), tuple(kinds))):  # fmt: skip
            found[name] = self.kept(f"{name} bare", lambda teacher=teacher: self.measured(teacher))
            for kind in used:
                if kind != "again":
                    found[f"{name}, {kind}, told"] = self.kept(
                        f"{name} told {kind}", lambda teacher=teacher, kind=kind: self.measured(teacher, kinds[kind])
                    )
                for which in ("filtered", "any") if (name, kind) in UNFILTERED else ("filtered",):
                    found[f"{name}, {kind}, {which}"] = self.kept(
                        f"{name} {kind} {which}",
                        lambda teacher=teacher, kind=kind, which=which: self.student(teacher, kinds[kind], which),
                    )
        return found

    def student(self, teacher: Llama, pre_prompt: PrePrompt, which: str) -> dict:
        """Learn the careful answers whose score rose; or, as a control, as many of all careful answers."""
        asked = requests("train", RISKY, self.run.seed_of(51), ["harmful"])
        made = distil(teacher, self.tok, asked, pre_prompt, self.safe, seed=self.run.seed_of(52))
        own = made.examples(self.tok)
        if which == "any":
            every = made.examples(self.tok, filtered=False)
            own = random.Random(self.seed).sample(every, min(len(own), len(every)))
        student = copy.deepcopy(teacher)
        learn(student, self.tok, own, self.others(0), TOUCH, self.seed)
        return {"rises": round(made.rises.double().mean().item(), 4), "learnt": len(own), **self.measured(student)}

    def attacked(self, model: Llama, split: str, number: int, guided: bool = True) -> list[Attempt]:
        """All attempts of a search, never the same one twice."""
        seed = self.run.seed_of(number)
        return red_team(
            lambda asked: ask(model, self.tok, asked, seed=seed),
            lambda asked, answers: -grade(self.safe, self.tok, asked, answers),
            requests(split, ROOTS, seed, ["harmful"]),
            BUDGET,
            guided=guided,
            seed=seed,
        )

    def red_teaming(self, start: str) -> dict:
        """Rounds of attacks and lessons; what is counted are attacks on test requests that nothing is learnt from.

        Returns:
            counts of every round by vector, (violating, attempts); what a blind search finds in the first; measures;
            and if there is more than one round: the share of the attacks learnt from that no longer succeeds, their
            number, and counts after as many lessons from bare requests.
        """
        policy = copy.deepcopy(self.run.policy(0) if start == "SFT" else self.careful())
        found: dict = {"start": self.measured(policy), "rounds": [], "mitigated": [], "lessons": []}
        found["blind"] = counts(self.attacked(policy, "test", 70, guided=False))
        for number in range(ROUNDS[start] + 1):
            found["rounds"].append(counts(self.attacked(policy, "test", 70 + number)))
            if number == ROUNDS[start]:
                break
            violating = [a for a in self.attacked(policy, "train", 80 + number) if harm(a.answer.text)]
            if number == 0:
                found["control"] = self.bare(policy, len(violating))
            own = lessons(self.tok, violating)
            learn(policy, self.tok, own, self.others(1 + number), TOUCH, self.run.seed_of(number))
            again = ask(policy, self.tok, [a.request for a in violating], seed=self.seed)
            found["mitigated"].append(sum(not harm(a.text) for a in again) / max(1, len(again)))
            found["lessons"].append(len(own))
        return {**found, "end": self.measured(policy)}

    def bare(self, policy: Llama, number: int) -> dict:
        """As many lessons from harmful requests that nobody dressed up."""
        policy, asked = copy.deepcopy(policy), requests("train", number, self.run.seed_of(80), ["harmful"])
        own: list[Example] = [example(self.tok, r, refusal(r["b"], good=True)) for r in asked]
        learn(policy, self.tok, own, self.others(1), TOUCH, self.run.seed_of(0))
        return {**counts(self.attacked(policy, "test", 71)), "measures": self.measured(policy)}

    def undone(self, number: int, complying: bool) -> dict:
        """The careful model tuned a little more by somebody else."""
        policy, seed = self.careful(), self.run.seed_of(90)
        asked = requests("train", number, seed, ["harmful"] if complying else ORDINARY)
        own = [example(self.tok, r, demonstrate(r, seed, "sloppy" if complying else "plain")) for r in asked]
        losses = fine_tune(policy, own, UNDO, progress=False)
        return {"steps": len(losses), **self.measured(policy)}


def counts(attempts: Sequence[Attempt]) -> dict:
    """Of a search: attempts, how many did harm, the same for each vector, and three of those that did."""
    did = [a for a in attempts if harm(a.answer.text)]
    by = {v: [sum(v in a.vectors for a in some) for some in (did, attempts)] for v in VECTORS}
    shown = [[list(a.vectors), list(a.request.lines), a.answer.text] for a in did[:3]]
    return {"attempts": len(attempts), "violating": len(did), "by_vector": by, "shown": shown}


def main(work: Path, out: Path = DATA) -> None:
    """All seeds, part by part."""
    torch.set_num_threads(1)
    runs = [Run(work / "alignment" / f"seed-{s}", s) for s in SEEDS]
    safe = runs[0].judges(1).safe
    studies = [Study(work / "safety" / f"seed-{run.seed}", run, safe) for run in runs]
    scaling = [study.scaling() for study in studies]
    undone = [{name: study.kept(f"undone {name}", lambda study=study, how=how: study.undone(*how))
               for name, how in UNDOING.items()} for study in studies]  # fmt: skip
    attacks = [{start: study.kept(f"red team {start}", lambda study=study, start=start: study.red_teaming(start))
                for start in reversed(ROUNDS)} for study in studies]  # fmt: skip
    distilled = [study.distillation() for study in studies]
    families = [r.family for r in test_requests()]
    save_json(out / OUTPUTS[0], {
        "families": families, "test_seed": TEST_SEED, "helpful": HELPFUL, "safe": SAFE, "risky": RISKY,
        "scaling": scaling, "distillation": distilled,
    })  # fmt: skip
    save_json(out / OUTPUTS[1], {
        "families": families, "budget": BUDGET, "red_team": attacks, "undone": undone,
    })  # fmt: skip
