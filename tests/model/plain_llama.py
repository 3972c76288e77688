"""Llama from its equations, in float64 loops: the oracle of the parity tests.

It shares nothing with the library but the names of the weights: no torch, no batches, no caches, no fused kernels, one
position and one head at a time. Slow on purpose.
"""

import math

import numpy as np


def rms_norm(x, gain, eps):
    return gain * x / math.sqrt(sum(value * value for value in x) / len(x) + eps)


def rotate(vector, position, theta):
    """Turn the pair (2j, 2j + 1) by position * theta^(-2j / d)."""
    d, turned = len(vector), np.empty(len(vector))
    for j in range(d // 2):
        angle = position * theta ** (-2 * j / d)
        cos, sin = math.cos(angle), math.sin(angle)
        turned[2 * j] = vector[2 * j] * cos - vector[2 * j + 1] * sin
        turned[2 * j + 1] = vector[2 * j] * sin + vector[2 * j + 1] * cos
    return turned


def attention(stream, weights, prefix, config):
    """One vector per position in, one per position out."""
    d = config.dim // config.n_heads
    heads_per_kv = config.n_heads // config.n_kv_heads
    outputs = []
    keys, values = [], []  # [position][kv head]
    for m, x in enumerate(stream):
        k, v = weights[prefix + "wk.weight"] @ x, weights[prefix + "wv.weight"] @ x
        keys.append([rotate(k[h * d : (h + 1) * d], m, config.rope_theta) for h in range(config.n_kv_heads)])
        values.append([v[h * d : (h + 1) * d] for h in range(config.n_kv_heads)])
        q = weights[prefix + "wq.weight"] @ x
        mixed = []
        for h in range(config.n_heads):
            query = rotate(q[h * d : (h + 1) * d], m, config.rope_theta)
            scores = [query @ keys[n][h // heads_per_kv] / math.sqrt(d) for n in range(m + 1)]  # no later position
            highest = max(scores)
            weight = [math.exp(score - highest) for score in scores]
            total = sum(weight)
            mixed.append(sum(w / total * values[n][h // heads_per_kv] for n, w in enumerate(weight)))
        outputs.append(weights[prefix + "wo.weight"] @ np.concatenate(mixed))
    return outputs


def feed_forward(x, weights, prefix):
    gate, value = weights[prefix + "w1.weight"] @ x, weights[prefix + "w3.weight"] @ x
    inner = np.array([g / (1 + math.exp(-g)) * v for g, v in zip(gate, value, strict=True)])
    return weights[prefix + "w2.weight"] @ inner


def plain_llama(weights, config, tokens):
    """Logits of every position.

    Args:
        weights: Meta's parameter name to float64 array.
        config: dim, n_layers, n_heads, n_kv_heads, norm_eps, rope_theta are read.
        tokens: a list of ids.

    Returns:
        float64 array of shape (len(tokens), vocabulary).
    """
    stream = [weights["tok_embeddings.weight"][token] for token in tokens]
    for layer in range(config.n_layers):
        at = f"layers.{layer}."
        normed = [rms_norm(x, weights[at + "attention_norm.weight"], config.norm_eps) for x in stream]
        stream = [x + y for x, y in zip(stream, attention(normed, weights, at + "attention.", config), strict=True)]
        for m, x in enumerate(stream):
            normed_x = rms_norm(x, weights[at + "ffn_norm.weight"], config.norm_eps)
            stream[m] = x + feed_forward(normed_x, weights, at + "feed_forward.")
    return np.array([weights["output.weight"] @ rms_norm(x, weights["norm.weight"], config.norm_eps) for x in stream])


def weights_of(model):
    """A model's state dict as float64 arrays."""
    return {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
