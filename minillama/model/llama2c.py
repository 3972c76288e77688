"""The `.bin` files of llama2.c (chapter 6): a header of integers and then nothing but float32 numbers.

There are no names in the file: the order is the format. Version 0 starts with seven integers, version 1 with a magic
number and a padded header of 256 bytes, and each has its own order of tensors.

Does: versions 0 and 1, with the output head shared with the embedding or not.
Does not: version 2 (int8), and epsilon or rotary base, which the format fixes at 1e-5 and 10,000.
Source: the layout written by llama2.c's `export.py`, described in chapter 6.
"""

import math
import struct
from pathlib import Path

import numpy as np
import torch

from minillama.model.assembly import CheckpointError, Piece, assemble, build_config, skeleton
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

MAGIC = 0x616B3432  # "ak42"
V0_HEADER, V1_HEADER = 28, 256  # bytes
_ATTENTION = ["attention.wq", "attention.wk", "attention.wv", "attention.wo"]
_FEED_FORWARD = ["feed_forward.w1", "feed_forward.w2", "feed_forward.w3"]
ORDER = {  # a name without a dot is one tensor, "rope" is a table that no reader needs
    0: ["tok_embeddings", ".attention_norm", *("." + name for name in _ATTENTION), ".ffn_norm",
        *("." + name for name in _FEED_FORWARD), "norm", "rope", "output"],
    1: [".attention_norm", ".ffn_norm", "norm", "tok_embeddings", *("." + name for name in _ATTENTION + _FEED_FORWARD),
        "output"],
}  # fmt: skip


def load_llama2c(
    path: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    check_finite: bool = True,
) -> Llama:
    """Read a float32 `.bin` file of llama2.c, version 0 or 1.

    Args:
        path: the file.
        dtype: convert to this type; None keeps float32, mapped and not copied.
        device: where the weights go.
        check_finite: look for NaN and infinity, which reads every weight once.

    Returns:
        The model, in evaluation mode. Where the file shares the head with the embedding, the model has a copy.

    Raises:
        CheckpointError: if the header makes no sense, the file's size does not follow from it, the file is quantized
            (version 2), or a value is not finite.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            header = file.read(V1_HEADER)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; give the path of a .bin file") from error
    config, version, shared = _read_header(path, header)
    start = V0_HEADER if version == 0 else V1_HEADER

    floats = config.n_parameters()
    floats -= config.parameter_counts()["output"] if shared else 0
    floats += config.max_seq_len * config.head_dim if version == 0 else 0  # the rotary table
    expected = start + 4 * floats
    if size != expected:
        raise CheckpointError(
            f"{path}: {size:,} bytes, expected {expected:,} for the header's sizes (version {version}, {config}); the "
            "file is truncated, or not one of llama2.c: copy it again"
        )
    numbers = torch.from_numpy(np.memmap(path, dtype="<f4", mode="c", offset=start))  # "c": writes stay in memory
    pieces, offset = {}, 0
    for name, shape in _layout(config, version, shared):
        pieces[name] = [Piece(path, name, numbers[offset : offset + math.prod(shape)].view(shape))]
        offset += math.prod(shape)
    pieces.pop("rope.weight", None)
    if shared:
        table = pieces["tok_embeddings.weight"][0]
        pieces["output.weight"] = [table._replace(data=table.data.clone())]
    return assemble(path, config, pieces, dtype, device, check_finite)


def _read_header(path: Path, header: bytes) -> tuple[ModelConfig, int, bool]:
    """Config, version and whether the head is the embedding."""
    if len(header) < V0_HEADER:
        raise CheckpointError(f"{path}: {len(header)} bytes, expected at least {V0_HEADER}; the file is truncated")
    magic, version = struct.unpack_from("<Ii", header)
    if magic != MAGIC:
        version, sizes = 0, struct.unpack_from("<7i", header)
        shared = sizes[5] > 0  # version 0 marks a head of its own by a negative vocabulary size
        sizes = (*sizes[:5], abs(sizes[5]), sizes[6])
    elif version == 2:
        raise CheckpointError(f"{path}: version 2 holds int8 weights, expected version 0 or 1; export it in float32")
    elif version != 1 or len(header) < V1_HEADER:
        raise CheckpointError(f"{path}: version {version}, header {len(header)} bytes; expected version 1, 256 bytes")
    else:
        sizes, shared = struct.unpack_from("<7i", header, 8), header[36] != 0
    dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len = sizes
    config = build_config(
        path,
        lambda: ModelConfig(
            dim=dim,
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            vocab_size=vocab_size,
            multiple_of=1,
            max_seq_len=max_seq_len,
            hidden_dim=hidden_dim,
        ),
    )
    return config, version, shared


def _layout(config: ModelConfig, version: int, shared: bool) -> list[tuple[str, tuple[int, ...]]]:
    """(Meta's name, shape) of every tensor of the file, in the file's order."""
    shapes = {name: tuple(tensor.shape) for name, tensor in skeleton(config).state_dict().items()}
    shapes["rope.weight"] = (2, config.max_seq_len, config.head_dim // 2)  # cosines, then sines
    layout = []
    for part in ORDER[version]:
        layers = range(config.n_layers) if part.startswith(".") else [None]
        names = [f"{part}.weight" if layer is None else f"layers.{layer}{part}.weight" for layer in layers]
        layout += [(name, shapes[name]) for name in names if not (shared and name == "output.weight")]
    return layout
