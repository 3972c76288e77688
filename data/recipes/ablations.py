"""Short runs that differ in one number each: learning rate, batch size, and two that go wrong (chapter 9).

Every run begins with the same weights and reads the same windows of text in the same order. A run that is stopped
starts again from its beginning; those that are finished are kept.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from recipes.common import DATA, bits_per_character, corpus, held_out_stories, save_json, tokenizer
from tqdm import tqdm

from minillama.model.config import PRESETS
from minillama.model.transformer import Llama
from minillama.pretraining.shards import Batches, TokenShards
from minillama.pretraining.trainer import DivergenceError, StepRecord, TrainConfig, Trainer

OUTPUTS = ("runs/ablations.json",)
DOCUMENTS = 12_000
TOKENS = 200_704  # of every run: 196 steps of 4 sequences of 256
BASE = TrainConfig(steps=196, batch_size=4, context=256, peak_lr=8e-3, warmup_steps=40)
RATES = (1e-3, 3e-3, 8e-3, 2e-2, 6e-2)
BATCHES = (1, 16)  # besides BASE's 4; once at BASE's rate, once at a rate that grows with the root of the batch
TOO_HIGH = 0.5


def runs() -> dict[str, TrainConfig]:
    """The name and recipe of every run."""
    made = {f"lr {rate:g}": replace(BASE, peak_lr=rate) for rate in RATES}
    for size in BATCHES:
        steps = TOKENS // (size * BASE.context)
        same = replace(BASE, batch_size=size, steps=steps, warmup_steps=steps // 5)
        made[f"batch {size}"] = same
        made[f"batch {size}, scaled"] = replace(same, peak_lr=BASE.peak_lr * (size / BASE.batch_size) ** 0.5)
    made["too high"] = replace(BASE, peak_lr=TOO_HIGH)
    made["no warm-up"] = replace(BASE, warmup_steps=0)
    return made


def curve(name: str, config: TrainConfig, shards: TokenShards) -> dict:
    """Train once; every step's loss and gradient norm, and how well held-out stories are predicted at the end."""
    model = Llama(PRESETS["village-small"])
    model.init_weights(0)
    losses, norms = [], []
    with tqdm(total=config.steps, desc=name, unit="step") as bar:

        def note(record: StepRecord) -> None:
            losses.append(round(record.loss, 3))
            norms.append(float(f"{record.grad_norm:.3g}"))
            bar.update()

        trainer = Trainer(model, Batches(shards, config.batch_size, config.context), config, on_step=note)
        try:
            trainer.train(progress=False)
        except DivergenceError as error:
            bar.write(str(error))
    texts = [story.text for story in held_out_stories(60)]
    return {
        "training": asdict(config),
        "loss": losses,
        "grad_norm": norms,
        "bits_per_character": round(bits_per_character(model, tokenizer(), texts), 4),
    }


def main(work: Path, out: Path = DATA) -> None:
    """All runs that are missing, then one file of them."""
    torch.set_num_threads(1)
    shards, finished = corpus(work, DOCUMENTS), {}
    for name, config in runs().items():
        path = work / "ablations" / f"{name}.json"
        if not path.exists():
            save_json(path, curve(name, config, shards))
        finished[name] = json.loads(path.read_text(encoding="utf-8"))
    save_json(out / "runs" / "ablations.json", finished)
