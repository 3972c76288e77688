"""The two-minute run of chapter 9 with three seeds, of the first weights and of the order of the data."""

from pathlib import Path

import torch
from recipes.common import DATA, corpus, save_json, train

from minillama.model.config import PRESETS
from minillama.pretraining.trainer import TrainConfig

OUTPUTS = ("runs/two_minutes.json",)
DOCUMENTS = 12_000  # 1.05M tokens, of which a run reads nine tenths
SEEDS = (0, 1, 2)
CONFIG = TrainConfig(steps=900, batch_size=4, context=256, peak_lr=8e-3, warmup_steps=45, save_every=100)


def main(work: Path, out: Path = DATA) -> None:
    """Train, or go on, then one file of the three logs."""
    torch.set_num_threads(1)
    logs = {}
    for seed in SEEDS:
        name, shards = f"two_minutes-{seed}", corpus(work, DOCUMENTS)
        _, logs[str(seed)] = train(
            name, work, PRESETS["village-small"], CONFIG, shards, model_seed=seed, data_seed=seed, record_every=20
        )
    save_json(out / "runs" / "two_minutes.json", logs)
