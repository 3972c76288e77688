"""Token embeddings and RMSNorm (chapter 3).

An embedding is a table: row t is the vector of token t. RMSNorm keeps every vector on a sphere of radius sqrt(dim)
before a layer reads it, and lets the layer choose a gain per feature.

Does: lookup as a matrix product, cosine neighbours, RMSNorm with the reference's number formats.
Does not: positions; those enter in `minillama.model.rope`, inside attention.
Source: Zhang and Sennrich 2019, eq. 4; Touvron et al. 2023b, section 2.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def one_hot_lookup(tokens: Tensor, table: Tensor) -> Tensor:
    """Embedding lookup written as the matrix product it stands for.

    Args:
        tokens: integer ids, shape (...,).
        table: embedding table, shape (V, d).

    Returns:
        Rows of the table, shape (..., d): what `table[tokens]` gives without the multiplications by zero.
    """
    return F.one_hot(tokens, table.shape[0]).to(table.dtype) @ table


def nearest(vectors: Tensor, query: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """The rows most similar to a query by cosine similarity.

    Args:
        vectors: table to search, shape (V, d).
        query: one vector, shape (d,).
        k: how many rows to return, at most V.

    Returns:
        (similarities, row indices), each of shape (k,), best first.

    Raises:
        ValueError: if the shapes do not fit or k is not in 1..V.
    """
    if query.shape != vectors.shape[1:]:
        raise ValueError(f"query must have shape {tuple(vectors.shape[1:])} like a row, got {tuple(query.shape)}")
    if not 1 <= k <= vectors.shape[0]:
        raise ValueError(f"k must be between 1 and the number of rows {vectors.shape[0]}, got {k}")
    similarities = F.normalize(vectors.float(), dim=-1) @ F.normalize(query.float(), dim=-1)
    return similarities.topk(k)


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision tensors as float32; float32 and float64 unchanged. Sums over features need the digits."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class RMSNorm(nn.Module):
    """y = weight * x / sqrt(mean(x^2) + eps), over the last axis.

    The statistics are taken in float32 (float64 for float64 input); the result is cast back to the input's type
    *before* the gain is applied, as the reference does.

    Args:
        dim: number of features d.
        eps: added to the mean square, so that a zero vector stays finite.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, shape (..., d); the shape is kept."""
        wide = at_least_float32(x)
        # one fused kernel where the input already has the precision; the division below is the same sum
        if wide is x and x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return normed.to(x.dtype) * self.weight
