"""A miniature scaling law: two dozen small runs, a law fitted to them, and then one larger run to test it (chapter 11).

The order of things is the point, so the law and its prediction are written with the time of day before the larger
run begins, and are never written again.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from recipes.common import DATA, corpus, held_out_stories, save_json, tokenizer

from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama
from minillama.pretraining.evaluation import token_losses
from minillama.pretraining.power_law import bootstrap_power_laws, fit_power_law
from minillama.pretraining.shards import Batches, TokenShards
from minillama.pretraining.trainer import TrainConfig, Trainer

OUTPUTS = ("runs/scaling.json",)
DOCUMENTS = 12_000  # a million tokens, more than any run reads, so that each is read once
SHAPES = ((24, 1), (32, 1), (48, 1), (64, 2), (80, 2), (96, 2))  # width, layers
BUDGETS = (1e11, 2e11, 4e11, 8e11)  # operations, as 6 N D
CUT_FROM = 4e11  # runs of these budgets are measured on their way too
TOKENS = (100_000, 900_000)  # runs outside are left out: hardly longer than the warm-up, or too long
LARGER = (128, 2, 2.4e12)  # width, layers and operations of the run that no fit sees
BATCH, CONTEXT, WARMUP, STORIES = 2, 256, 100, 60  # a tenth of the steps as warm-up spoils the shortest runs
RATES = {(32, 1): (8e-3, 1.6e-2, 3.2e-2), (96, 2): (2.7e-3, 5.3e-3, 1.07e-2)}
RATE_TOKENS = 100_000


def shape(dim: int, n_layers: int) -> ModelConfig:
    """The book's small models with another width and depth."""
    return ModelConfig(
        dim=dim, n_layers=n_layers, n_heads=4, n_kv_heads=2, vocab_size=2048, multiple_of=32, max_seq_len=512
    )


def size(config: ModelConfig) -> int:
    """N: the parameters that are multiplied, which are all but the embedding table, of which a token reads one row."""
    return config.n_parameters() - config.parameter_counts()["embedding"]


def peak_lr(dim: int) -> float:
    """The rule of the runs, after the check of `RATES`: the wider, the slower."""
    return 8e-3 * 64 / dim


def held_out_loss(model: Llama, rows: list[list[int]]) -> float:
    """Nats per token of unseen stories."""
    return round(sum(token_losses(model, row).sum().item() for row in rows) / sum(len(row) - 1 for row in rows), 4)


def run(dim: int, n_layers: int, tokens: float, rate: float, shards: TokenShards, cuts: tuple[float, ...] = ()) -> dict:
    """One run with a schedule of its own length, and its loss on unseen stories; at shares `cuts` of its steps too."""
    tok, started = tokenizer(), time.process_time()
    rows = [tok.encode(story.text, bos=True, eos=True) for story in held_out_stories(STORIES)]
    steps = max(round(tokens / (BATCH * CONTEXT)), 2)
    config = TrainConfig(steps, BATCH, CONTEXT, rate, warmup_steps=min(WARMUP, steps // 2))
    model = Llama(shape(dim, n_layers))
    model.init_weights(0)
    trainer = Trainer(model, Batches(shards, BATCH, CONTEXT, seed=0), config)
    cut_early = []
    for share in sorted(cuts):
        trainer.train(until=round(share * steps), progress=False)
        cut_early.append([trainer.tokens, held_out_loss(model, rows)])
    trainer.train(progress=False)
    return {
        "dim": dim,
        "n_layers": n_layers,
        "N": size(model.config),
        "D": trainer.tokens,
        "peak_lr": rate,
        "loss": held_out_loss(model, rows),
        "cpu_seconds": round(time.process_time() - started),
        **({"cut_early": cut_early} if cuts else {}),
    }


def kept(path: Path, make) -> dict:
    """What `make` returned the first time; it is not asked again."""
    if not path.exists():
        save_json(path, make())
        print(f"{datetime.now(UTC):%H:%M} {path.stem}: {path.read_text().strip()}", flush=True)
    return json.loads(path.read_text())


def predict(grid: list[dict], config: ModelConfig, tokens: float) -> dict:
    """The law of the grid and what it says of one more run, with a 90 % interval of the law there."""
    losses, N, D = (np.array([r[k] for r in grid]) for k in ("loss", "N", "D"))
    law, laws = fit_power_law(losses, N=N, D=D), bootstrap_power_laws(losses, N=N, D=D)
    at = {"N": size(config), "D": tokens}
    return {
        "written": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "irreducible": law.irreducible,
        "coefficients": law.coefficients,
        "exponents": law.exponents,
        **at,
        "loss": round(float(law(**at)), 4),
        "interval": np.quantile([law(**at) for law in laws], [0.05, 0.95]).round(4).tolist(),
    }


def main(work: Path, out: Path = DATA) -> None:
    """Check the rates, run the grid, fit, write the prediction, and only then make the run that it is about."""
    torch.set_num_threads(1)
    shards, folder = corpus(work, DOCUMENTS), work / "scaling"
    rates = [
        kept(folder / f"rate-{d}-{rate}.json", lambda d=d, n=n, rate=rate: run(d, n, RATE_TOKENS, rate, shards))
        for (d, n), tried in RATES.items()
        for rate in tried
    ]
    grid = []
    for budget in BUDGETS:
        cuts = (1 / 8, 1 / 4, 1 / 2) if budget >= CUT_FROM else ()
        for d, n in SHAPES:
            tokens = budget / (6 * size(shape(d, n)))
            if TOKENS[0] <= tokens <= TOKENS[1]:
                make = lambda d=d, n=n, tokens=tokens, cuts=cuts: run(d, n, tokens, peak_lr(d), shards, cuts)  # noqa: E731
                grid.append({"budget": budget, **kept(folder / f"grid-{budget:.0e}-{d}-{n}.json", make)})
    d, n, budget = LARGER
    tokens = round(budget / (6 * size(shape(d, n))) / (BATCH * CONTEXT)) * BATCH * CONTEXT
    predicted = kept(folder / "prediction.json", lambda: predict(grid, shape(d, n), tokens))
    larger = kept(folder / "larger.json", lambda: run(d, n, tokens, peak_lr(d), shards))
    larger["finished"] = f"{datetime.fromtimestamp((folder / 'larger.json').stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%SZ}"
    save_json(
        out / OUTPUTS[0],
        {
            "training": {"batch_size": BATCH, "context": CONTEXT, "warmup_steps": WARMUP, "stories": STORIES},
            "rates": rates,
            "grid": grid,
            "predicted": predicted,
            "larger": larger,
        },
    )
