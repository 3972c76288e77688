"""Rotary position embeddings (chapter 4).

Turn each adjacent feature pair (x[2j], x[2j+1]) of a query or key at position m by the angle m * theta^(-2j/hd).
The dot product of a query and a key then depends on their distance alone.

Does: Meta's adjacent-pair layout, any base, positions that start anywhere, and the row permutation that converts
    query and key matrices to and from Hugging Face's half-split layout.
Does not: rescale positions (position interpolation); chapter 4 shows it as an experiment.
Source: Su et al. 2021, eq. 34; Touvron et al. 2023b, section 2.2; Roziere et al. 2023, section 2.4 (the larger base).
"""

import math

import torch
from torch import Tensor

from minillama.model.embeddings import at_least_float32


def rotation_table(
    head_dim: int, positions: Tensor, theta: float = 10_000.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Unit complex numbers e^(i m theta_j), one per position m and feature pair j.

    Args:
        head_dim: size of one attention head, even.
        positions: integer positions, shape (T,).
        theta: base of the angle progression.
        dtype: float32 as in the reference, or float64.

    Returns:
        complex64 (or complex128) tensor of shape (T, head_dim // 2).

    Raises:
        ValueError: if `head_dim` is odd.
    """
    if head_dim % 2:
        raise ValueError(f"RoPE rotates feature pairs, so head_dim must be even, got {head_dim}")
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=dtype) / head_dim
    angles = torch.outer(positions.to(dtype), 1.0 / theta**exponents)  # (T, head_dim / 2)
    return torch.polar(torch.ones_like(angles), angles)


def apply_rotary(x: Tensor, table: Tensor) -> Tensor:
    """Turn every adjacent feature pair of x by the angle of its position.

    Args:
        x: queries or keys, shape (..., T, head_dim).
        table: from `rotation_table`, shape (T, head_dim // 2).

    Returns:
        Tensor of x's shape and type; half precision is turned in float32 and cast back.
    """
    pairs = torch.view_as_complex(at_least_float32(x).unflatten(-1, (-1, 2)))  # (..., T, head_dim / 2)
    return torch.view_as_real(pairs * table).flatten(-2).type_as(x)


def apply_rotary_real(x: Tensor, table: Tensor) -> Tensor:
    """`apply_rotary` in real arithmetic: the same numbers, for `torch.compile` and devices without complex types."""
    cos, sin = table.real, table.imag
    even, odd = at_least_float32(x).unflatten(-1, (-1, 2)).unbind(-1)  # each (..., T, head_dim / 2)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


def permute_to_hf(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder the rows of a query or key matrix from adjacent pairs (Meta) to half-split (Hugging Face).

    Args:
        weight: shape (n_heads * head_dim, dim).
        n_heads: `n_heads` for wq, `n_kv_heads` for wk. Values and outputs are not permuted.
    """
    rows, columns = weight.shape
    return weight.view(n_heads, rows // n_heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def permute_to_meta(weight: Tensor, n_heads: int) -> Tensor:
    """Undo `permute_to_hf`."""
    rows, columns = weight.shape
    return weight.view(n_heads, 2, rows // n_heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def wavelengths(head_dim: int, theta: float = 10_000.0) -> Tensor:
    """Tokens that each feature pair needs for a full turn, 2 pi theta^(2j/hd); float64, shape (head_dim // 2,)."""
    return 2 * math.pi * theta ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
