"""Checkpoints in the released formats, made from models of this book (chapter 22).

The weights of Llama 2 may not be shipped with a book. So that everything here runs all the same, our own small models
are written in exactly the files that one gets from Meta or from Hugging Face: the same names, the same cuts, the same
order of rows, the same small files beside them. What loads these loads those.

Does: Meta's folder (params.json, consolidated.NN.pth in any number of shards, tokenizer.model, checklist.chk) and
    Hugging Face's (config.json, safetensors shards with their index, tokenizer.model).
Does not: write anything for other programs to use; `minillama.family.export` does, with all that they want to see.
Source: the formats as chapter 6 has them; `vocab_size` -1 and the context that is missing are as in Meta's files.
"""

import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from minillama.family.export import hf_config, hf_name, hf_order
from minillama.model.assembly import SHARD_AXIS
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama


def write_meta(model: Llama, tokenizer: Path, folder: Path, shards: int = 1) -> Path:
    """A folder in Meta's format, bfloat16, with md5 sums in `checklist.chk`.

    Args:
        model: its sizes must be divisible by the number of shards, as for model-parallel training.
        tokenizer: the `tokenizer.model` that belongs to it.
        folder: made if it is not there; must be empty.
        shards: number of `consolidated.NN.pth` files; 1, 2 and 8 for 7B, 13B and 70B.

    Returns:
        The folder.

    Raises:
        ValueError: if a matrix cannot be cut into equal parts.
        FileExistsError: if the folder has files.
    """
    _empty(folder)
    parts = [{} for _ in range(shards)]
    for name, weight in model.state_dict().items():
        axis = SHARD_AXIS.get(name.split(".")[-2])
        if axis is not None and weight.shape[axis] % shards:
            raise ValueError(f"{shards} shards cannot share {weight.shape[axis]} rows or columns of {name}")
        cut = [weight] * shards if axis is None else weight.chunk(shards, axis)
        for part, piece in zip(parts, cut, strict=True):
            part[name] = piece.to(torch.bfloat16).clone()
    for number, part in enumerate(parts):
        part["rope.freqs"] = torch.ones(model.config.head_dim // 2)  # in Meta's files, and read by nobody
        torch.save(part, folder / f"consolidated.{number:02d}.pth")
    (folder / "params.json").write_text(json.dumps(meta_params(model.config)))
    shutil.copy(tokenizer, folder / "tokenizer.model")
    sums = [f"{hashlib.md5(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(folder.iterdir())]
    (folder / "checklist.chk").write_text("\n".join(sums) + "\n")
    return folder


def write_hf(model: Llama, tokenizer: Path, folder: Path, shards: int = 2) -> Path:
    """A folder in Hugging Face's format, bfloat16, cut between tensors. Arguments and errors as of `write_meta`."""
    _empty(folder)
    tensors = {hf_name(name): hf_order(model.config, name, weight) for name, weight in model.state_dict().items()}
    names, map_ = list(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        own = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        save_file({key: tensors[key].to(torch.bfloat16).contiguous() for key in own}, folder / file, {"format": "pt"})
        map_ |= dict.fromkeys(own, file)
    size = 2 * model.config.n_parameters()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": map_}, indent=2)
    )
    (folder / "config.json").write_text(json.dumps(hf_config(model.config), indent=2))
    shutil.copy(tokenizer, folder / "tokenizer.model")
    return folder


def meta_params(config: ModelConfig) -> dict[str, int | float]:
    """The content of `params.json`: no context length, and -1 for the vocabulary."""
    params = config.to_params_json() | {"vocab_size": -1}
    params.pop("max_seq_len")
    if params.get("rope_theta") == 10_000.0:
        params.pop("rope_theta")  # only Code Llama's files have it
    return params


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} has files; give a new folder")
