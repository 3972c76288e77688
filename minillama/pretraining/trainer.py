"""The training loop (chapter 9).

Read a batch, predict every next token, follow the gradient, repeat. Around these few lines stands what makes a long
run bearable: it shows its speed and the time left, stops safely on Ctrl-C, goes on after a crash as if nothing had
happened, and refuses to go on once the loss is no number.

Does: AdamW with warm-up and cosine, clipping, gradient accumulation, bfloat16 autocast, `torch.compile`, checkpoints
    with exact resume: on the same machine and thread count the weights come out equal to the last bit.
Does not: several processes. What they do in another way stands in methods of its own (`mean`, `_clip`, `_write`,
    `_blank`, `_restore`), which `minillama.pretraining.distributed_trainer` overrides.
Source: Touvron et al. 2023b, section 2.2, for the recipe; MFU as in Chowdhery et al. 2022, appendix B.
"""

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import (
    checkpoints,
    last_checkpoint,
    read_model,
    read_state,
    restore_training,
    save_checkpoint,
)
from minillama.pretraining.schedule import DTYPES, TrainConfig, learning_rate, make_optimizer
from minillama.pretraining.shards import Batches

__all__ = [
    "DivergenceError",
    "StepRecord",
    "TrainConfig",
    "Trainer",
    "learning_rate",
    "make_optimizer",
    "matmul_peak",
    "next_token_loss",
]


class DivergenceError(RuntimeError):
    """The loss or its gradient is no finite number; the weights have not been touched by it."""


@dataclass(frozen=True)
class StepRecord:
    """One update.

    Args:
        step: its number, from 1.
        loss: mean over the step's tokens, in nats per token, before the update.
        lr: learning rate.
        grad_norm: norm of the gradient before clipping.
        tokens: tokens trained on so far, this step included.
        seconds: wall time of this step.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    seconds: float


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood of each token after the first, in nats; tokens has shape (B, T + 1)."""
    logits = model(tokens[:, :-1])  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


