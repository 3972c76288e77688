"""The whole model (chapter 6).

A stream of vectors, one per token, runs through L blocks; each block reads the stream through a norm, computes, and
adds its result. A last norm and one matrix turn the stream into logits.

Does: Llama 1, 2 and Code Llama of any size, with Meta's parameter names, in training and in cached generation.
Does not: dropout, biases, tied weights; the family has none of them.
Source: Touvron et al. 2023b, section 2.2; Shazeer 2020 (SwiGLU); Xiong et al. 2020 (norm before the layer).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.model.attention import Attention, KVCache, separate
from minillama.model.config import ModelConfig
from minillama.model.embeddings import RMSNorm, at_least_float32
from minillama.model.rope import rotation_table


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x), token by token.

    Args:
        dim: width of the stream d.
        hidden: width inside, h.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)  # gate
        self.w2 = nn.Linear(hidden, dim, bias=False)  # back to the stream
        self.w3 = nn.Linear(dim, hidden, bias=False)  # value

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class TransformerBlock(nn.Module):
    """h = x + attention(norm(x)); out = h + feed_forward(norm(h))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config.dim, config.ffn_hidden)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, rotations: Tensor, cache: KVCache | None = None, mask: Tensor | None = None) -> Tensor:
        """(B, T, d) to (B, T, d); the other arguments are those of `Attention.forward`."""
        x = x + self.attention(self.attention_norm(x), rotations, cache, mask)
        return x + self.feed_forward(self.ffn_norm(x))


class Llama(nn.Module):
    """A decoder-only transformer of the Llama family.

    Args:
        config: the shape.
        seed: seed of the initial weights, see `init_weights`.
    """

    def __init__(self, config: ModelConfig, seed: int = 0):
        super().__init__()
        self.config = config
        table = torch.empty(config.vocab_size, config.dim)
        without_memory = table.device.type == "meta"  # drawing numbers there would import half of PyTorch, in seconds
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim, _weight=table if without_memory else None)
        self.layers = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.output = nn.Linear(config.dim, config.n_outputs or config.vocab_size, bias=False)
        self._rotations: Tensor | None = None  # computed, not learned: no part of the state dict
        if self.output.weight.device.type != "meta":
            self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int = 0) -> None:
        """Draw all matrices from N(0, 0.02^2), those that write to the stream (wo, w2) smaller by sqrt(2 L).

        Meta's initialisation is not published. 0.02 is the default of Hugging Face's Llama; the smaller scale is
        GPT-2's, so that the sum of 2 L additions starts with the size of one.
        """
        generator = torch.Generator(device=self.output.weight.device).manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)  # gains of the norms
            else:
                writes_to_stream = name.endswith(("wo.weight", "w2.weight"))
                std = 0.02 / math.sqrt(2 * self.config.n_layers) if writes_to_stream else 0.02
                parameter.normal_(0.0, std, generator=generator)

    def new_cache(self, batch_size: int, max_seq_len: int | None = None) -> list[KVCache]:
        """An empty key/value cache per layer, in the model's type and on its device."""
        config, weight = self.config, self.tok_embeddings.weight
        length = config.max_seq_len if max_seq_len is None else max_seq_len
        return [
            KVCache(batch_size, config.n_kv_heads, length, config.head_dim, weight.dtype, weight.device)
            for _ in range(config.n_layers)
        ]

    def rotations(self, start: int, length: int) -> Tensor:
        """Rows start .. start + length of the rotary table, shape (length, hd / 2); the table is kept and grows."""
        weight, end = self.tok_embeddings.weight, start + length
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        table = self._rotations
        fits = table is not None and table.shape[0] >= end and table.device == weight.device
        if not fits or table.real.dtype != dtype:
            # a table first needed while sampling must also serve training later, so never an inference tensor
            with torch.inference_mode(False):
                positions = torch.arange(max(end, self.config.max_seq_len), device=weight.device)
                table = self._rotations = rotation_table(self.config.head_dim, positions, self.config.rope_theta, dtype)
        return table[start:end]

    def hidden_states(
        self, tokens: Tensor, cache: list[KVCache] | None = None, documents: Tensor | None = None
    ) -> Tensor:
        """The stream after the last norm.

        Args:
            tokens: integer ids, shape (B, T).
            cache: from `new_cache`; the tokens then continue the cached ones, and are added to it.
            documents: numbers of the texts that a row is packed with (chapter 12), shape (B, T): each token then sees
                only its own text, whose positions count from 0. Not together with a cache.

        Returns:
            shape (B, T, d).

        Raises:
            ValueError: if `tokens` is not two-dimensional, `documents` has another shape, or a cache is full.
        """
        if tokens.dim() != 2:
            raise ValueError(f"tokens must have shape (batch, length), got {tuple(tokens.shape)}")
        rotations, mask = self.rotations(cache[0].length if cache else 0, tokens.shape[1]), None
        if documents is not None:
            if cache or documents.shape != tokens.shape:
                raise ValueError(
                    f"documents need the shape of tokens {tuple(tokens.shape)} and no cache, got shape "
                    f"{tuple(documents.shape)}{' and a cache' if cache else ''}"
                )
            mask, positions = separate(documents)
            rotations = rotations[positions][:, None]  # (B, 1, T, hd / 2)
        x = self.tok_embeddings(tokens)  # (B, T, d)
        for i, layer in enumerate(self.layers):
            x = layer(x, rotations, cache[i] if cache else None, mask)
        return self.norm(x)

    def forward(self, tokens: Tensor, cache: list[KVCache] | None = None, documents: Tensor | None = None) -> Tensor:
        """Logits of the next token at every position, shape (B, T, V), in float32 (float64 in a float64 model)."""
        return at_least_float32(self.output(self.hidden_states(tokens, cache, documents)))
