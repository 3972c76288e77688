"""Ghost Attention on RLHF-V3, three times: how long an instruction is kept before and after, and what that costs.

Each model and each measure is saved as soon as it is there. What is kept in `data/` are the models before and after of
the first run, and the measures of all three.
"""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from recipes.alignment import SEEDS, Run, store, test_requests
from recipes.common import DATA, made_once, save_json
from recipes.rlhf import ROUNDS

from minillama.alignment.ghost_attention import demonstrated, ghost, obedient, play
from minillama.alignment.measures import ask, judge
from minillama.alignment.sft import Example, Recipe, fine_tune
from minillama.model.transformer import Llama
from minillama.village.instructions import (
    KINDS,
    conversation,
    draw_instruction,
    marked,
    obeys,
    without,
)
from minillama.village.judges import helpfulness
from minillama.village.language import Chooser

OUTPUTS = ("gatt/before.safetensors", "gatt/model.safetensors", "runs/ghost_attention.json")
TURNS = 12  # of a conversation that is measured
ROOM = 640  # tokens; RLHF-V3 was made for 512


@dataclass(frozen=True)
class Sizes:
    """How much of everything; chosen on validation conversations.

    Args:
        single: demonstrations of one question with an instruction, learnt before.
        long: demonstrations of many questions without one.
        most_turns: questions in the longest of these.
        replay: best answers of RLHF's last round, learnt again at either stage.
        sampled: conversations sampled for Ghost Attention.
        kinds: attributes in these.
        quiet: conversations without an instruction learnt beside these; with few of them, marks come unasked.
        turns: questions in these, from and to.
        temperature: of these.
        asked: conversations measured; `some` where less is at stake.
        before, after: how the two stages are tuned.
    """

    single: int = 3500
    long: int = 80
    most_turns: int = 20
    replay: int = 400
    sampled: int = 600
    kinds: tuple[str, ...] = ("figure", "hobby", "language")
    quiet: int = 120
    turns: tuple[int, int] = (2, 6)
    temperature: float = 0.7
    asked: int = 64
    some: int = 32
    before: Recipe = Recipe(epochs=2, batch_size=1, peak_lr=1e-3, context=ROOM)
    after: Recipe = Recipe(epochs=2, batch_size=2, peak_lr=7e-4, context=ROOM)


SIZES = Sizes()
UNSEEN_KIND = tuple(kind for kind in KINDS if kind not in SIZES.kinds)


