"""What training costs: operations, GPU hours, carbon and memory (chapter 11).

The bill of a run follows from its shape before the first step: 6 N D operations and 16 N bytes. Turned around, the
hours that a paper reports tell how well its hardware was used. What the money buys is in `power_law`.

Does: the paper's table 2 (hours, carbon) with the utilisation it implies; memory by parts, exact for what this book's
    block keeps for the backward pass.
Does not: count communication, short-lived buffers or fragmentation; know the shape of the 34B for certain (it is
    taken from Code Llama 34B).
Source: Touvron et al. 2023b, tables 1 and 2; Chowdhery et al. 2022, appendix B (MFU).
"""

from dataclasses import dataclass

from minillama.model.config import PRESETS, ModelConfig
from minillama.pretraining.power_law import PowerLaw, bootstrap_power_laws, compute_optimal, fit_power_law

__all__ = [
    "A100_PEAK",
    "KG_PER_KWH",
    "LLAMA_2_TOKENS",
    "TABLE_2",
    "PowerLaw",
    "PublishedRun",
    "bootstrap_power_laws",
    "carbon_tonnes",
    "compute_optimal",
    "fit_power_law",
    "gpu_hours",
    "implied_utilisation",
    "mfu",
    "training_flops",
    "training_memory",
]

A100_PEAK = 312e12  # bfloat16 operations per second of one A100, from its data sheet
LLAMA_2_TOKENS = 2.0e12  # table 1, all sizes
# Not printed for Llama 2: the value behind every row of table 2. It equals the Llama 1 paper's factors (section 6),
# 0.385 kg per kWh of the average US grid, times 1.1 for the data centre around the GPUs.
KG_PER_KWH = 0.4235


@dataclass(frozen=True)
class PublishedRun:
    """A row of table 2: A100 hours, watts of one GPU, tonnes of CO2 equivalent as printed."""

    gpu_hours: int
    watts: int
    tonnes: float


TABLE_2 = {
    "llama-2-7b": PublishedRun(184_320, 400, 31.22),
    "llama-2-13b": PublishedRun(368_640, 400, 62.44),
    "llama-2-34b": PublishedRun(1_038_336, 350, 153.90),
    "llama-2-70b": PublishedRun(1_720_320, 400, 291.42),
}


def training_flops(config: ModelConfig, tokens: float, context: int = 0) -> float:
    """Operations of a run over D tokens: 6 N D, plus 12 L d T D for attention if a context T is given."""
    return config.flops_per_token(context, training=True) * tokens


def mfu(flops: float, seconds: float, peak_flops: float = A100_PEAK) -> float:
    """Model FLOPs utilisation: the work a model needs over what the hardware could do meanwhile.

    Args:
        flops: operations that the model's mathematics needs; recomputed activations do not count.
        seconds: time of one device, or the sum over all devices.
        peak_flops: operations per second of one device.

    Raises:
        ValueError: if the time or the peak is not positive.
    """
    if not (seconds > 0 and peak_flops > 0):
        raise ValueError(f"expected seconds > 0 and peak_flops > 0, got {seconds} and {peak_flops}")
    return flops / (seconds * peak_flops)


def gpu_hours(flops: float, utilisation: float, peak_flops: float = A100_PEAK) -> float:
    """Hours of one GPU for so much work; the inverse of `mfu`. Divide by the number of GPUs for the wall clock.

    Raises:
        ValueError: if `utilisation` is not in 0 .. 1 (0 excluded).
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be a share above 0 and at most 1, got {utilisation}")
    return flops / (utilisation * peak_flops * 3600)


def carbon_tonnes(hours: float, watts: float, kg_per_kwh: float = KG_PER_KWH) -> float:
    """Tonnes of CO2 equivalent of so many GPU hours at so many watts each."""
    return hours * watts / 1000 * kg_per_kwh / 1000


def implied_utilisation(name: str) -> dict[str, float]:
    """What a row of table 2 says without printing it.

    Args:
        name: a key of `TABLE_2`.

    Returns:
        `flops` and `mfu` by 6 N D, `flops_with_attention` and `mfu_with_attention` at the model's context, and
        `tokens_per_second` of one GPU.
    """
    config, seconds = PRESETS[name], TABLE_2[name].gpu_hours * 3600
    plain = training_flops(config, LLAMA_2_TOKENS)
    full = training_flops(config, LLAMA_2_TOKENS, config.max_seq_len)
    return {
        "flops": plain,
        "mfu": mfu(plain, seconds),
        "flops_with_attention": full,
        "mfu_with_attention": mfu(full, seconds),
        "tokens_per_second": LLAMA_2_TOKENS / seconds,
    }


def training_memory(
    config: ModelConfig,
    batch: int,
    context: int,
    weight_bytes: int = 4,
    gradient_bytes: int = 4,
    optimizer_bytes: int = 8,
    activation_bytes: int = 2,
    recompute: bool = False,
    processes: int = 1,
) -> dict[str, float]:
    """Bytes on each device while training, by part; their sum is what has to fit.

    Weights, gradients and Adam's two averages take (4 + 4 + 8) N = 16 N bytes, the same 16 as half-precision weights
    and gradients with a float32 copy of the weights; sharding divides them by the number of processes. Activations
    are what the backward pass needs, per token, with b bytes per value, d the width, KV hd the width of the keys, h the
    feed-forward width, H the heads; fused attention keeps no scores:

        block   b (6 d + 2 KV hd + 4 h) + 4 (2 d + H + 2)       the norms keep their inputs in float32
        head    b 2 d + 4 (d + 1 + V)                           the loss keeps V log-probabilities in float32
        total   L block + head, or with `recompute`: L b d + block + head (only the blocks' inputs are kept)

    Args:
        config: the shape.
        batch: sequences on one device.
        context: tokens of each.
        weight_bytes, gradient_bytes, optimizer_bytes: per parameter.
        activation_bytes: of one value, 2 where a block computes in bfloat16.
        recompute: activation checkpointing, one block at a time; it costs about a third more operations.
        processes: devices that share weights, gradients and optimiser (FSDP); 1 is plain data parallelism.
    """
    d, kv_dim, hidden = config.dim, config.n_kv_heads * config.head_dim, config.ffn_hidden
    block = activation_bytes * (6 * d + 2 * kv_dim + 4 * hidden) + 4 * (2 * d + config.n_heads + 2)
    head = activation_bytes * 2 * d + 4 * (d + 1 + config.vocab_size)
    blocks = config.n_layers * activation_bytes * d + block if recompute else config.n_layers * block
    parameters = config.n_parameters() / processes
    return {
        "weights": weight_bytes * parameters,
        "gradients": gradient_bytes * parameters,
        "optimizer": optimizer_bytes * parameters,
        "activations": batch * context * (blocks + head),
    }
