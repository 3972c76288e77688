"""One run on several processes: FSDP2 and checkpoints that any number of processes can read (chapter 11).

Each of P processes keeps 1/P of every weight, gradient and average of Adam, and reads its own part of the batch. A
block's weights are gathered just before they are used and dropped right after; gradients are averaged over the
processes and cut into parts again. The mathematics is that of one process with a batch P times as large.

Does: process groups (nccl on GPUs, gloo on CPUs) from `torchrun`, sharding of a `Llama` block by block, the mean loss,
    checkpoints of model and optimiser that are resumed on more or fewer processes.
Does not: tensor or pipeline parallelism; the loop, which is `minillama.pretraining.distributed_trainer`'s; PyTorch
    before 2.6, which has no public `fully_shard`.
Source: Rajbhandari et al. 2020 (ZeRO stage 3); Zhao et al. 2023 (FSDP); the documentation of `torch.distributed`.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from minillama.model.assembly import skeleton
from minillama.model.checkpoints import CheckpointError
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import drop_old


def setup(device: str | None = None) -> DeviceMesh:
    """Join the processes that `torchrun` started; alone, without `torchrun`, a group of one.

    Args:
        device: "cuda" (one GPU a process, nccl) or "cpu" (gloo); None takes the GPUs if there are any.

    Returns:
        The row of processes; `mesh.get_local_rank()` and `mesh.size()` are the `rank` and `world_size` of `Batches`.

    Raises:
        ValueError: if this machine has fewer GPUs than processes.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"process {local} of this machine has no GPU, there are {torch.cuda.device_count()}; start torchrun "
                'with --nproc-per-node of that number, or use setup("cpu")'
            )
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return init_device_mesh(device, (dist.get_world_size(),))


def teardown() -> None:
    """Leave the group; the last line of every process."""
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(model: Llama, mesh: DeviceMesh, dtype: torch.dtype = torch.float32) -> Llama:
    """Cut the weights over the processes, in place; make the optimiser afterwards, over what is left here.

    Every block is a unit that is gathered and dropped as one. Embedding, last norm and head are the last unit.

    Args:
        model: the same on every process (same config and seed), or on the "meta" device, where a model has a shape
            and no numbers: then nobody ever holds all of it, and `load_distributed` must fill it.
        mesh: from `setup`.
        dtype: of gathered weights and activations; kept weights, gradients and sums over processes stay float32.
    """
    policy = MixedPrecisionPolicy()
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    empty = model.output.weight.is_meta
    if not empty:
        model.to(mesh.device_type)
    for block in model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    if empty:
        model.to_empty(device=mesh.device_type)
    return model


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Cut the norm of the whole gradient, over all processes, to a limit; returns the norm before."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def mean_over_processes(value: Tensor) -> float:
    """The mean of a number that every process has one of, such as the loss of its part of the batch."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value.item()


def gather(model: Llama) -> dict[str, Tensor]:
    """All weights in full, on the CPU of process 0; an empty dict on the others. Every process must call it."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def save_distributed(
    folder: str | Path, step: int, model: Llama, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Write a checkpoint, each process its own part, all or nothing, then delete the older ones but the last two.

    Every process must call it.

    Args:
        folder: the run's folder, on a disk that all processes see.
        step: updates done; names the checkpoint.
        model: sharded or, in a single process, plain.
        optimizer: over the model's parameters, after at least one step.
        state: what else the run needs, as JSON has it, such as `batches.state_dict()`; process 0's counts.

    Returns:
        `folder/step-NNNNNNNN`, which is there only when complete. If it exists already, nothing is written.

    Raises:
        ValueError: if the optimiser has not made a step.
    """
    if not optimizer.state:
        raise ValueError("the optimiser has no averages yet; save after the first update")
    final = Path(folder) / f"step-{step:08d}"
    temporary = final.with_name(f".{final.name}.tmp")
    _wait()  # until all see the same files
    if final.exists():
        return final
    if _first():
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    _wait()
    weights, averages = get_state_dict(model, optimizer)
    with _no_warning():
        dcp.save({"model": weights, "optimizer": averages}, checkpoint_id=temporary)
    if _first():
        everything = {**state, "step": step, "model": asdict(model.config)}
        (temporary / "state.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
        os.replace(temporary, final)
        drop_old(final.parent)
    _wait()
    return final


def load_distributed(
    checkpoint: str | Path, model: Llama, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Fill a model, and an optimiser, from a checkpoint of any number of processes. Every process must call it.

    The index of such a checkpoint is a pickle, which can run code: load only what you wrote yourself.

    Args:
        checkpoint: a folder `step-NNNNNNNN`.
        model: of the same config; sharded over the processes there are now or, in a single process, plain.
        optimizer: made over this model's parameters, in the same groups; None loads the weights alone.

    Returns:
        The `state` given to `save_distributed`, and the `step`.

    Raises:
        CheckpointError: if it is no complete checkpoint, or that of a model of another config.
    """
    checkpoint = Path(checkpoint)
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint}: no complete distributed checkpoint ({error})") from error
    if (shape := state.pop("model")) != asdict(model.config):
        raise CheckpointError(f"{checkpoint}: holds a model of {shape}, expected {asdict(model.config)}")
    content: dict[str, Any] = {}
    if optimizer is None:
        content["model"] = get_model_state_dict(model)
    else:
        content["model"], content["optimizer"] = get_state_dict(model, optimizer)
    with _no_warning():
        dcp.load(content, checkpoint_id=checkpoint)
    if optimizer is None:
        set_model_state_dict(model, content["model"])
    else:
        set_state_dict(model, optimizer, model_state_dict=content["model"], optim_state_dict=content["optimizer"])
    return state


def whole_model(model: Llama) -> Llama | None:
    """A copy in one piece, on the CPU of process 0; None on the others. Every process must call it."""
    weights = gather(model)
    if not _first():
        return None
    whole = skeleton(model.config)
    whole.load_state_dict(weights, assign=True)
    return whole.eval()


def by_first(work: Callable[[], None]) -> None:
    """Let process 0 do something, such as writing files, while the others wait for a day at most.

    If it fails there, the error is raised there, and the others end quietly with exit status 1.
    """
    if not dist.is_initialized():
        return work()
    group = dist.new_group(backend="gloo", timeout=timedelta(days=1))  # a barrier of nccl gives up after minutes
    failed = torch.zeros(1)
    try:
        if _first():
            failed += 1
            work()
            failed -= 1
    finally:
        dist.broadcast(failed, 0, group)
    if failed:
        raise SystemExit(1)


def _first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def _no_warning() -> Iterator[None]:
    """A single process without a group is a use like any other here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