class Ghosts:
    """One seed's models and measures."""

    def __init__(self, work: Path, seed: int, sizes: Sizes = SIZES):
        self.folder, self.seed, self.sizes = work / "ghost_attention" / f"seed-{seed}", seed, sizes
        self.run = Run(work / "alignment" / f"seed-{seed}", seed)
        self.own = Run(self.folder, seed)  # keeps this recipe's models
        self.tokenizer = self.run.tokenizer

    def model(self, name: str) -> Llama:
        """ "v3", "before" (the baseline), "ghost", or "all turns"."""
        if name == "v3":
            return self.run.policy(ROUNDS)
        make = {"before": self._before, "ghost": lambda: self._after("last"), "all turns": lambda: self._after("all")}
        return roomy(self.own.kept(name, make[name]))

    def lessons(self, share: float, seed: int) -> list[Example]:
        """What the baseline is tuned on, or a share of it: single questions with an instruction, many without one."""
        sizes, lots = self.sizes, random.Random(seed)
        single = demonstrated(self.tokenizer, round(share * sizes.single), 2 * seed)
        long = demonstrated(self.tokenizer, round(share * sizes.long), 2 * seed + 1, sizes.most_turns, instructed=False)
        return single + long + lots.sample(self.run.best(ROUNDS), min(sizes.replay, len(self.run.best(ROUNDS))))

    def tuned(self, model: Llama, examples: list[Example], recipe: Recipe) -> Llama:
        """A model, tuned in place."""
        fine_tune(model, examples, replace(recipe, seed=self.seed))
        return model

    def _before(self) -> Llama:
        # a copy: the policy itself is measured, too
        policy = Run(self.run.folder, self.seed).policy(ROUNDS)
        return self.tuned(roomy(policy), self.lessons(1.0, 100 + self.seed), self.sizes.before)

    def sampled(self) -> dict:
        """What is learnt from conversations of the baseline with the instruction repeated, on training questions.

        Only those that obey are kept: "tokens", and which of them are learnt, from the "last" answer or from "all".
        """
        path, sizes, choose = self.folder / "sampled.json", self.sizes, Chooser(200 + self.seed)
        if not path.exists():
            asked = [conversation(choose, "train", choose.number(*sizes.turns)) for _ in range(sizes.sampled)]
            instructions = [draw_instruction(choose, sizes.kinds) for _ in asked]
            model = self.model("before")
            played = play(model, self.tokenizer, instructions, asked, True, sizes.temperature, seed=self.seed)
            found = obedient(played)
            last, every = ([ghost(self.tokenizer, p, all_turns) for p in found] for all_turns in (False, True))
            turns = range(sizes.turns[0], sizes.turns[1] + 1)
            by_turns = {n: [sum(len(p.requests) == n for p in some) for some in (found, played)] for n in turns}
            content = {"kept": len(found), "of": len(played), "by_turns": by_turns}
            content |= {"tokens": [list(e.tokens) for e in last], "last": [list(map(int, e.said)) for e in last]}
            save_json(path, content | {"all": [list(map(int, e.said)) for e in every]})
        return json.loads(path.read_text())

    def _after(self, which: str) -> Llama:
        found = self.sampled()
        examples = [Example(t, [s == 1 for s in said]) for t, said in zip(found["tokens"], found[which], strict=True)]
        examples += self.lessons(0.05, 300 + self.seed)
        examples += demonstrated(self.tokenizer, self.sizes.quiet, 400 + self.seed, 2 * self.sizes.turns[1], False)
        return self.tuned(self.model("before"), examples, self.sizes.after)

    def conversations(self, name: str, number: int, kinds=None, unseen=False, repeat=False, instructed=True) -> dict:
        """Test conversations with a model: by conversation and turn, whether it obeys and how helpful it is.

        `kept` has one letter a turn: 1 if all attributes are kept, 0 if not, and fewer letters where the context ended;
        `marked`, without an instruction, says whether there is any mark.
        """
        choose = Chooser(9000 + self.seed)
        asked = [conversation(choose, "test", TURNS) for _ in range(number)]
        instructions = [draw_instruction(choose, kinds or self.sizes.kinds, unseen) for _ in asked]
        given = instructions if instructed else [None] * number
        played = play(self.model(name), self.tokenizer, given, asked, repeat, seed=50 + self.seed)
        rows = [(i, list(zip(p.requests, p.answers, strict=False))) for i, p in zip(instructions, played, strict=True)]
        found = {
            "instructions": [i.text for i in instructions],
            "kept": ["".join(str(int(obeys(i, a.text))) for _, a in row) for i, row in rows],
            "helpful": [[round(helpfulness(r, without(i, a.text)), 2) for r, a in row] for i, row in rows],
        }
        if not instructed:
            found["marked"] = ["".join(str(int(marked(a.text))) for _, a in row) for _, row in rows]
        return found

    def ordinary(self, name: str) -> dict:
        """Every other ordinary test request; instructions are only in the family `dialogue`, and of another kind."""
        asked = test_requests()[::2]
        judged = judge(asked, ask(self.model(name), self.tokenizer, asked, seed=7))
        return {
            "helpful": [round(j.helpful, 3) for j in judged],
            "safe": [round(j.safe, 3) for j in judged],
        }

    def measured(self) -> dict:
        """All measures, each kept when it is there."""
        many, some = self.sizes.asked, self.sizes.some
        plans = {
            "before": lambda: self.conversations("before", many),
            "ghost": lambda: self.conversations("ghost", many),
            "repeated": lambda: self.conversations("before", many, repeat=True),
            "all turns": lambda: self.conversations("all turns", many),
            "unseen pair, before": lambda: self.conversations("before", some, unseen=True),
            "unseen pair, ghost": lambda: self.conversations("ghost", some, unseen=True),
            "unseen kind, before": lambda: self.conversations("before", some, UNSEEN_KIND),
            "unseen kind, ghost": lambda: self.conversations("ghost", some, UNSEEN_KIND),
            "no instruction, before": lambda: self.conversations("before", some, instructed=False),
            "no instruction, ghost": lambda: self.conversations("ghost", some, instructed=False),
            **{f"ordinary, {name}": (lambda name=name: self.ordinary(name)) for name in ("v3", "before", "ghost")},
        }
        found = {}
        for name, make in plans.items():
            path = self.folder / f"{name.replace(', ', '-').replace(' ', '_')}.json"
            found[name] = made_once(path, make, f"seed {self.seed}: measuring {name}")
        counts = {name: self.sampled()[name] for name in ("kept", "of", "by_turns")}
        return {"seed": self.seed, "sampled": counts, **found}


def roomy(model: Llama) -> Llama:
    """The same model, allowed to read longer dialogues; rotary positions need no new weights for that."""
    model.config = replace(model.config, max_seq_len=ROOM)
    return model


def main(work: Path, out: Path = DATA) -> None:
    """Three runs; the first one's models, and everybody's measures."""
    torch.set_num_threads(1)
    found = [Ghosts(work, seed).measured() for seed in SEEDS]
    first = Ghosts(work, SEEDS[0])
    store(out, OUTPUTS[:2], (first.model("before"), first.model("ghost")))
    sizes = json.loads(json.dumps(vars(SIZES), default=vars))
    families = [request.family for request in test_requests()[::2]]
    save_json(out / OUTPUTS[-1], {"runs": found, "sizes": sizes, "turns": TURNS, "families": families})
