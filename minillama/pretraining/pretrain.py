"""From a corpus to a trained model, in one call and on any number of processes (chapter 11).

A run is a folder. It holds its recipe, the tokenizer, the corpus as token shards, a log, checkpoints, and at the end
the model as one file. What is there already is used again, so that a run that stopped goes on with its folder alone.

Does: everything that `minillama pretrain` does; the same batches, losses and weights whether one process or several
    share the work.
Does not: start processes (`torchrun` does), or find a good recipe.
Source: our own design.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from tqdm import tqdm

from minillama.model.checkpoints import save_safetensors
from minillama.model.generation import stream_text
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints
from minillama.pretraining.distributed import by_first, setup, teardown, whole_model
from minillama.pretraining.distributed_trainer import DistributedTrainer, is_whole
from minillama.pretraining.recipe import Recipe
from minillama.pretraining.schedule import DTYPES
from minillama.pretraining.shards import Batches, TokenShards, tokenizer_sha256, write_shards
from minillama.pretraining.sources import Corpus, open_corpus
from minillama.pretraining.trainer import StepRecord, Trainer, matmul_peak, next_token_loss

TOKENIZER_CHARACTERS = 20_000_000  # a vocabulary is learned from the first so many characters
HELD_OUT_BATCHES = 20  # the loss on held-out text is a mean over at most so many batches
SAMPLE_TOKENS = 80


def pretrain(
    folder: str | Path,
    recipe: Recipe | None = None,
    device: str | None = None,
    until: int | None = None,
    shards: str | Path | None = None,
    progress: bool = True,
) -> list[StepRecord]:
    """Train a model, from the start or from the last checkpoint on. Under `torchrun`, every process must call it.

    Args:
        folder: where everything of the run goes.
        recipe: of a new run; None goes on with the one in the folder, on any number of processes.
        device: "cpu", "cuda" or another one of PyTorch; None for the GPU if there is one.
        until: stop after this step; None for the last.
        shards: where token shards are kept, if several runs share a corpus; None for the run's folder.
        progress: show what is being done.

    Returns:
        The records of the steps done in this call. The folder then holds `model.safetensors` and `tokenizer.model`.

    Raises:
        ValueError: if the folder holds a run already, or a number of the recipe does not fit the others or the corpus.
        OSError: if a file cannot be read or written, or not be had.
        DivergenceError: if the loss is not finite.
    """
    folder = Path(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kept = checkpoints(folder)
    in_parts = bool(kept) and not is_whole(kept[-1])
    mesh = setup(device) if "RANK" in os.environ or in_parts else None  # torchrun sets RANK
    try:
        by_first(lambda: _prepare(folder, recipe, mesh.size() if mesh else 1, shards, progress))
        return _train(folder, mesh or device, until, progress)
    finally:
        teardown()


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe of the run in a folder; `FileNotFoundError` if there is none."""
    return Recipe(**_read_run(Path(folder))["recipe"])


