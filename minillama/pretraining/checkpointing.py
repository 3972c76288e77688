"""Keeping a run, so that it can stop at any moment and lose nothing but minutes (chapter 9).

A run is more than its weights: Adam's averages, the position in the data, the state of the random numbers and the
step decide the next update as well. All of it goes into one folder per step, which is written under a hidden name,
forced to the disk and then renamed, so that a folder `step-...` is always complete, whenever the power went.

Does: weights as `model.safetensors` (to be opened by `load_safetensors` like any other), the rest as tensors in
    `training.safetensors` and plain numbers in `state.json`; no pickle. The last two checkpoints stay.
Does not: checkpoints cut over several processes; `minillama.pretraining.distributed` does.
Source: our own design; POSIX promises that a rename within a file system is seen whole or not at all.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minillama.model.assembly import skeleton
from minillama.model.checkpoints import CheckpointError, load_safetensors, save_safetensors
from minillama.model.transformer import Llama

KEEP = 2  # the newest, and the one before it in case the newest is of a run that had begun to go wrong


def checkpoints(folder: str | Path) -> list[Path]:
    """The complete checkpoints in a run's folder, oldest first."""
    return sorted(path for path in Path(folder).glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))


def last_checkpoint(folder: str | Path) -> Path:
    """The newest complete checkpoint; `CheckpointError` if there is none."""
    found = checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder}: no checkpoint in it; start the run with Trainer(..., folder=...)")
    return found[-1]


def save_checkpoint(
    folder: str | Path, step: int, model: Llama, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Write one checkpoint, all or nothing, then delete the older ones but `KEEP`.

    Args:
        folder: the run's folder, made if it is not there.
        step: updates done so far; names the checkpoint.
        model: the model.
        optimizer: an optimiser over the model's parameters.
        state: whatever else the run needs, as JSON has it.

    Returns:
        `folder/step-NNNNNNNN`. If it exists already it is this very state, and nothing is written.
    """
    folder = Path(folder)
    final = folder / f"step-{step:08d}"
    if final.exists():
        return final
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    temporary = folder / f".{final.name}.tmp"
    temporary.mkdir()
    save_safetensors(model, temporary / "model.safetensors")
    save_file(_training_tensors(model, optimizer), temporary / "training.safetensors")
    (temporary / "state.json").write_text(json.dumps({"step": step, **state}, indent=1), encoding="utf-8")
    for path in (*temporary.iterdir(), temporary):
        _force_to_disk(path)
    os.replace(temporary, final)
    _force_to_disk(folder)
    drop_old(folder)
    return final


def drop_old(folder: Path) -> None:
    """Delete all checkpoints but the newest `KEEP`, and what an interrupted save or deletion left."""
    for old in checkpoints(folder)[:-KEEP]:
        os.replace(old, folder / f".{old.name}.tmp")  # a half-deleted folder must not look like a checkpoint
    _sweep(folder)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The plain numbers of a checkpoint: `step`, and the `state` given to `save_checkpoint`."""
    try:
        return json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(_damaged(checkpoint, error)) from error


def read_model(checkpoint: Path, device: str | torch.device = "cpu") -> Llama:
    """The model of a checkpoint, in memory of its own."""
    if (checkpoint / "state.json").exists() and not (checkpoint / "model.safetensors").exists():
        raise CheckpointError(f"{checkpoint}: was written by several processes; go on with DistributedTrainer.resume")
    mapped = load_safetensors(checkpoint / "model.safetensors")
    # copies in torch's own memory: mapped numbers lie at other addresses, where sums may round differently
    weights = {name: weight.to(device, copy=True) for name, weight in mapped.state_dict().items()}
    model = skeleton(mapped.config)
    model.load_state_dict(weights, assign=True)
    return model


def restore_training(checkpoint: Path, model: Llama, optimizer: torch.optim.Optimizer) -> None:
    """Give an optimiser over the model's parameters, and torch's random numbers, the state of a checkpoint."""
    try:
        tensors = load_file(checkpoint / "training.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_damaged(checkpoint, error)) from error
    described = optimizer.state_dict()
    described["state"] = {}
    names = _names(model, optimizer)
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind not in ("cpu", "cuda"):
            described["state"].setdefault(names.index(name), {})[kind] = tensor.clone()
    optimizer.load_state_dict(described)
    torch.set_rng_state(tensors["cpu/random"])
    if "cuda/random" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda/random"])


def _training_tensors(model: Llama, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's averages as "exp_avg/name of the parameter", and the random states as "cpu/random", "cuda/random"."""
    names = _names(model, optimizer)
    tensors = {
        f"{kind}/{names[number]}": tensor.cpu().contiguous()
        for number, averages in optimizer.state_dict()["state"].items()
        for kind, tensor in averages.items()
    }
    tensors["cpu/random"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["cuda/random"] = torch.cuda.get_rng_state()
    return tensors


def _names(model: Llama, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters in the optimiser's order, in which its `state_dict` numbers them."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _sweep(folder: Path) -> None:
    """Delete what an interrupted save or deletion left."""
    for left in folder.glob(".step-*.tmp"):
        shutil.rmtree(left)


def _force_to_disk(path: Path) -> None:
    """fsync of a file, or of a folder's list of names."""
    if path.is_file():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    elif os.name != "nt":  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _damaged(checkpoint: Path, error: Exception) -> str:
    return f"{checkpoint}: cannot be read ({error}); delete this folder to go on from the checkpoint before it"
