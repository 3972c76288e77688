"""From named tensors to a checked model (chapter 6): the part that all checkpoint formats share.

A checkpoint is a table from names to tensors plus a few numbers that say how to connect them. A reader collects
`Piece`s under Meta's names; `assemble` compares each with the model that the numbers describe and hands the tensors
to a model that was built without memory (the `meta` device), so that a mapped file is not copied needlessly.

Does: missing and surplus names, shapes, number types, non-finite values, joining of model-parallel shards.
Does not: open files of any format; `minillama.model.checkpoints` and `minillama.model.llama2c` do.
Source: the axes are facts read from the public converters; chapter 6 has the table.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

# The axis along which Meta cuts a tensor over its model-parallel files; what is not listed is in every file.
SHARD_AXIS = {"tok_embeddings": 1, "output": 0, "wq": 0, "wk": 0, "wv": 0, "wo": 1, "w1": 0, "w2": 1, "w3": 0}
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded as it stands; the message names the file, the tensor and what to do."""


class Piece(NamedTuple):
    """One tensor as it stands in one file: which file, under which key, and its (mapped) data."""

    file: Path
    key: str
    data: Tensor


def skeleton(config: ModelConfig) -> Llama:
    """A model whose parameters have shapes but no memory."""
    with torch.device("meta"):
        return Llama(config)


def read_json(file: Path) -> dict[str, Any]:
    """Content of a JSON file that holds one object; `CheckpointError` if it does not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; the folder is not a complete checkpoint") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}); download or write it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, expected a JSON object; it is another file")
    return content


def build_config(file: Path, build: Callable[[], ModelConfig]) -> ModelConfig:
    """Run `build`, turning its complaints into a `CheckpointError` that names the file."""
    try:
        return build()
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise CheckpointError(f"{file}: describes no model of this family: {error}") from error


def assemble(
    source: Path,
    config: ModelConfig,
    pieces: dict[str, list[Piece]],
    dtype: torch.dtype | None,
    device: str | torch.device,
    check_finite: bool,
    convert: Callable[[str, Tensor], Tensor] | None = None,
) -> Llama:
    """Check the pieces, join shards, and put them into a model.

    Args:
        source: file or folder, for messages about the whole.
        config: shape of the model.
        pieces: Meta's parameter name to its pieces, one per shard; emptied as it is read, to free memory early.
        dtype: convert to this type; None keeps the pieces' own.
        device: where the parameters go.
        check_finite: look for NaN and infinity.
        convert: applied to every checked tensor, such as the q/k permutation.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: if anything differs from what the config calls for.
    """
    model = skeleton(config)
    weights = {}
    for name, shape in check_table(source, model, pieces, dtype).items():
        weight = join(source, name, shape, pieces.pop(name), check_finite)
        if convert is not None:
            weight = convert(name, weight)
        weights[name] = weight.to(device=device, dtype=dtype)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def check_table(
    source: Path, model: Llama, pieces: dict[str, list[Piece]], dtype: torch.dtype | None
) -> dict[str, tuple[int, ...]]:
    """Compare the names, and the number types if none is asked for, with the model's.

    Returns:
        Meta's parameter name to shape, for every parameter of the model.

    Raises:
        CheckpointError: for missing or surplus tensors, or a mixture of types where `dtype` is None.
    """
    expected = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    if missing := [name for name in expected if name not in pieces]:
        raise CheckpointError(
            f"{source}: {len(missing)} of {len(expected)} tensors are missing, first {missing[0]!r} (Meta's name); "
            "the checkpoint is incomplete or has more layers in its config than in its files"
        )
    if extra := [piece for name, found in pieces.items() if name not in expected for piece in found]:
        raise CheckpointError(
            f"{extra[0].file}: {len(extra)} tensors that the model has no place for, first {extra[0].key!r}; expected "
            f"the {len(expected)} tensors of a {model.config.n_layers}-layer Llama; the config or architecture differs"
        )
    types = {piece.data.dtype for found in pieces.values() for piece in found}
    if dtype is None and len(types) > 1 and types <= set(FLOATS):
        names = sorted(str(kind) for kind in types)
        raise CheckpointError(f"{source}: mixes {names}, expected one number type; pass dtype= to convert on loading")
    return expected


def check_pieces(source: Path, name: str, shape: tuple[int, ...], found: list[Piece], check_finite: bool) -> int | None:
    """Check one tensor's pieces, shapes, types and values.

    Returns:
        The axis along which it is cut; None if it is whole, or the same in every file.

    Raises:
        CheckpointError: if a piece is not what it should be, or replicas differ.
    """
    axis = SHARD_AXIS.get(name.split(".")[-2])
    for piece in found:
        _check(piece, _shard_shape(shape, axis, len(found), source), check_finite)
    if len(found) > 1 and axis is not None:
        return axis
    # a replica may have drifted by rounding, but not by a hundredth
    if other := [piece for piece in found[1:] if not torch.allclose(piece.data, found[0].data, rtol=0.01, atol=0.01)]:
        raise CheckpointError(
            f"{other[0].file}: {name!r} differs from that of {found[0].file.name}, expected the same numbers in "
            "every shard; the files come from different checkpoints, fetch them again"
        )
    return None


def join(source: Path, name: str, shape: tuple[int, ...], found: list[Piece], check_finite: bool) -> Tensor:
    """Check one tensor's pieces and put them together; a single piece stays as it is, mapped."""
    axis = check_pieces(source, name, shape, found, check_finite)
    return found[0].data if axis is None else torch.cat([piece.data for piece in found], dim=axis)


def _shard_shape(shape: tuple[int, ...], axis: int | None, shards: int, source: Path) -> tuple[int, ...]:
    """Shape of one of `shards` equal parts of a tensor cut along `axis`."""
    if axis is None or shards == 1:
        return shape
    if shape[axis] % shards:
        raise CheckpointError(f"{source}: {shards} shards cannot share {shape[axis]} rows or columns of shape {shape}")
    return (*shape[:axis], shape[axis] // shards, *shape[axis + 1 :])


def _check(piece: Piece, shape: tuple[int, ...], check_finite: bool) -> None:
    file, key, data = piece
    if tuple(data.shape) != shape:
        raise CheckpointError(
            f"{file}: {key!r} has shape {tuple(data.shape)}, expected {shape}; the weights and the config "
            "belong to different models, or shards are missing"
        )
    if data.dtype not in FLOATS:
        raise CheckpointError(
            f"{file}: {key!r} has type {data.dtype}, expected one of {[str(kind) for kind in FLOATS]}; quantized "
            "weights are not read here, use the unquantized checkpoint"
        )
    if check_finite:
        low, high = torch.aminmax(data)  # both are NaN if any value is, and no mask of the tensor's size is made
        if not (low.isfinite() and high.isfinite()):
            bad = int((~data.isfinite()).sum())
            raise CheckpointError(
                f"{file}: {key!r} has {bad} values that are NaN or infinite, expected none; the file is damaged or the "
                "run that wrote it diverged (check_finite=False loads it all the same)"
            )