def held_out_loss(trainer: Trainer, shards: TokenShards) -> float:
    """Mean loss over the first held-out batches, the same ones at every call; every process must call it."""
    config, processes = trainer.config, trainer.processes
    size = max(1, min(config.batch_size, len(shards) // config.context) // processes)
    batches = Batches(shards, size, config.context, rank=trainer.rank, world_size=processes)
    count = min(HELD_OUT_BATCHES, batches.windows // (size * processes))
    losses = [next_token_loss(trainer.model, next(batches).to(trainer.device)).item() for _ in range(count)]
    return trainer.mean(sum(losses) / count)


def _read_run(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    if not file.exists():
        raise FileNotFoundError(f"{folder} holds no run to go on with; start one without --resume")
    return json.loads(file.read_text(encoding="utf-8"))


def _prepare(folder: Path, recipe: Recipe | None, processes: int, shards: str | Path | None, progress: bool) -> None:
    """Check the recipe, and write what a run needs besides it: tokenizer and shards, unless they are there."""
    new = recipe is not None
    if new and checkpoints(folder):
        raise ValueError(f"{folder} already holds a run: go on with it by --resume, or choose another folder")
    recipe = recipe or read_recipe(folder)
    recipe.training()  # better an error now than after an hour of writing shards
    pieces = recipe.model().vocab_size
    if recipe.batch_size % processes:
        raise ValueError(f"batch_size must be a multiple of the {processes} processes, got {recipe.batch_size}")
    if not new and checkpoints(folder):
        return
    say = tqdm.write if progress else lambda text: None
    corpus = open_corpus(recipe.data, recipe.documents)
    if recipe.tokenizer == "train":
        say(f"Learning a vocabulary of {pieces:,} pieces from {recipe.data} ...")
        tokenizer = Tokenizer.train(_first_texts(corpus), pieces)
    else:
        tokenizer = Tokenizer.from_file(recipe.tokenizer)
    model = recipe.model(tokenizer.vocab_size)
    if len(tokenizer.encode(recipe.sample, bos=True)) >= model.max_seq_len:
        raise ValueError(f"the sample's beginning must be shorter than the model's {model.max_seq_len} tokens")
    identity = f"{corpus.identity} {tokenizer_sha256(tokenizer)}"  # another corpus or tokenizer is another place
    place = Path(shards or folder / "shards") / hashlib.sha256(identity.encode()).hexdigest()[:16]
    for part, documents, least in (
        ("train", corpus.train, recipe.batch_size),
        ("held-out", corpus.held_out, processes),
    ):
        if not (place / part).exists():
            say(f"Writing token shards to {place / part} ...")
            write_shards(documents(), tokenizer, place / part)
        tokens = len(TokenShards(place / part))
        say(f"{part}: {tokens:,} tokens")
        if tokens <= least * recipe.context:
            raise ValueError(
                f"{part}: {tokens:,} tokens are less than {least} sequences of {recipe.context}; add text, or make "
                "the batch or the context smaller"
            )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder / "tokenizer.model")
    run = {"recipe": asdict(recipe), "shards": os.path.relpath(place, folder)}
    (folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    (folder / "log.jsonl").unlink(missing_ok=True)
    say(f"The model has {model.n_parameters():,} parameters.")


def _first_texts(corpus: Corpus) -> Iterator[str]:
    left = TOKENIZER_CHARACTERS
    for document in corpus.train():
        if left <= 0:
            return
        left -= len(document.text)
        yield document.text


def _train(folder: Path, device: str | DeviceMesh, until: int | None, progress: bool) -> list[StepRecord]:
    recipe, place = read_recipe(folder), folder / _read_run(folder)["shards"]
    rank, processes, make, kind = 0, 1, Trainer, device
    if isinstance(device, DeviceMesh):
        rank, processes, make, kind = device.get_local_rank(), device.size(), DistributedTrainer, device.device_type
    tokenizer, rows = Tokenizer.from_file(folder / "tokenizer.model"), TokenShards(place / "train")
    batches = Batches(rows, recipe.batch_size // processes, recipe.context, recipe.seed, rank, processes)
    watch = _Watch(folder, recipe, tokenizer, TokenShards(place / "held-out"), rank, progress)
    arguments = {"on_step": watch.on_step, "on_eval": watch.on_eval, "device": device}
    if progress and kind == "cuda":  # on a CPU that others use too, the measure would say little
        arguments["peak_flops"] = matmul_peak(DTYPES[recipe.dtype], kind, 8192)
    if checkpoints(folder):
        trainer = make.resume(folder, batches, **arguments)
    else:
        model = Llama(recipe.model(tokenizer.vocab_size), recipe.seed)
        trainer = make(model, batches, recipe.training(), folder, **arguments)
    watch.forget_after(trainer.step)
    records = trainer.train(until, progress)
    model = whole_model(trainer.model)
    if model is not None:
        save_safetensors(model, folder / "model.safetensors")
    return records


class _Watch:
    """Writes the log of a run, and what the model says at every look; only process 0 writes."""

    def __init__(
        self, folder: Path, recipe: Recipe, tokenizer: Tokenizer, held_out: TokenShards, rank: int, progress: bool
    ):
        self.recipe, self.tokenizer, self.held_out = recipe, tokenizer, held_out
        self.log, self.rank, self.progress = folder / "log.jsonl", rank, progress

    def on_step(self, record: StepRecord) -> None:
        self._note(asdict(record))

    def on_eval(self, trainer: Trainer) -> None:
        loss = held_out_loss(trainer, self.held_out)
        self._note({"step": trainer.step, "held_out_loss": loss})
        model = whole_model(trainer.model) if self.progress else None
        if model is None:
            return
        generator, start = torch.Generator().manual_seed(self.recipe.seed), self.recipe.sample
        text = "".join(stream_text(model, self.tokenizer, start, SAMPLE_TOKENS, generator=generator))
        tqdm.write(f"step {trainer.step}: loss on held-out text {loss:.3f}\n{start}{text}\n")

    def forget_after(self, step: int) -> None:
        """Drop what a run noted after its last checkpoint, before it was killed; those steps come again."""
        if self.rank == 0 and self.log.exists():
            lines = [line for line in self.log.read_text().splitlines(True) if json.loads(line)["step"] <= step]
            self.log.write_text("".join(lines), encoding="utf-8")

    def _note(self, entry: dict[str, float]) -> None:
        if self.rank == 0:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
