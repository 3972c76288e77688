"""SFT and both first reward models; and, for `rlhf`, the rounds of rejection sampling that follow.

A run is one seed's models; each is saved as soon as it is there, so a stopped run goes on with the next one. What is
kept in `data/` here are the first models of the first run.
"""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from recipes.common import DATA, load_base, save_json, tokenizer

from minillama.alignment.rejection import Judges
from minillama.alignment.rounds import HARMLESS, Collections, Sizes, collect, reject, reward_models, supervised
from minillama.alignment.sft import Example
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.transformer import Llama
from minillama.village.draw import Request
from minillama.village.requests import FAMILIES, requests

OUTPUTS = (
    "sft/model.safetensors",
    "reward/helpful.safetensors",
    "reward/safe.safetensors",
)
SEEDS, SIZES = (0, 1, 2), Sizes()
TEST = {"harmful": 200, "borderline": 120, **{family: 60 for family in HARMLESS if family != "borderline"}}


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


def main(work: Path, out: Path = DATA) -> None:
    """The SFT model and the first reward models."""
    torch.set_num_threads(1)
    run = Run(work / "alignment" / f"seed-{SEEDS[0]}", SEEDS[0])
    store(out, OUTPUTS, (run.policy(0), run.judges(1).helpful, run.judges(1).safe))


def store(out: Path, names: Sequence[str], models: Sequence[Llama]) -> None:
    """Save models in bfloat16."""
    for name, model in zip(names, models, strict=True):
        (out / name).parent.mkdir(exist_ok=True)
        save_safetensors(model.to(torch.bfloat16), out / name)
