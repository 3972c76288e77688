"""What all recipes share: the village's corpus as token shards, runs that go on after a crash, and their measures."""

import json
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from minillama.model.checkpoints import load_safetensors
from minillama.model.config import ModelConfig
from minillama.model.generation import generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints
from minillama.pretraining.corpus import village
from minillama.pretraining.evaluation import token_losses
from minillama.pretraining.shards import Batches, TokenShards, write_shards
from minillama.pretraining.trainer import StepRecord, TrainConfig, Trainer
from minillama.village.binding import ASKED, answers, probes, report
from minillama.village.stories import Story, tell

DATA = Path(__file__).resolve().parents[1]
HELD_OUT = 10**9  # seeds of stories from here on are never trained on


def held_out_stories(number: int, split: str = "train") -> list[Story]:
    """Unseen stories; split "test" has unseen names and combinations too."""
    return [tell(HELD_OUT + i, split) for i in range(number)]


def tokenizer() -> Tokenizer:
    """The book's tokenizer."""
    return Tokenizer.from_file(DATA / "tokenizer.model")


def load_base() -> Llama:
    """The book's base model, computing in float32."""
    return load_safetensors(DATA / "base" / "model.safetensors", dtype=torch.float32)


def corpus(work: Path, documents: int) -> TokenShards:
    """The first documents of the village as shards, written on first use."""
    folder = work / f"village-{documents}"
    if not folder.exists():
        texts = tqdm(village(documents), total=documents, desc=f"writing {documents:,} documents", unit="document")
        write_shards(texts, tokenizer(), folder)
    return TokenShards(folder)


def bits_per_character(model, tok: Tokenizer, texts: list[str]) -> float:
    """Mean information of a text without its first token, for a `Llama` or an `NGram`."""
    nats = sum(token_losses(model, tok.encode(text, bos=True, eos=True)).sum().item() for text in texts)
    return nats / np.log(2) / sum(map(len, texts))


def measure(model: Llama, tok: Tokenizer, stories: int = 60, samples: int = 24) -> dict:
    """Held-out bits per character, facts kept by kind, and what the reader says of sampled stories."""
    unseen = held_out_stories(stories)
    questions = [p for story in unseen for p in probes(story)]
    right = answers(model, tok, questions)
    kinds = {kind: [ok for ok, p in zip(right, questions, strict=True) if p.kind == kind] for kind in ASKED}
    titles = [s.title for s in held_out_stories(4 * samples) if s.title][:samples]
    said = report(texts := write(model, tok, titles))
    return {
        "bits_per_character": round(bits_per_character(model, tok, [s.text for s in unseen]), 4),
        "binding": round(sum(right) / len(right), 4),
        "binding_by_kind": {kind: round(sum(oks) / len(oks), 4) for kind, oks in kinds.items() if oks},
        "sentences_read": round(said.read, 4),
        "stories_consistent": round(said.consistent, 4),
        "sample": f"{titles[0]}\n{texts[0]}",
    }


def write(model: Llama, tok: Tokenizer, titles: list[str], temperature: float = 0.7, seed: int = 0) -> list[str]:
    """One sampled story a title."""
    prompts = [tok.encode(title + "\n", bos=True) for title in titles]
    generator = torch.Generator().manual_seed(seed)
    done = generate(model, prompts, 240, temperature, top_p=1.0, stop_tokens=(tok.eos_id,), generator=generator)
    return [tok.decode([t for t in story.tokens if t != tok.eos_id]).strip() for story in done]


def train(
    name: str,
    work: Path,
    model: ModelConfig,
    config: TrainConfig,
    shards: TokenShards,
    measure_at: Collection[int] = (),
    model_seed: int = 0,
    data_seed: int = 0,
    record_every: int = 20,
) -> tuple[Llama, dict]:
    """A run that goes on where it stopped, and its log.

    Args:
        name: folder of the run below `work`.
        work: for checkpoints and the unfinished log.
        model, config, shards: what is trained, how and on what.
        measure_at: steps at which `measure` is called; the last one always is.
        model_seed, data_seed: of the first weights, of the order of the data.
        record_every: steps whose mean loss makes one point of the curve.

    Returns:
        The model, and a log: "model", "training", "curve" (step, tokens, mean loss) and "measures".
    """
    folder, notes = work / name, work / name / "log.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    batches, tok = Batches(shards, config.batch_size, config.context, data_seed), tokenizer()
    losses: list[float] = []

    def note(**entry) -> None:
        with open(notes, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def on_step(record: StepRecord) -> None:
        losses.append(record.loss)
        if record.step % record_every == 0:
            note(step=record.step, tokens=record.tokens, loss=round(float(np.mean(losses)), 4))
            losses.clear()
        if record.step == config.steps or record.step in measure_at:
            trainer.model.eval()
            with torch.random.fork_rng():
                note(step=record.step, tokens=record.tokens, measures=measure(trainer.model, tok))
            trainer.model.train()

    if checkpoints(folder):
        trainer = Trainer.resume(folder, batches, on_step)
        kept = [line for line in notes.read_text().splitlines() if json.loads(line)["step"] <= trainer.step]
        notes.write_text("".join(f"{line}\n" for line in kept))
    else:
        notes.unlink(missing_ok=True)
        start = Llama(model)
        start.init_weights(model_seed)
        trainer = Trainer(start, batches, config, folder, on_step)
    trainer.train()
    if trainer.step < config.steps:
        sys.exit(f"{name} was stopped at step {trainer.step} of {config.steps}; run this again to go on")
    entries = [json.loads(line) for line in notes.read_text().splitlines()]
    log = {
        "model": {k: v for k, v in vars(model).items() if v is not None},
        "parameters": model.n_parameters(),
        "training": {k: v for k, v in vars(config).items() if v is not None},
        "tokens_in_corpus": len(shards),
        "curve": [[e["step"], e["tokens"], e["loss"]] for e in entries if "loss" in e],
        "measures": [{"step": e["step"], "tokens": e["tokens"], **e["measures"]} for e in entries if "measures" in e],
    }
    return trainer.model, log


def made_once(path: Path, make: Callable[[], object], told: str | None = None) -> Any:
    """What a JSON file holds, after it was made if it was missing; `told` is printed before that."""
    if not path.exists():
        if told:
            print(told, flush=True)
        save_json(path, make())
    return json.loads(path.read_text())


def save_json(path: Path, content: object) -> None:
    """Write JSON, all or nothing, one short list a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    os.replace(temporary, path)
