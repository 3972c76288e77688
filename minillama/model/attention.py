"""Causal grouped-query attention with a key/value cache (chapter 5).

Every token asks (query), every earlier token answers (key, value). Several query heads share one key/value head,
which shrinks the cache that generation has to read for every token.

Does: multi-head, grouped-query and multi-query attention (only `n_kv_heads` differs), a preallocated cache, several
    texts in one row that do not see each other (for chapter 12).
Does not: sliding windows; padding masks, for padding stands behind a text, where nothing looks.
Source: Vaswani et al. 2017, eq. 1; Ainslie et al. 2023; Touvron et al. 2023b, section 2.2 and appendix A.2.1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.model.config import ModelConfig
from minillama.model.embeddings import at_least_float32
from minillama.model.rope import apply_rotary


class KVCache:
    """Keys (already rotated) and values of the tokens read so far, for one layer.

    Args:
        batch_size: number of sequences B.
        n_kv_heads: number of key/value heads KV.
        max_seq_len: positions to reserve, T_max.
        head_dim: size of one head hd.
    """

    def __init__(
        self,
        batch_size: int,
        n_kv_heads: int,
        max_seq_len: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        shape = (batch_size, n_kv_heads, max_seq_len, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new positions and return all of them.

        Args:
            keys, values: shape (B, KV, T, hd).

        Returns:
            Views of shape (B, KV, length + T, hd).

        Raises:
            ValueError: if the positions do not fit, or the batch differs from the cache's.
        """
        if keys.shape[0] != self.keys.shape[0]:
            raise ValueError(f"the cache was made for a batch of {self.keys.shape[0]}, got {keys.shape[0]} sequences")
        start, end = self.length, self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(
                f"the cache holds {self.keys.shape[2]} positions and {start} are taken, got {end - start} more; "
                "make it with a larger max_seq_len"
            )
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch only."""
        self.keys, self.values = self.keys[rows], self.values[rows]


def causal_mask(n_queries: int, n_keys: int, device: torch.device | str = "cpu") -> Tensor:
    """True where a query may look: the last query sees all keys. Shape (n_queries, n_keys)."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def separate(documents: Tensor) -> tuple[Tensor, Tensor]:
    """Who may look where in rows packed with several texts, and the position of each token in its own text.

    Args:
        documents: shape (B, T); neighbours with the same number belong to one text.

    Returns:
        a mask of shape (B, 1, T, T), true where a query (row) may look, and positions, shape (B, T).
    """
    index = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = torch.where(begins, index, 0).cummax(-1).values  # (B, T): where each token's text begins
    own = starts[:, :, None] == starts[:, None, :]  # (B, T, T)
    return (own & causal_mask(len(index), len(index), documents.device))[:, None], index - starts


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(hd) + mask) v, written out as in the paper; the softmax is taken in float32.

    Args:
        q: shape (B, H, T, hd); the queries stand at the last T of the S positions.
        k, v: shape (B, KV, S, hd); query head h reads key/value head h // (H / KV).

    Returns:
        shape (B, H, T, hd).
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)  # (B, H, S, hd)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    scores = scores.masked_fill(~causal_mask(q.shape[2], k.shape[2], q.device), -math.inf)
    return at_least_float32(scores).softmax(-1).type_as(q) @ v


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`plain_attention` by PyTorch's fused kernel, which never stores the (T, S) scores. Same arguments.

    `mask`, true where a query may look, shape (B, 1, T, S), replaces the causal one.
    """
    n_queries, n_keys = q.shape[2], k.shape[2]
    causal = mask is None and n_queries == n_keys > 1
    if mask is None and 1 < n_queries < n_keys:
        # a chunk that continues a cache; the kernel's own causal flag assumes a square
        mask = causal_mask(n_queries, n_keys, q.device)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )


class Attention(nn.Module):
    """Grouped-query attention with rotary positions. No biases; Meta's parameter names.

    Args:
        config: uses dim, n_heads and n_kv_heads.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_dim = config.head_dim
        kv_dim = config.n_kv_heads * config.head_dim
        self.wq = nn.Linear(config.dim, config.dim, bias=False)
        self.wk = nn.Linear(config.dim, kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, kv_dim, bias=False)
        self.wo = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, rotations: Tensor, cache: KVCache | None = None, mask: Tensor | None = None) -> Tensor:
        """Mix information between positions.

        Args:
            x: shape (B, T, d).
            rotations: table of the T positions of x, shape (T, hd / 2); see `rope.rotation_table`.
            cache: earlier positions to attend to as well; x's positions are appended to it.
            mask: who may look where, if not everybody at all that came before; see `separate`.

        Returns:
            shape (B, T, d).
        """
        batch, length, _ = x.shape
        q = self.wq(x).view(batch, length, -1, self.head_dim).transpose(1, 2)  # (B, H, T, hd)
        k = self.wk(x).view(batch, length, -1, self.head_dim).transpose(1, 2)  # (B, KV, T, hd)
        v = self.wv(x).view(batch, length, -1, self.head_dim).transpose(1, 2)  # (B, KV, T, hd)
        q, k = apply_rotary(q, rotations), apply_rotary(k, rotations)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, KV, S, hd)
        mixed = fused_attention(q, k, v, mask)  # (B, H, T, hd)
        return self.wo(mixed.transpose(1, 2).reshape(batch, length, -1))
