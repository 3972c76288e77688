"""LoRA of several ranks beside full fine-tuning, three times each: what it learns and what it forgets.

The learning rate of either way is chosen first, LoRA's at one rank, on validation requests and with a seed of its own.
Each run is saved
as soon as it is measured, so that a stopped recipe goes on with the next one.
"""

from pathlib import Path

import torch
from recipes.common import DATA, bits_per_character, held_out_stories, load_base, made_once, save_json, tokenizer

from minillama.alignment.measures import ask, judge
from minillama.alignment.sft import Recipe, fine_tune
from minillama.family.derived import TEMPERATURE, people, within
from minillama.family.lora import ATTENTION, MATRICES, add_lora, merge, n_trainable
from minillama.village.requests import requests

OUTPUTS = ("runs/lora.json",)
SEEDS, SWEEP_SEED = (0, 1, 2), 7
RANKS, ALPHA = (1, 2, 4, 8, 16), 16.0
NUMBER, BUDGET, EPOCHS, ROW = 240, 9_000, 2, 320
ASKED, ASKED_SEED, STORIES = 150, 21, 10
RATES = {"full": (1e-3, 2e-3, 4e-3), "lora": (3e-3, 1e-2, 3e-2)}
PLANS = {
    "full": (None, ()),
    **{f"lora {rank}": (rank, MATRICES) for rank in RANKS},
    "lora 8, attention only": (8, ATTENTION),
}  # rank and adapted matrices
SWEPT = {"full": "full", "lora 8": "lora", "lora 1": None}  # whose rates are tried, and for whom the best is taken


def tuned(rank: int | None, targets: tuple[str, ...], rate: float, seed: int, split: str) -> dict:
    """One run: full fine-tuning if `rank` is None, else LoRA, merged; and its measures on a set of requests."""
    tok, model = tokenizer(), load_base()
    learnt = within(people(tok, NUMBER, seed), BUDGET, ROW)
    if rank is not None:
        add_lora(model, rank, ALPHA, targets, seed)
    trained = n_trainable(model)
    losses = fine_tune(model, learnt, Recipe(EPOCHS, batch_size=4, peak_lr=rate, context=ROW, seed=seed))
    if rank is not None:
        merge(model)
    asked = requests(split, ASKED, ASKED_SEED)
    marks = [round(j.true, 3) for j in judge(asked, ask(model, tok, asked, TEMPERATURE, seed=seed))]
    bits = bits_per_character(model, tok, [s.text for s in held_out_stories(STORIES)])
    return {"trained": trained, "rate": rate, "steps": len(losses), "loss": round(sum(losses[-10:]) / 10, 4),
            "marks": marks, "bits": round(bits, 4)}  # fmt: skip


def main(work: Path, out: Path = DATA) -> None:
    """The sweep, then all runs that are missing, then one file."""
    torch.set_num_threads(1)
    folder = work / "lora"

    def kept(name: str, *settings) -> dict:
        return made_once(folder / f"{name.replace(',', '').replace(' ', '-')}.json", lambda: tuned(*settings), name)

    sweep, rates = {}, {}
    for name, method in SWEPT.items():
        tried = {rate: kept(f"sweep {name} {rate:g}", *PLANS[name], rate, SWEEP_SEED, "validation")
                 for rate in RATES[name.split()[0]]}  # fmt: skip
        sweep[name] = {f"{rate:g}": run for rate, run in tried.items()}
        if method:
            rates[method] = max(tried, key=lambda rate, tried=tried: sum(tried[rate]["marks"]))
    runs: dict[str, dict] = {name: {} for name in PLANS}
    for seed in SEEDS:
        for name, plan in PLANS.items():
            rate = rates[name.split()[0]]
            runs[name][str(seed)] = kept(f"{name} {rate:g} seed {seed}", *plan, rate, seed, "test")
    base = load_base()
    untouched = bits_per_character(base, tokenizer(), [s.text for s in held_out_stories(STORIES)])
    settings = {"alpha": ALPHA, "budget": BUDGET, "epochs": EPOCHS, "rates": rates, "base_bits": round(untouched, 4)}
    save_json(out / OUTPUTS[0], {**settings, "sweep": sweep, "runs": runs})
