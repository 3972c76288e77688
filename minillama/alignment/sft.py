"""Supervised fine-tuning: learn to answer from demonstrations (chapter 12).

Pretraining's loss, on dialogues instead of pages, with one change: only the assistant's tokens count. Several
dialogues share a row, so that no place is wasted on padding; they do not see each other.

Does: the paper's recipe (cosine, weight decay 0.1, 2 epochs, loss on answers alone), scaled down; exact resume.
Does not: keep dialogues that are longer than a row: such a one is an error, not a cut.
Source: Touvron et al. 2023b, section 3.1. Whether the paper's packed samples see each other is not said.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.alignment.chat import encode_dialogue, messages
from minillama.alignment.packing import pack
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints
from minillama.pretraining.schedule import TrainConfig
from minillama.pretraining.trainer import Trainer
from minillama.village.draw import Request


@dataclass(frozen=True)
class Example:
    """One dialogue: its ids, and which of them the assistant says."""

    tokens: Sequence[int]
    said: Sequence[bool]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Rows:
    """A batch of packed rows.

    Attributes:
        tokens: ids, shape (B, T); 0 behind the last dialogue.
        said: which tokens are targets, shape (B, T).
        documents: number of each token's dialogue in its row, from 0; -1 behind the last, shape (B, T).
    """

    tokens: Tensor
    said: Tensor
    documents: Tensor

    def to(self, device: str | torch.device) -> "Rows":
        """The same on a device."""
        return Rows(self.tokens.to(device), self.said.to(device), self.documents.to(device))


def example(tokenizer: Tokenizer, request: Request, answer: str, prompts_too: bool = False) -> Example:
    """A request of the village and its answer; only the last answer is learnt.

    Args:
        prompts_too: learn every token of the dialogue, for comparison.
    """
    tokens, said = encode_dialogue(tokenizer, messages(request, answer))
    first = len(tokens) - said[::-1].index(False)  # behind the last token that is not the assistant's
    return Example(tokens, [prompts_too or i >= first for i in range(len(tokens))])


def collate(rows: Sequence[Sequence[Example]]) -> Rows:
    """Rows of examples as tensors, as long as the longest of them."""
    length = max(sum(map(len, row)) for row in rows)
    tokens, said, documents = [], [], []
    for row in rows:
        padding = length - sum(map(len, row))
        tokens.append([t for e in row for t in e.tokens] + [0] * padding)
        said.append([s for e in row for s in e.said] + [False] * padding)
        documents.append([i for i, e in enumerate(row) for _ in e.tokens] + [-1] * padding)
    return Rows(torch.tensor(tokens), torch.tensor(said), torch.tensor(documents))


def answer_loss(model: nn.Module, rows: Rows) -> Tensor:
    """Mean negative log-likelihood of the answers' tokens, in nats."""
    logits = model(rows.tokens[:, :-1], documents=rows.documents[:, :-1])  # (B, T - 1, V)
    counts = rows.said[:, 1:] & (rows.documents[:, 1:] == rows.documents[:, :-1])
    return F.cross_entropy(logits[counts], rows.tokens[:, 1:][counts])


class Epochs:
    """Batches of items without end, in an order drawn anew for every epoch; the last batch of an epoch may be smaller.

    Stands where `minillama.pretraining.shards.Batches` stands for pretraining, and can be resumed like it.

    Args:
        items: what is learnt from.
        batch_size: items in a batch.
        context: most tokens of an item.
        collate: makes a batch, with a method `to`, of a list of items.
        identity: text that tells these items from others, for `load_state_dict`.
        seed: decides the order.
    """

    rank, world_size = 0, 1

    def __init__(
        self,
        items: Sequence[Any],
        batch_size: int,
        context: int,
        collate: Callable[[list], Any],
        identity: str,
        seed: int = 0,
    ):
        if not items or batch_size < 1:
            raise ValueError(f"expected items and a batch_size of at least 1, got {len(items)} and {batch_size}")
        self.items, self.batch_size, self.context, self.collate = items, batch_size, context, collate
        self.seed, self.epoch, self.position = seed, 0, 0
        self._sha256 = hashlib.sha256(identity.encode()).hexdigest()

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.items) / self.batch_size)

    def __iter__(self) -> "Epochs":
        return self

    def __next__(self) -> Any:
        if self.position == self.per_epoch:
            self.epoch, self.position = self.epoch + 1, 0
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.items))
        chosen = order[self.position * self.batch_size :][: self.batch_size]
        self.position += 1
        return self.collate([self.items[i] for i in chosen])

    def state_dict(self) -> dict[str, int | str]:
        """Where the reading stands, and of what."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, "sha256": self._sha256}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError: if the items or the seed differ.
        """
        if (state["seed"], state["sha256"]) != (self.seed, self._sha256):
            raise ValueError("the saved run learnt from other items or with another seed; start a new run for these")
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


@dataclass(frozen=True)
class Recipe:
    """How a model is tuned, in epochs.

    Args:
        epochs: times that every example is seen; the paper's SFT has 2.
        batch_size: rows (or pairs) a step; the paper's 64.
        peak_lr: the paper's 2e-5 for 7B; a model of a million parameters wants more.
        warmup: share of the steps until the rate is at its peak.
        context: tokens of a row; the paper's 4,096.
        seed: order of the examples.
    """

    epochs: float = 2
    batch_size: int = 8
    peak_lr: float = 1e-3
    warmup: float = 0.03
    context: int = 256
    seed: int = 0


def tune(
    model: Llama,
    batches: Epochs,
    recipe: Recipe,
    loss: Callable[[nn.Module, Any], Tensor],
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> list[float]:
    """Train in place by pretraining's loop, with another loss; returns the loss of every step of this call.

    Args:
        model: what is trained.
        batches: over all examples; its sizes are the recipe's.
        recipe: the numbers.
        loss: function of the model and a batch.
        folder: where checkpoints go; if it holds one, the run goes on from there. None keeps none.
        device: where the model is trained.
        progress: show the bar.
    """
    steps = max(1, round(recipe.epochs * batches.per_epoch))
    config = TrainConfig(
        steps=steps,
        batch_size=recipe.batch_size,
        context=recipe.context,
        peak_lr=recipe.peak_lr,
        warmup_steps=min(steps - 1, max(5, round(recipe.warmup * steps))),
        seed=recipe.seed,
        save_every=100 if folder else 0,
    )
    if folder and checkpoints(folder):
        trainer = Trainer.resume(folder, batches, device=device, loss=loss)
    else:
        trainer = Trainer(model, batches, config, folder, device=device, loss=loss)
    records = trainer.train(progress=progress)
    model.load_state_dict(trainer.model.state_dict())  # a resumed run has a model of its own
    return [record.loss for record in records]


def fine_tune(
    model: Llama,
    examples: Sequence[Example],
    recipe: Recipe = Recipe(),
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> list[float]:
    """Learn answers from examples, in place; arguments and result are those of `tune`."""
    rows = [[examples[i] for i in row] for row in pack([len(e) for e in examples], recipe.context)]
    identity = repr([[(list(e.tokens), list(e.said)) for e in row] for row in rows])
    batches = Epochs(rows, recipe.batch_size, recipe.context, collate, identity, recipe.seed)
    return tune(model, batches, recipe, answer_loss, folder, device, progress)
