"""LoRA: tune a model by adding small matrices beside frozen ones (chapter 20).

Freeze W and learn W + (alpha / r) B A, where A and B have rank r. Few numbers are trained and need an optimiser's
memory; afterwards the product is added to W, and what is left is a plain Llama that costs nothing more.

Does: any of the seven matrices of a block; merge and take apart again; adapters as small files that know their base;
    several adapters on one base, one at a time; what tuning takes in memory.
Does not: dropout, embeddings, quantized bases; two adapters in one batch.
Source: Hu et al. 2021, section 4.1. A's scale is ours; B is zero as there.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minillama.model.assembly import CheckpointError
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

MATRICES = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
ATTENTION = ("wq", "wv")  # what the paper adapts in most of its experiments


class LoRALinear(nn.Module):
    """x W^T + (alpha / r) (x A^T) B^T with W frozen.

    Args:
        base: the layer that is adapted; its weight has shape (out, in).
        rank: r.
        alpha: with r, the scale of what is added.
        generator: of A's first values; None leaves both factors to be filled in.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        weight = base.weight
        self.base, self.scale = base, alpha / rank
        self.A = nn.Parameter(torch.empty(rank, weight.shape[1], dtype=weight.dtype, device=weight.device))
        self.B = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype, device=weight.device))
        if generator is not None:
            noise = torch.randn(self.A.shape, generator=generator) / math.sqrt(weight.shape[1])
            self.A.data.copy_(noise)
        weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out); the detour over r numbers comes first, so the product B A is never made."""
        return self.base(x) + self.scale * ((x @ self.A.T) @ self.B.T)


@dataclass(frozen=True)
class Adapter:
    """What was learnt, without the base.

    Attributes:
        rank, alpha: r, and the scale's numerator.
        base_sha256: `fingerprint` of the model that it belongs to.
        factors: A, shape (r, in), and B, shape (out, r), by the matrix's name, such as "layers.0.attention.wq".
    """

    rank: int
    alpha: float
    base_sha256: str
    factors: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def n_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(a.numel() + b.numel() for a, b in self.factors.values())


def add_lora(
    model: Llama, rank: int = 8, alpha: float = 16.0, targets: Sequence[str] = ATTENTION, seed: int = 0
) -> Llama:
    """Freeze a model and put trainable factors beside some matrices of every block, in place.

    B is zero, so the model still says what it said.

    Args:
        model: without an adapter.
        rank, alpha: as in `LoRALinear`.
        targets: names out of `MATRICES`.
        seed: of A.

    Raises:
        ValueError: if the rank is below 1, a target is unknown, or the model has an adapter already.
    """
    unknown = set(targets) - set(MATRICES)
    if rank < 1 or not targets or unknown:
        raise ValueError(f"expected rank >= 1 and targets out of {MATRICES}, got {rank} and {tuple(targets)}")
    _refuse_second(model)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.split(".")[-1] in targets]:
        _put(model, name, LoRALinear(model.get_submodule(name), rank, alpha, generator))
    return model


def lora_layers(model: Llama) -> dict[str, LoRALinear]:
    """The adapted matrices, by name; empty for a plain model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def remove(model: Llama) -> Adapter:
    """Take the adapter off; what stays is the base, untouched, and trainable again.

    Raises:
        ValueError: if there is none.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model has no adapter: it is plain, or its adapter is already merged or removed")
    rank = next(iter(layers.values())).A.shape[0]
    alpha = next(iter(layers.values())).scale * rank
    factors = {name: (layer.A.detach().clone(), layer.B.detach().clone()) for name, layer in layers.items()}
    for name, layer in layers.items():
        _put(model, name, layer.base)
    model.requires_grad_(True)
    return Adapter(rank, alpha, fingerprint(model), factors)


def attach(model: Llama, adapter: Adapter) -> Llama:
    """Put an adapter on the base that it was trained on, in place; the base is frozen.

    Raises:
        ValueError: if the model has an adapter already, or is another one than the adapter's base.
    """
    _refuse_second(model)
    found = fingerprint(model)
    if found != adapter.base_sha256:
        raise ValueError(
            f"the adapter belongs to weights with sha256 {adapter.base_sha256[:12]}..., these have {found[:12]}...; "
            "load the base that it belongs to (a merged or tuned model is another one)"
        )
    model.requires_grad_(False)
    for name, (a, b) in adapter.factors.items():
        layer = LoRALinear(model.get_submodule(name), adapter.rank, adapter.alpha)
        layer.A.data.copy_(a)
        layer.B.data.copy_(b)
        _put(model, name, layer)
    return model


@torch.no_grad()
def merge(model: Llama) -> Adapter:
    """Add (alpha / r) B A to each adapted matrix and take the adapter off, in place: a plain Llama is left.

    The sum is made in float32 at least and rounded once to the weights' type.

    Returns:
        the adapter, for `unmerge`.

    Raises:
        ValueError: if there is no adapter, as after a first merge.
    """
    adapter = remove(model)
    _add(model, adapter, 1)
    return adapter


@torch.no_grad()
def unmerge(model: Llama, adapter: Adapter) -> Llama:
    """Undo `merge`, in place: the base with its adapter beside it, up to the rounding of one sum and one difference.

    Raises:
        ValueError: if the model has an adapter already.
    """
    _refuse_second(model)
    _add(model, adapter, -1)
    # rounding may have moved last digits, so what is left is taken for the base without a look at its hash
    return attach(model, Adapter(adapter.rank, adapter.alpha, fingerprint(model), adapter.factors))


def _add(model: Llama, adapter: Adapter, sign: int) -> None:
    for name, (a, b) in adapter.factors.items():
        weight, scale = model.get_submodule(name).weight, sign * adapter.alpha / adapter.rank
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        weight.copy_(weight.to(wide) + scale * (b.to(wide) @ a.to(wide)))


def fingerprint(model: Llama) -> str:
    """SHA-256 of a plain model's weights as float32: the same whether a bfloat16 file was read as it is or widened."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_adapter(adapter: Adapter, path: str | Path) -> None:
    """Write an adapter as safetensors, all or nothing; its base is named by hash only."""
    path = Path(path)
    pairs = {f"{name}.{letter}": t for name, both in adapter.factors.items() for letter, t in zip("AB", both)}  # noqa: B905
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in pairs.items()}
    described = {"rank": adapter.rank, "alpha": adapter.alpha, "base_sha256": adapter.base_sha256}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, {"format": "pt", "minillama_lora": json.dumps(described)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_adapter(path: str | Path) -> Adapter:
    """Read a file written by `save_adapter`; `attach` then checks that the base is the right one.

    Raises:
        CheckpointError: if the file is damaged, is no adapter, or its factors do not fit each other.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: missing, truncated or not safetensors ({error}); fetch it again") from error
    if "minillama_lora" not in metadata:
        raise CheckpointError(f"{path}: metadata {sorted(metadata)} lack 'minillama_lora'; a whole model is no adapter")
    described = json.loads(metadata["minillama_lora"])
    names = sorted({key.rpartition(".")[0] for key in tensors})
    if set(tensors) != {f"{name}.{letter}" for name in names for letter in "AB"}:
        raise CheckpointError(f"{path}: tensors {sorted(tensors)[:4]}... are not pairs A and B; fetch it again")
    for name in names:
        a, b = tensors[f"{name}.A"], tensors[f"{name}.B"]
        if not a.dim() == b.dim() == 2 or not a.shape[0] == b.shape[1] == described["rank"]:
            raise CheckpointError(f"{path}: {name} has A {tuple(a.shape)} and B {tuple(b.shape)}, "
                                  f"expected ({described['rank']}, in) and (out, {described['rank']})")  # fmt: skip
    return Adapter(**described, factors={name: (tensors[f"{name}.A"], tensors[f"{name}.B"]) for name in names})


def n_trainable(model: nn.Module) -> int:
    """How many numbers of a model get a gradient."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes that an optimiser keeps for each trained number, measured; counters of steps are left out."""
    kept = (v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor) and v.dim())
    return sum(v.numel() * v.element_size() for v in kept)