class Trainer:
    """A run: a model, its data, its recipe, and where it stands.

    Args:
        model: trained in place.
        batches: where the data comes from; its size and context must be the recipe's.
        config: the recipe.
        folder: where checkpoints go; None keeps none.
        on_step: called with the record of every update.
        on_eval: called with the trainer every `config.eval_every` steps, without gradients, and with random numbers
            of its own, so that a look at the model never changes the run.
        device: where the model is moved to.
        peak_flops: what a process's device can do at best (`matmul_peak`); the progress bar then shows the share in
            use, MFU.
        loss: what is made small: a function of the model and a batch; Part III has others than `next_token_loss`.

    Attributes:
        step: updates done.
        tokens: tokens trained on.
        rank, processes: number of this process, and how many train together.

    Raises:
        ValueError: if the batches are not those of the recipe, or the folder already holds a run.
    """

    rank, processes = 0, 1

    def __init__(
        self,
        model: Llama,
        batches: Batches,
        config: TrainConfig,
        folder: str | Path | None = None,
        on_step: Callable[[StepRecord], None] | None = None,
        on_eval: Callable[["Trainer"], None] | None = None,
        device: str | torch.device = "cpu",
        peak_flops: float | None = None,
        loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
    ):
        sequences = batches.batch_size * batches.world_size
        if (sequences, batches.context) != (config.batch_size, config.context):
            raise ValueError(
                f"the batches have {sequences} sequences of {batches.context} tokens, the config says "
                f"{config.batch_size} of {config.context}; make both with the same numbers"
            )
        if (batches.rank, batches.world_size) != (self.rank, self.processes):
            raise ValueError(
                f"the batches are part {batches.rank} of {batches.world_size}, this process is number {self.rank} of "
                f"{self.processes}; several processes need a DistributedTrainer and each its own part"
            )
        if folder is not None and checkpoints(folder):
            raise ValueError(f"{folder} already holds a run: go on with Trainer.resume, or choose another folder")
        torch.manual_seed(config.seed)
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.batches, self.config, self.peak_flops, self.loss = batches, config, peak_flops, loss
        self.folder = None if folder is None else Path(folder)
        self.on_step, self.on_eval = on_step, on_eval
        self.optimizer = make_optimizer(model, config)
        self.step, self.tokens = 0, 0
        self._stopping = False
        self._forward = torch.compile(model) if config.compile else model

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        batches: Batches,
        on_step: Callable[[StepRecord], None] | None = None,
        on_eval: Callable[["Trainer"], None] | None = None,
        device: str | torch.device = "cpu",
        peak_flops: float | None = None,
        loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
    ) -> "Trainer":
        """The run in a folder, as its last checkpoint left it.

        Args:
            folder: where the run keeps its checkpoints.
            batches: as at the start of the run; they are moved to where it stopped.
            on_step, on_eval, device, peak_flops, loss: as in `Trainer`; they are no part of a checkpoint.

        Raises:
            CheckpointError: if there is no checkpoint, or the last one is damaged.
            ValueError: if the batches are not those of the run.
        """
        last = last_checkpoint(folder)
        state = read_state(last)
        model, config = cls._blank(last, state), TrainConfig(**state["config"])
        trainer = cls(model, batches, config, None, on_step, on_eval, device=device, peak_flops=peak_flops, loss=loss)
        trainer._restore(last)
        batches.load_state_dict(state["batches"])
        trainer.folder, trainer.step, trainer.tokens = Path(folder), state["step"], state["tokens"]
        return trainer

    def train(self, until: int | None = None, progress: bool = True) -> list[StepRecord]:
        """Update the weights until a step is reached, or Ctrl-C or `stop` asks for an end; then save.

        A first Ctrl-C finishes the step under way, a second one interrupts at once.

        Args:
            until: number of the last step; None means all of `config.steps`.
            progress: show the bar.

        Returns:
            The records of the steps done in this call.

        Raises:
            ValueError: if `until` lies beyond the schedule.
            DivergenceError: if the loss is not finite. Earlier checkpoints stay.
        """
        config, last = self.config, self.config.steps if until is None else until
        if last > config.steps:
            raise ValueError(f"until must be at most config.steps = {config.steps}, got {last}")
        records: list[StepRecord] = []
        self._stopping = False
        self.model.train()
        bar = tqdm(total=last, initial=self.step, unit="step", disable=not progress or self.rank > 0)
        with bar, stop_on_interrupt(self.stop):
            recent: deque[float] = deque(maxlen=20)
            while self.step < last and not self.mean(self._stopping):  # whoever is asked to stop stops all
                record = self._update()
                records.append(record)
                recent.append(record.seconds)
                bar.set_postfix_str(self._status(record, recent), refresh=False)
                bar.update()
                if self.on_step:
                    self.on_step(record)
                if self.on_eval and config.eval_every and self.step % config.eval_every == 0:
                    self._evaluate()
                if config.save_every and self.step % config.save_every == 0:
                    self.save()
            self.save()
        self.model.eval()
        if self.step < last and progress and self.rank == 0:
            kept = f"saved in {self.folder}" if self.folder else "not saved, for the run has no folder"
            tqdm.write(f"Stopped after step {self.step} of {config.steps}; {kept}.")
        return records

    def stop(self) -> None:
        """Ask `train` to return after the step under way; `on_step` may call this."""
        self._stopping = True

    def save(self) -> Path | None:
        """Write a checkpoint of this moment and return its folder; None if the run keeps none."""
        if self.folder is None:
            return None
        state = {"tokens": self.tokens, "config": asdict(self.config), "batches": self.batches.state_dict()}
        return self._write(state)

    def mean(self, value: float) -> float:
        """The mean of a number over all processes, each of which must call this; here there is one."""
        return value

    @property
    def tokens_per_step(self) -> int:
        """Targets that one update averages over."""
        return self.config.batch_size * self.config.context * self.config.accumulate

    def _update(self) -> StepRecord:
        """One step of the run: the whole of training is in here."""
        config, started = self.config, time.perf_counter()
        rate = learning_rate(self.step + 1, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = 0.0
        for _ in range(config.accumulate):
            tokens = next(self.batches).to(self.device)  # (B, T + 1)
            with torch.autocast(self.device.type, DTYPES["bfloat16"], enabled=config.dtype == "bfloat16"):
                part = self.loss(self._forward, tokens) / config.accumulate
            part.backward()  # adds to the gradients of the parts before
            loss += part.item()
        loss, norm = self.mean(loss), self._clip()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad()
            raise DivergenceError(self._diagnosis(loss, norm, rate))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.tokens += self.tokens_per_step
        return StepRecord(self.step, loss, rate, norm, self.tokens, time.perf_counter() - started)

    def _clip(self) -> float:
        """Cut the gradient's norm to the limit; returns the norm before."""
        return nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip).item()

    def _write(self, state: dict[str, Any]) -> Path | None:
        return save_checkpoint(self.folder, self.step, self.model, self.optimizer, state)

    @staticmethod
    def _blank(checkpoint: Path, state: dict[str, Any]) -> Llama:
        """The model to make a trainer of, which then gets what else is in the checkpoint by `_restore`."""
        return read_model(checkpoint)

    def _restore(self, checkpoint: Path) -> None:
        restore_training(checkpoint, self.model, self.optimizer)

    def _evaluate(self) -> None:
        self.model.eval()
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            self.on_eval(self)
        self.model.train()

    def _status(self, record: StepRecord, recent: deque[float]) -> str:
        speed = self.tokens_per_step * len(recent) / sum(recent)
        status = f"loss {record.loss:.3f}, {speed:,.0f} tokens/s"
        if self.peak_flops:
            flops = self.model.config.flops_per_token(self.config.context, training=True)
            status += f", MFU {speed * flops / (self.peak_flops * self.processes):.0%}"
        return status

    def _diagnosis(self, loss: float, norm: float, rate: float) -> str:
        kept = checkpoints(self.folder) if self.folder else []
        last = f"The last checkpoint is {kept[-1]}." if kept else "There is no checkpoint before it."
        return (
            f"step {self.step + 1}: the loss is {loss} and the norm of its gradient {norm}, at learning rate "
            f"{rate:.2e}; the weights are still those of step {self.step}. {last} Most often the learning rate is too "
            "high: start again from the checkpoint's model with half the peak_lr or a longer warmup_steps. If it is "
            "the first step, look at the data and at the weights that training began with."
        )


@contextmanager
def stop_on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """While this is open, the first Ctrl-C calls `stop`, and the next does what it did before.

    Signals reach only the main thread of Python; in another thread this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number, frame):
        stop()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def matmul_peak(
    dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", size: int = 1024, rounds: int = 10
) -> float:
    """Operations per second that this machine reaches in a plain matrix product, the best of some rounds.

    What a data sheet promises is rarely reached; a measured peak makes MFU comparable between machines.

    Args:
        dtype: number type of the matrices; for a bfloat16 run take bfloat16.
        device: where to measure.
        size: rows and columns; 1,024 is near the best of a CPU core, a GPU wants 8,192.
        rounds: how often to measure.
    """
    generator = torch.Generator(device).manual_seed(0)  # a measurement must not move the run's random numbers
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(rounds + 1):  # the first one warms up
        started = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])
