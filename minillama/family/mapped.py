"""Layers that compute with a file's matrices as they lie on the disk (chapter 22).

A mapped file is memory that the system fills from the disk when it is read and takes back when it needs the room. As
long as nobody copies a matrix, a 13 GB model costs almost no memory of its own. Two things would force a copy: Hugging
Face's order of the rows of wq and wk, and matrices cut over several files. Both can be put right in the *outputs*.

Does: wq and wk in Hugging Face's order, matrices and embeddings in pieces cut along either axis; a state dict has
    whole matrices in Meta's order.
Does not: train, load a state dict, run pieces on several devices (the arithmetic is that of tensor parallelism).
Source: chapter 4 for the order; Shoeybi et al. 2019 (Megatron-LM) for the two ways to cut a product.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.model.rope import permute_to_meta


class HalfSplitLinear(nn.Module):
    """wq or wk with rows in Hugging Face's half-split order; its outputs come in Meta's adjacent pairs.

    y = P (W x) = (P W) x: reordering 4,096 outputs costs nothing, reordering a matrix costs a copy of it.

    Args:
        weight: shape (heads * head_dim, dim), rows in Hugging Face's order; kept as it is.
        heads: `n_heads` for wq, `n_kv_heads` for wk.
    """

    def __init__(self, weight: Tensor, heads: int):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.heads, self.weight = heads, nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., heads * head_dim)."""
        y = F.linear(x, self.weight)  # (..., heads * hd), half-split
        return y.unflatten(-1, (self.heads, 2, -1)).transpose(-1, -2).flatten(-3)  # pairs side by side

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[prefix + "weight"] = permute_to_meta(self.weight.detach(), self.heads)

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        raise RuntimeError(f"{prefix}weight is mapped from a file and cannot be replaced; load a copy of the model")


class PiecesLinear(nn.Module):
    """y = W x with W in pieces, none of which is copied.

    Cut by rows, every piece makes a part of y; cut by columns, every piece reads a part of x and the parts add up.

    Args:
        pieces: the matrices, in order.
        axis: 0 if W was cut by rows, 1 if by columns.
    """

    def __init__(self, pieces: Sequence[Tensor], axis: int):
        super().__init__()
        sizes = [sum(piece.shape[0] for piece in pieces), pieces[0].shape[1]]
        self.out_features, self.in_features = sizes if axis == 0 else (pieces[0].shape[0], _width(pieces))
        self.axis, self.names = axis, [f"piece{number}" for number in range(len(pieces))]
        for name, piece in zip(self.names, pieces, strict=True):
            self.register_parameter(name, nn.Parameter(piece, requires_grad=False))

    @property
    def pieces(self) -> list[Tensor]:
        """The pieces, in order."""
        return [getattr(self, name) for name in self.names]

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out); the parts of column pieces are added in float32, or float64."""
        if self.axis == 0:
            return torch.cat([F.linear(x, piece) for piece in self.pieces], -1)
        parts = zip(x.split([piece.shape[1] for piece in self.pieces], -1), self.pieces, strict=True)
        total = sum(F.linear(part, piece).to(torch.promote_types(x.dtype, torch.float32)) for part, piece in parts)
        return total.to(x.dtype)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[prefix + "weight"] = torch.cat([piece.detach() for piece in self.pieces], self.axis)

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        raise RuntimeError(f"{prefix}weight is mapped from files and cannot be replaced; load a copy of the model")


class PiecesEmbedding(PiecesLinear):
    """An embedding table cut along its width, as Meta's shards have it: every piece gives a part of each vector."""

    def __init__(self, pieces: Sequence[Tensor]):
        super().__init__(pieces, axis=1)

    @property
    def weight(self) -> Tensor:
        """The first piece; the model looks here for its number type and device."""
        return self.pieces[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (...) to vectors (..., width)."""
        return torch.cat([F.embedding(tokens, piece) for piece in self.pieces], -1)


def _width(pieces: Sequence[Tensor]) -> int:
    return sum(piece.shape[1] for piece in pieces)
