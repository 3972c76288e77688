"""Six ways to read texts longer than those of training, three times: loss by position, and retrieval of a key.

Trained at 64 tokens with a base of 30; tuned at 256 tokens: with the same base, with one a hundred times larger, or
with positions divided by four. Each model and each measure is kept as soon as it is there.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from recipes.alignment import store
from recipes.common import DATA, made_once, save_json

from minillama.alignment.sft import Recipe
from minillama.family.long_context import (
    VOCABULARY,
    beginner,
    documents,
    key_documents,
    learn,
    rescaled,
    retrieved,
    value_losses,
)
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

OUTPUTS = ("code/long.safetensors", "runs/long_context.json")
SEEDS = (0, 1, 2)
SHORT, LONG = 64, 256  # tokens, as 4,096 and 16,384 in the paper
THETA, NEW_THETA, SCALE = 30.0, 3000.0, 0.25
MODEL = ModelConfig(
    dim=64, n_layers=2, n_heads=2, n_kv_heads=2, vocab_size=VOCABULARY, multiple_of=32, rope_theta=THETA,
    max_seq_len=SHORT,
)  # fmt: skip
TRAINING = Recipe(epochs=1, batch_size=16, peak_lr=5e-3, context=SHORT)
TUNING = Recipe(epochs=1, batch_size=4, peak_lr=1e-3, context=LONG)
TEXTS, TUNED_ON = 40_000, 1000  # texts of either length: 2.6 and 0.26 million tokens
CHANGES = {"": {}, "base": {"theta": NEW_THETA}, "positions": {"scale": SCALE}}
LENGTHS, DEPTHS = (32, 64, 128, 256, 512, 1024), (0.0, 0.25, 0.5, 0.75, 1.0)
ASKED, READ = 64, 32  # texts for each length and depth, texts whose loss is measured
EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024)  # of the bins of positions, in tokens


def trained(work: Path, seed: int) -> Llama:
    """The model of one seed, trained at the short length."""
    path = work / "long_context" / f"seed-{seed}.safetensors"
    if not path.exists():
        model = beginner(MODEL, seed)
        texts = documents(TEXTS, SHORT // 2, np.random.default_rng(1000 + seed))
        learn(model, texts, replace(TRAINING, seed=seed))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_safetensors(model, path)
    return load_safetensors(path, dtype=torch.float32)


def tuned(work: Path, seed: int, change: str) -> Llama:
    """That model, changed in one of the ways of `CHANGES` and trained on at the long length."""
    path = work / "long_context" / f"seed-{seed}-{change or 'none'}.safetensors"
    if not path.exists():
        model = rescaled(trained(work, seed), **CHANGES[change])
        texts = documents(TUNED_ON, LONG // 2, np.random.default_rng(2000 + seed))
        learn(model, texts, replace(TUNING, seed=seed))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_safetensors(model, path)
    return rescaled(load_safetensors(path, dtype=torch.float32), **CHANGES[change])


@torch.inference_mode()
def measured(model: Llama, seed: int = 9) -> dict:
    """Loss of values by text and bin of positions, and for each length and depth one digit a text: found or not."""
    dice = np.random.default_rng(seed)
    losses = torch.cat([value_losses(model, some) for some in documents(READ, LENGTHS[-1] // 2, dice).split(8)])
    bins = [losses[:, low // 2 : high // 2].nanmean(1) for low, high in zip(EDGES, EDGES[1:], strict=False)]
    return {
        "losses": [[None if x != x else round(x, 3) for x in row] for row in torch.stack(bins, 1).tolist()],
        "overwritten": keys(model, dice, True),
    }


def keys(model: Llama, dice: np.random.Generator, overwritten: bool) -> list[list[str]]:
    """For each length and depth, one digit a text: whether the key is found."""
    return [
        [
            "".join(str(int(ok)) for ok in retrieved(model, key_documents(ASKED, n // 2, depth, dice, overwritten)))
            for depth in DEPTHS
        ]
        for n in LENGTHS
    ]


def of_seed(work: Path, seed: int) -> dict:
    """All measures of one seed: "untuned" and "tuned", each by change."""
    folder, found = work / "long_context" / f"measures-{seed}", {"seed": seed}
    for kind in ("untuned", "tuned"):
        found[kind] = {}
        for change, how in CHANGES.items():

            def made(kind=kind, change=change, how=how) -> Llama:
                model = rescaled(trained(work, seed), **how) if kind == "untuned" else tuned(work, seed, change)
                return model.eval()

            name = f"{kind}-{change or 'none'}"
            measures = made_once(folder / f"{name}.json", lambda: measured(made()), f"seed {seed}: {name}")
            measures["found"] = made_once(
                folder / f"{name}-keys.json",
                lambda: keys(made(), np.random.default_rng(9), False),
                f"seed {seed}: keys, {name}",
            )
            found[kind][change or "none"] = measures
    return found


def main(work: Path, out: Path = DATA) -> None:
    """Three seeds, six ways each; the first seed's model at the short length."""
    torch.set_num_threads(1)
    runs = [of_seed(work, seed) for seed in SEEDS]
    sizes = {
        "short": SHORT, "long": LONG, "theta": THETA, "new_theta": NEW_THETA, "scale": SCALE, "lengths": LENGTHS,
        "depths": DEPTHS, "edges": EDGES, "tokens": TEXTS * SHORT, "tuning_tokens": TUNED_ON * LONG,
        "head_dim": MODEL.head_dim, "parameters": MODEL.n_parameters(),
    }  # fmt: skip
    store(out, OUTPUTS[:1], (trained(work, SEEDS[0]),))
    save_json(out / OUTPUTS[1], {"sizes": sizes, "runs": runs})
