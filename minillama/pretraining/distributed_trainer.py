"""The training loop on several processes (chapter 11).

The loop of chapter 9 does not change. Only five things of it mean something else when a model lies in parts on many
processes: the mean of a number, the norm of the gradient, and making, saving and restoring the parts.

Does: a `Trainer` on every process of a mesh; goes on from checkpoints of any number of processes, one included.
Does not: keep torch's random numbers in its checkpoints (the model draws none); exchange gradients only once for
    several accumulated batches, which would save traffic and cost memory.
Source: our own design.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh

from minillama.model.assembly import skeleton
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import read_model, restore_training
from minillama.pretraining.distributed import (
    clip_gradients,
    load_distributed,
    mean_over_processes,
    save_distributed,
    shard,
)
from minillama.pretraining.schedule import DTYPES, TrainConfig, make_optimizer
from minillama.pretraining.shards import Batches
from minillama.pretraining.trainer import StepRecord, Trainer, next_token_loss


class DistributedTrainer(Trainer):
    """A `Trainer` on all processes of a mesh: every process makes one, with its own part of the batches.

    The model is cut over the processes, and what `TrainConfig` says is said of all of them together, so that a run
    goes on with more or fewer processes as it would have gone on. In a bfloat16 run the gathered weights and the
    stream between blocks are bfloat16 too, which halves the traffic; a single process keeps those in float32.

    Args:
        model: the same on every process.
        batches: with the mesh's rank and size; `batch_size` is this process's share of `config.batch_size`.
        config, folder, on_step, on_eval, peak_flops, loss: as in `Trainer`; both functions are called on every process.
        device: the mesh, from `setup`.
    """

    def __init__(
        self,
        model: Llama,
        batches: Batches,
        config: TrainConfig,
        folder: str | Path | None = None,
        on_step: Callable[[StepRecord], None] | None = None,
        on_eval: Callable[[Trainer], None] | None = None,
        *,
        device: DeviceMesh,
        peak_flops: float | None = None,
        loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
    ):
        self.rank, self.processes = device.get_local_rank(), device.size()
        shard(model, device, DTYPES[config.dtype])
        super().__init__(model, batches, config, folder, on_step, on_eval, device.device_type, peak_flops, loss)

    def mean(self, value: float) -> float:
        """The mean of a number over all processes, each of which must call this."""
        return mean_over_processes(torch.tensor(value, dtype=torch.float64, device=self.device))

    def _clip(self) -> float:
        return clip_gradients(self.model, self.config.clip)

    def _write(self, state: dict[str, Any]) -> Path | None:
        if not self.step:
            return None  # there is nothing yet that a new start would not give
        return save_distributed(self.folder, self.step, self.model, self.optimizer, state)

    @staticmethod
    def _blank(checkpoint: Path, state: dict[str, Any]) -> Llama:
        return read_model(checkpoint) if is_whole(checkpoint) else skeleton(ModelConfig(**state["model"]))

    def _restore(self, checkpoint: Path) -> None:
        if is_whole(checkpoint):
            load_whole(checkpoint, self.model, self.optimizer, self.config)
        else:
            load_distributed(checkpoint, self.model, self.optimizer)


def load_whole(checkpoint: str | Path, model: Llama, optimizer: torch.optim.Optimizer, config: TrainConfig) -> None:
    """Fill a sharded model and its optimiser from a checkpoint of a single `Trainer`, and set the random numbers.

    Every process reads all of it and keeps its part, so each needs the memory of the one that wrote it for a moment.
    """
    whole = read_model(Path(checkpoint))
    averages = make_optimizer(whole, config)
    restore_training(Path(checkpoint), whole, averages)
    weights, averages = get_state_dict(whole, averages)
    options = StateDictOptions(full_state_dict=True)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=averages, options=options)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written by a single `Trainer`, not in parts."""
    return (checkpoint / "model.safetensors").exists()
