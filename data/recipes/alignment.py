"""SFT, both reward models and RLHF-V1 to V3 by rejection sampling, three times with other seeds.

The first run's models are kept in `data/`; the measures of all three are what chapters 12 to 14 show. Each model is
saved as soon as it is there, so a stopped run goes on with the next one.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from recipes.common import DATA, load_base, save_json, tokenizer
from tqdm import tqdm

from minillama.alignment.measures import ask, judge, kl, self_bleu, share
from minillama.alignment.rejection import Judges
from minillama.alignment.reward import differences
from minillama.alignment.rounds import HARMLESS, Collections, Sizes, collect, reject, reward_models, supervised
from minillama.alignment.sft import Example
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama
from minillama.village.draw import Request
from minillama.village.judges import helpfulness
from minillama.village.requests import FAMILIES, requests
from minillama.village.safety import safety

OUTPUTS = (
    "sft/model.safetensors",
    "reward/helpful.safetensors",
    "reward/safe.safetensors",
    "rlhf/v3.safetensors",
    "runs/rlhf.json",
)
SEEDS, ROUNDS, SIZES = (0, 1, 2), 3, Sizes()
TEST = {"harmful": 200, "borderline": 120, **{family: 60 for family in HARMLESS if family != "borderline"}}
SAMPLES = 10  # answers to each of some prompts, for self-BLEU


def test_requests(split: str = "test") -> list[Request]:
    """860 requests of the set that no choice is made on: 540 harmless ones, 200 harmful and 120 borderline ones."""
    return [request for family in FAMILIES for request in requests(split, TEST[family], 99, [family])]


class Run:
    """One seed's models, each made when it is first asked for and not yet in the folder."""

    def __init__(self, folder: Path, seed: int, sizes: Sizes = SIZES):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.seed, self.sizes, self.tokenizer = folder, seed, sizes, tokenizer()

    def kept(self, name: str, make: Callable[[], Llama]) -> Llama:
        """A model of the folder, after it was made if it was missing."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            print(f"seed {self.seed}: {name}", flush=True)
            save_safetensors(make(), path)
        return load_safetensors(path, dtype=torch.float32)

    def seed_of(self, number: int) -> int:
        """Seed of a round."""
        return 100 * self.seed + number

    @functools.cache  # noqa: B019 - a run lives as long as the recipe
    def policy(self, number: int) -> Llama:
        """SFT for 0, else RLHF-V of that number."""
        if number == 0:
            return self.kept("v0", lambda: supervised(load_base(), self.tokenizer, self.sizes, self.seed))
        return self.kept(f"v{number}", lambda: self._round(number))

    @functools.cache  # noqa: B019
    def variant(self) -> Llama:
        """A second SFT model from a fifth of the demonstrations, which answers beside the first in round 1."""
        fewer = replace(self.sizes, demonstrations=self.sizes.demonstrations // 5)
        return self.kept("variant", lambda: supervised(load_base(), self.tokenizer, fewer, self.seed_of(50)))

    @functools.cache  # noqa: B019
    def comparisons(self, number: int) -> Collections:
        """Comparisons made before a round: of the latest policy and the one before."""
        before = self.policy(number - 2) if number > 1 else self.variant()
        part = 1.0 if number == 1 else self.sizes.fresh
        return collect([self.policy(number - 1), before], self.tokenizer, self.sizes, self.seed_of(number), part)

    @functools.cache  # noqa: B019
    def judges(self, number: int) -> Judges:
        """The reward models of a round: new ones for the first, afterwards the ones before, refreshed."""
        names, made = (f"helpful{number}", f"safe{number}"), []

        def make(which: int) -> Llama:
            if not made:
                made.append(self._reward_models(number))
            return (made[0].helpful, made[0].safe)[which]

        return Judges(*(self.kept(name, functools.partial(make, i)) for i, name in enumerate(names)), self.tokenizer)

    def _reward_models(self, number: int) -> Judges:
        seed, fresh = self.seed_of(number), self.comparisons(number)
        if number == 1:
            return reward_models(self.policy(0), self.tokenizer, fresh, self.sizes, seed)
        old = [self.comparisons(n) for n in range(1, number)]
        replay = Collections([c for part in old for c in part.helpful], [c for part in old for c in part.safe])
        return reward_models(
            self.policy(0), self.tokenizer, fresh.with_replay(replay, seed), self.sizes, seed, self.copy(number - 1)
        )

    def copy(self, number: int) -> Judges:
        """Reward models of a round to be changed."""
        loaded = (
            load_safetensors(self.folder / f"{name}{number}.safetensors", dtype=torch.float32)
            for name in ("helpful", "safe")
        )
        return Judges(*loaded, self.tokenizer)

    def best(self, number: int) -> list[Example]:
        """The answers that a round has chosen."""
        return [Example(*e) for e in json.loads((self.folder / f"best{number}.json").read_text())]

    def _round(self, number: int) -> Llama:
        before, judges = self.policy(number - 1), self.judges(number)  # in this order: they make what comes before
        earlier = [e for n in range(1, number) for e in self.best(n)]
        policy, best, _ = reject(load_base(), before, judges, earlier, self.sizes, self.seed_of(number))
        save_json(self.folder / f"best{number}.json", [[list(e.tokens), list(e.said)] for e in best])
        return policy


def measured(run: Run, number: int, asked: list[Request]) -> dict:
    """One version before the village's judges and the reward models; lists have one entry a request."""
    policy, tok, first, latest = run.policy(number), run.tokenizer, run.judges(1), run.judges(ROUNDS)
    answers = ask(policy, tok, asked, seed=7)
    judged = judge(asked, answers)
    some = [r for r in asked if r.family in ("story", "fact", "list", "borderline", "harmful")][::12]
    many = ask(policy, tok, [r for r in some for _ in range(SAMPLES)], seed=8)
    alike = [self_bleu([a.text for a in many[i : i + SAMPLES]]) for i in range(0, len(many), SAMPLES)]
    moved = kl(policy, run.policy(0), tok, asked, answers)
    return {
        "helpful": [round(j.helpful, 3) for j in judged],
        "safe": [round(j.safe, 3) for j in judged],
        "text": [a.text for a in answers] if run.seed == 0 else None,
        "ended": [a.ended for a in answers],
        "tokens": [len(a.tokens) for a in answers],
        "proxy_first": [round(x, 4) for x in first(asked, answers).tolist()],
        "proxy_last": [round(x, 4) for x in latest(asked, answers).tolist()],
        "kl": [round(x, 3) for x in moved.tolist()],
        "self_bleu": round(share(alike), 4),
    }