def lora_parameters(config: ModelConfig, rank: int, targets: Sequence[str] = ATTENTION) -> int:
    """r (in + out) for each adapted matrix, all blocks together."""
    d, kv, h = config.dim, config.n_kv_heads * config.head_dim, config.ffn_hidden
    both = {"wq": d + d, "wk": d + kv, "wv": d + kv, "wo": d + d, "w1": d + h, "w2": h + d, "w3": d + h}
    return config.n_layers * rank * sum(both[name] for name in targets)


def tuning_memory(
    config: ModelConfig, rank: int | None, targets: Sequence[str] = ATTENTION, weight_bytes: float = 2
) -> dict[str, float]:
    """Bytes of weights, gradients and AdamW's state, without activations, which LoRA hardly changes.

    Each trained number takes 16 bytes: as float32, its gradient, and two averages. That is what chapter 11 counts for a
    whole model (`minillama.pretraining.scaling.training_memory`); the frozen weights of LoRA take `weight_bytes` each.

    Args:
        config: the shape.
        rank: of the adapter; None trains everything.
        targets: adapted matrices.
        weight_bytes: of a frozen weight, 2 for bfloat16.
    """
    trained = config.n_parameters() if rank is None else lora_parameters(config, rank, targets)
    frozen = 0 if rank is None else weight_bytes * config.n_parameters()
    return {"weights": frozen + 4.0 * trained, "gradients": 4.0 * trained, "optimizer": 8.0 * trained}


def _refuse_second(model: Llama) -> None:
    if layers := lora_layers(model):
        raise ValueError(f"the model already has an adapter on {len(layers)} matrices; merge or remove it first")


def _put(model: Llama, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
