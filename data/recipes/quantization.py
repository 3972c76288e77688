"""What rounding the weights costs: bits per character and facts of the base model, true scores of RLHF-V5's answers.

Every grid of chapter 21, the same stories and the same requests for all. Answers are sampled with three seeds. Each
grid is saved as soon as it is measured, so a stopped recipe goes on with the next one.
"""

from pathlib import Path

import torch
from recipes.alignment import SEEDS, test_requests
from recipes.common import DATA, held_out_stories, load_base, made_once, save_json, tokenizer

from minillama.alignment.measures import ask, judge
from minillama.family.rounding import round_model
from minillama.model.checkpoints import load_safetensors
from minillama.model.transformer import Llama
from minillama.pretraining.evaluation import token_losses
from minillama.village.binding import answers, probes

OUTPUTS = ("runs/quantization.json",)
STORIES = 200
GRIDS: dict[str, tuple | None] = {  # bits, group, zero point: the arguments of `rounded`
    "float32": None,
    "bfloat16": None,
    "8 bits, matrix": (8, 0, False),
    "8 bits, row": (8, None, False),
    "8 bits, groups of 32": (8, 32, False),
    "6 bits, row": (6, None, False),
    "5 bits, row": (5, None, False),
    "4 bits, matrix": (4, 0, False),
    "4 bits, row": (4, None, False),
    "4 bits, groups of 128": (4, 128, False),
    "4 bits, groups of 64": (4, 64, False),
    "4 bits, groups of 32": (4, 32, False),
    "4 bits, groups of 32, zero": (4, 32, True),
    "3 bits, row": (3, None, False),
    "3 bits, groups of 32, zero": (3, 32, True),
    "2 bits, groups of 32, zero": (2, 32, True),
}


def rounded_model(model: Llama, name: str) -> Llama:
    """A float32 model with the weights of a grid, in place."""
    if name == "bfloat16":
        return model.bfloat16().float()
    return model if GRIDS[name] is None else round_model(model, *GRIDS[name])


def measured(name: str) -> dict:
    """One grid: nats of each held-out story, which facts are right, the true score of each answer by seed."""
    tok, stories = tokenizer(), held_out_stories(STORIES, "test")
    base = rounded_model(load_base(), name)
    rows = [tok.encode(story.text, bos=True, eos=True) for story in stories]
    nats = [round(token_losses(base, row).sum().item(), 2) for row in rows]
    right = answers(base, tok, [p for story in stories[: STORIES // 2] for p in probes(story)])
    chat = rounded_model(load_safetensors(DATA / "rlhf" / "v5.safetensors", dtype=torch.float32), name)
    asked = test_requests()[::3]  # all families, in proportion
    judged = {seed: judge(asked, ask(chat, tok, asked, seed=seed)) for seed in SEEDS}
    return {
        "nats": nats,
        "facts": "".join(str(int(ok)) for ok in right),
        "true": [[round(j.true, 2) for j in row] for row in judged.values()],
        "ended": [sum(j.answer.ended for j in row) for row in judged.values()],
    }


def main(work: Path, out: Path = DATA) -> None:
    """All grids."""
    torch.set_num_threads(1)
    found = {}
    for name in GRIDS:
        path = work / "quantization" / f"{name.replace(', ', '-').replace(' ', '_')}.json"
        found[name] = made_once(path, lambda name=name: measured(name), f"measuring {name}")
    stories = held_out_stories(STORIES, "test")
    characters = [len(story.text) for story in stories]
    save_json(out / OUTPUTS[0], {"characters": characters, "seeds": list(SEEDS), "grids": found})
