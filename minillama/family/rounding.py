"""What rounding does to a matrix (chapter 21): any number of bits, any grid, kept as floats so that it can be studied.

A grid of equally spaced numbers is laid over a group of weights, and each weight moves to the nearest of them. If a
weight falls anywhere between two grid points with equal chance, its error has the variance spacing^2 / 12.

Does: grids from 2 to 8 bits per matrix, row or group of columns, symmetrical or placed by least and largest weight.
Does not: store integers, so nothing gets smaller; `minillama.family.quantization` does that for 8 and 4 bits.
Source: the equations of chapter 21; Bennett 1948 for the variance.
"""

import torch
from torch import Tensor, nn

from minillama.model.transformer import Llama


def rounded(weight: Tensor, bits: int, group: int | None = None, zero_point: bool = False) -> Tensor:
    """What a matrix becomes when its weights are rounded to a grid: for studies, with grids kept in float32.

    Args:
        weight: shape (out, in).
        bits: 2 to 8. Without a zero point the grid is -m..m times the spacing, m = 2^(bits - 1) - 1; with one, it has
            all 2^bits points from the group's least to its largest weight.
        group: columns that share a grid, the last group of a row may be shorter; 0 for one grid for the whole matrix,
            None for one per row.
        zero_point: place the grid by the group's least and largest weight, instead of symmetrically around 0.

    Returns:
        The rounded weights, in the type and shape of `weight`.

    Raises:
        ValueError: for another number of bits or a negative group.
    """
    if not 2 <= bits <= 8 or (group is not None and group < 0):
        raise ValueError(f"expected bits from 2 to 8 and a group of 0 or more columns, got {bits} and {group}")
    if group == 0:
        return rounded(weight.reshape(1, -1), bits, None, zero_point).reshape(weight.shape)
    size = weight.shape[1] if group is None else min(group, weight.shape[1])
    parts = []
    for part in weight.float().split(size, dim=1):  # (out, size)
        if zero_point:
            low, high = part.aminmax(dim=1, keepdim=True)
            step = ((high - low) / (2**bits - 1)).clamp_min(1e-30)
            parts.append(((part - low) / step).round() * step + low)
        else:
            step = (part.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)).clamp_min(1e-30)
            parts.append((part / step).round() * step)
    return torch.cat(parts, 1).type_as(weight)


def round_model(model: Llama, bits: int, group: int | None = None, zero_point: bool = False) -> Llama:
    """Round every matrix of a model but the embedding, in place. Arguments are those of `rounded`.

    Returns:
        The same model; its head is rounded too.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(rounded(module.weight, bits, group, zero_point))
    return model


def bits_per_weight(columns: int, bits: int, group: int | None = None, zero_point: bool = False) -> float:
    """Bits that a weight of a row takes, with the row's share of 16-bit scales (and zeros).

    Args:
        columns: length of a row.
        bits, group, zero_point: as in `rounded`; a grid for the whole matrix (group 0) counts as free.
    """
    if group == 0:
        return float(bits)
    grids = 1 if group is None else -(-columns // group)
    return bits + grids * (32 if zero_point else 16) / columns
