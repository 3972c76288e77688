"""The base model that the rest of the book uses: the recipe of chapter 9, run for an hour and more of one core.

Made with one thread; another CPU or number of threads gives slightly different weights, whose measures agree.
"""

from pathlib import Path

import torch
from recipes.common import DATA, corpus, save_json, train

from minillama.model.checkpoints import save_safetensors
from minillama.model.config import PRESETS
from minillama.pretraining.trainer import TrainConfig

OUTPUTS = ("base/model.safetensors", "base/log.json")
DOCUMENTS = 190_000  # more than the run reads: no document is seen twice
CONFIG = TrainConfig(
    steps=6000, batch_size=8, context=256, peak_lr=3e-3, warmup_steps=200, save_every=100, seed=0
)  # fmt: skip
MEASURE_AT = (25, 50, 100, 200, 400, 800, 1200, 1600, 2400, 3200, 4400)


def main(work: Path, out: Path = DATA) -> None:
    """Train or go on, then save the weights in bfloat16 and the log."""
    torch.set_num_threads(1)
    model, log = train("base", work, PRESETS["village"], CONFIG, corpus(work, DOCUMENTS), MEASURE_AT)
    (out / "base").mkdir(exist_ok=True)
    save_safetensors(model.to(torch.bfloat16), out / "base" / "model.safetensors")
    save_json(out / "base" / "log.json", log)