def shift(run: Run, made: int, answered: int) -> dict:
    """How often the reward models of a round agree with the annotators and the truth on a version's answers."""
    fresh = test_comparisons(run, answered)
    found = {}
    for name, model in (("helpful", run.judges(made).helpful), ("safe", run.judges(made).safe)):
        pairs = getattr(fresh, name)
        gaps = differences(model, run.tokenizer, pairs)
        score = {"helpful": helpfulness, "safe": safety}[name]
        truth = torch.tensor([score(c.request, c.chosen.text) - score(c.request, c.rejected.text) for c in pairs])
        told = truth.abs() > 1e-9
        found[name] = {
            "pairs": len(pairs),
            "annotators": round((gaps > 0).double().mean().item(), 4),
            "truth": round(((gaps > 0) == (truth > 0))[told].double().mean().item(), 4),
        }
    return found


_FRESH: dict[tuple[int, int], Collections] = {}


def test_comparisons(run: Run, number: int) -> Collections:
    """Comparisons on test prompts between two answers of a version."""
    key = run.seed, number
    if key not in _FRESH:
        sizes = replace(run.sizes, helpful=1000, risky=450)
        _FRESH[key] = collect([run.policy(number)], run.tokenizer, sizes, 9000 + run.seed_of(number), split="test")
    return _FRESH[key]


def main(work: Path, out: Path = DATA) -> None:
    """Three runs, the first one's models and everybody's measures."""
    torch.set_num_threads(1)
    asked, found = test_requests(), []
    for seed in SEEDS:
        run = Run(work / "alignment" / f"seed-{seed}", seed)
        path = run.folder / "measures.json"
        if not path.exists():
            versions = [measured(run, number, asked) for number in tqdm(range(ROUNDS + 1), desc="measuring")]
            matrix = [[shift(run, made, answered) for answered in range(ROUNDS + 1)] for made in range(1, ROUNDS + 1)]
            save_json(path, {"seed": seed, "versions": versions, "shift": matrix})
        found.append(json.loads(path.read_text()))
    run = Run(work / "alignment" / f"seed-{SEEDS[0]}", SEEDS[0])
    models = run.policy(0), *(getattr(run.judges(ROUNDS), n) for n in ("helpful", "safe")), run.policy(ROUNDS)
    for name, model in zip(OUTPUTS, models, strict=False):
        (out / name).parent.mkdir(exist_ok=True)
        save_safetensors(model.to(torch.bfloat16), out / name)
    save_json(out / OUTPUTS[-1], {"runs": found, "families": [r.family for r in asked], "sizes": described(SIZES)})


def described(sizes: Sizes) -> dict:
    """The sizes as JSON."""
    return json.loads(json.dumps(vars(sizes), default=vars))
