"""Speed of a training step against `transformers` and the blocks of llama2.c and nanoGPT, at 1M and 10M parameters.

Run `python benchmarks/training.py` (eight minutes of processor time; needs the extra `parity`), or name parts of it:
`python benchmarks/training.py 1M 10M bfloat16 compile`.

How it is measured: a step is forward, backward, clipping, AdamW and clearing the gradients, in float32 unless a line
says otherwise, on the same random tokens with the same optimiser settings. Processor time of this process, one thread,
so that a busy machine counts less, and for no side more; the contestants take turns, and another one begins each round.
Printed are medians and, for the ratios, the middle half of the rounds. Before any clock starts, the losses of all
Llamas on the same weights must agree to 1e-5. The blocks of llama2.c and nanoGPT are written here anew, with their
structure and without their training scripts.

MFU is the work of a step's matrix products over its time, as a share of what this machine reaches in one large product,
as `matmul_peak` has it, but in processor time too; for bfloat16 the better of its own and float32's. The embedding is a
lookup and no product, and a causal query sees half the context on average, so both are counted that way.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler talks

import argparse
import datetime
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from minillama.model.checkpoints import load_hf
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama
from minillama.pretraining.trainer import TrainConfig, make_optimizer, next_token_loss

SIZES = {  # the model, and how many sequences of 256 tokens make a step
    "1M": (ModelConfig(dim=128, n_layers=4, n_heads=4, vocab_size=1024, multiple_of=32, max_seq_len=256), 16),
    "10M": (ModelConfig(dim=320, n_layers=6, n_heads=5, vocab_size=4096, multiple_of=32, max_seq_len=256), 8),
}
TOLERANCE = 1e-5  # between two losses, in nats per token


# --- GPT-2's block as nanoGPT trains it: LayerNorm, fused q/k/v, GELU, learned positions, tied head, no biases --------


class GPT2Block(nn.Module):
    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.ln_1(x)).split(dim, dim=2)
        q, k, v = (y.view(batch, length, self.n_heads, -1).transpose(1, 2) for y in (q, k, v))  # (B, H, T, hd)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class GPT2(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.max_seq_len, config.dim)
        self.blocks = nn.ModuleList(GPT2Block(config.dim, config.n_heads) for _ in range(config.n_layers))
        self.ln = nn.LayerNorm(config.dim, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.ln(x), self.tokens.weight)


# --- the block of llama2.c's model.py: RMSNorm by hand, RoPE in real arithmetic, keys repeated per group, tied head ---


class HandNorm(nn.Module):
    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x has shape (B, T, H, hd), cos and sin (T, 1, hd / 2)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(3).type_as(x)


def repeat_heads(x: Tensor, times: int) -> Tensor:
    """(B, T, KV, hd) to (B, T, KV * times, hd)."""
    return x if times == 1 else x.repeat_interleave(times, dim=2)


class Llama2cAttention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_dim, self.group = config.head_dim, config.group_size
        kv_dim = config.n_kv_heads * config.head_dim
        self.wq, self.wk = nn.Linear(config.dim, config.dim, bias=False), nn.Linear(config.dim, kv_dim, bias=False)
        self.wv, self.wo = nn.Linear(config.dim, kv_dim, bias=False), nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (w(x).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))  # (B, T, H, hd)
        q, k = rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin)
        k, v = repeat_heads(k, self.group), repeat_heads(v, self.group)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # (B, H, T, hd)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(mixed.transpose(1, 2).contiguous().flatten(2))


class Llama2cFeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.w1, self.w3 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Llama2cBlock(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention, self.feed_forward = Llama2cAttention(config), Llama2cFeedForward(config.dim, config.ffn_hidden)
        self.attention_norm = HandNorm(config.dim, config.norm_eps)
        self.ffn_norm = HandNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.ffn_norm(x))


class Llama2c(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Llama2cBlock(config) for _ in range(config.n_layers))
        self.norm = HandNorm(config.dim, config.norm_eps)
        self.output = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.output.weight = self.tok_embeddings.weight
        frequencies = config.rope_theta ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
        angles = torch.outer(torch.arange(config.max_seq_len), frequencies)[:, None]  # (T, 1, hd / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, length = self.tok_embeddings(tokens), tokens.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return self.output(self.norm(x))


# --- the race --------------------------------------------------------------------------------------------------------


@dataclass
class Contestant:
    """A model under training; `forward` maps tokens (B, T) to logits (B, T, V)."""

    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    bfloat16: bool = False
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model.train()
        self.recipe = TrainConfig(steps=1000, batch_size=1, context=1, peak_lr=1e-3)  # the rest is the paper's AdamW
        self.optimizer = make_optimizer(self.model, self.recipe)

    def loss(self, tokens: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            return next_token_loss(self.forward, tokens)

    def step(self, tokens: Tensor) -> None:
        self.loss(tokens).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


def llamas(config: ModelConfig) -> dict[str, Contestant]:
    """Ours, both of `transformers`' and llama2.c's, with the same numbers as weights."""
    shape = dict(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        intermediate_size=config.ffn_hidden,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        max_position_embeddings=config.max_seq_len,
        rms_norm_eps=config.norm_eps,
    )
    torch.manual_seed(0)
    sdpa = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="sdpa"))
    eager = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="eager"))
    with torch.no_grad():  # llama2.c ties the head to the embedding; the others start with equal numbers there
        sdpa.lm_head.weight.copy_(sdpa.model.embed_tokens.weight)
    eager.load_state_dict(sdpa.state_dict())
    mine, llama2c = Llama(config), Llama2c(config)
    with tempfile.TemporaryDirectory() as folder:
        sdpa.save_pretrained(folder)
        weights = load_hf(folder).state_dict()
        mine.load_state_dict(weights)
        llama2c.load_state_dict(weights)
    return {
        "minillama": Contestant(mine, mine),
        "transformers, sdpa": Contestant(sdpa, lambda tokens: sdpa(input_ids=tokens, use_cache=False).logits),
        "transformers, eager": Contestant(eager, lambda tokens: eager(input_ids=tokens, use_cache=False).logits),
        "llama2.c's block": Contestant(llama2c, llama2c),
    }


def check_losses(contestants: dict[str, Contestant], tokens: Tensor) -> None:
    losses = {name: contestant.loss(tokens).item() for name, contestant in contestants.items()}
    if max(losses.values()) - min(losses.values()) > TOLERANCE:
        raise SystemExit(f"the contestants do not compute the same loss: {losses}")
    print(f"  the same loss on the same weights: largest difference {max(losses.values()) - min(losses.values()):.1e}")


def race(contestants: dict[str, Contestant], tokens: Tensor, rounds: int) -> None:
    """One step each to warm up (it also makes Adam's averages), then `rounds` steps each, in turns."""
    for contestant in contestants.values():
        contestant.step(tokens)
    order = list(contestants.values())
    for _ in range(rounds):
        for contestant in order:
            start = time.process_time()
            contestant.step(tokens)
            contestant.seconds.append(time.process_time() - start)
        order = order[1:] + order[:1]


def peak(dtype: torch.dtype, rounds: int, size: int = 1024) -> float:
    """`matmul_peak` in processor time: operations per second in a product of two square matrices, the best round."""
    a, b = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(rounds + 1):  # the first one warms up
        start = time.process_time()
        a @ b
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds[1:])


def report(contestants: dict[str, Contestant], tokens: int, flops: int, peaks: dict[bool, float]) -> None:
    """A line for each; all are compared with the first. The flops are a Llama's, so only Llamas get an MFU."""
    first = next(iter(contestants.values()))
    for name, contestant in contestants.items():
        median = statistics.median(contestant.seconds)
        line = f"  {name:22} {median:7.3f} s {tokens / median:7,.0f} tokens/s"
        if contestant is not first:
            ratios = [a / b for a, b in zip(contestant.seconds, first.seconds, strict=True)]
            line += f"   {statistics.median(ratios):5.2f} x the time"
            if len(ratios) > 2:
                low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
                line += f" ({low:.2f} to {high:.2f})"
        if not isinstance(contestant.model, GPT2):
            best = max(peaks.values()) if contestant.bfloat16 else peaks[False]
            line += f"   MFU {flops * tokens / median / best:.0%}"
        print(line, flush=True)


def flops_per_token(config: ModelConfig, context: int) -> int:
    """Work of the matrix products in training: no lookup of embeddings, and half the context for a causal query."""
    return config.flops_per_token(context // 2, training=True) - 6 * config.parameter_counts()["embedding"]


def shared_kernels(contestant: Contestant, tokens: Tensor) -> float:
    """Share of a step spent in matrix products and PyTorch's attention, which are the same code for every Llama."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        contestant.step(tokens)
    rows = [(row.key, row.self_cpu_time_total) for row in recorded.key_averages()]
    shared = sum(time for key, time in rows if key.startswith(("aten::mm", "aten::_scaled_dot_product")))
    return shared / sum(time for _, time in rows)


def random_tokens(config: ModelConfig, batch: int) -> Tensor:
    return torch.randint(config.vocab_size, (batch, 257), generator=torch.Generator().manual_seed(0))


def blocks(name: str, rounds: int, peaks: dict[bool, float]) -> None:
    """Ours against the others, in float32."""
    config, batch = SIZES[name]
    tokens = random_tokens(config, batch)
    print(f"\n{name}: {config.n_parameters() / 1e6:.2f}M parameters, {batch} x 256 tokens, float32, {rounds} rounds")
    contestants = llamas(config)
    check_losses(contestants, tokens)
    gpt2 = GPT2(config)
    contestants["nanoGPT's block"] = Contestant(gpt2, gpt2)
    race(contestants, tokens, rounds)
    report(contestants, batch * 256, flops_per_token(config, 256), peaks)
    share = shared_kernels(contestants["minillama"], tokens)
    print(f"  matrix products and attention, the same kernels in every Llama: {share:.0%} of our step")


def number_types(name: str, rounds: int, peaks: dict[bool, float]) -> None:
    """Ours in float32 and in bfloat16 autocast; a single sequence where bfloat16 is slow and would take minutes."""
    config, batch = SIZES[name]
    batch = 1 if peaks[True] < peaks[False] else batch
    tokens = random_tokens(config, batch)
    print(f"\n{name}: ours in two number types, {batch} x 256 tokens, {rounds} rounds")
    contestants = {"float32": ours(config), "bfloat16 autocast": ours(config, bfloat16=True)}
    race(contestants, tokens, rounds)
    report(contestants, batch * 256, flops_per_token(config, 256), peaks)


def compiled(name: str, rounds: int, peaks: dict[bool, float]) -> None:
    """Ours as it is and through `torch.compile`, from an empty cache."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        print("\ncompile: skipped, torch.compile needs a C++ compiler and there is neither g++ nor clang++")
        return
    for bfloat16 in (False, True):
        config, batch = SIZES[name]
        batch = 1 if bfloat16 and peaks[True] < peaks[False] else batch  # as in `number_types`
        tokens = random_tokens(config, batch)
        label = "bfloat16 autocast" if bfloat16 else "float32"
        print(f"\n{name}: ours compiled in {label}, {batch} x 256 tokens, {rounds} rounds")
        contestants = {"float32": ours(config), f"{label}, compiled": ours(config, bfloat16, compile=True)}
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            start, before = time.perf_counter(), time.process_time()
            contestants[f"{label}, compiled"].step(tokens)
            wall, cpu = time.perf_counter() - start, time.process_time() - before
            print(f"  first step: {wall:.0f} s by the clock, {cpu:.0f} s of them this process computed", flush=True)
            race(contestants, tokens, rounds)
        report(contestants, batch * 256, flops_per_token(config, 256), peaks)


def ours(config: ModelConfig, bfloat16: bool = False, compile: bool = False) -> Contestant:
    model = Llama(config)
    return Contestant(model, torch.compile(model) if compile else model, bfloat16)


def machine() -> tuple[str, list[str]]:
    """Name of the processor and those of its abilities that matter here; Linux only, elsewhere what Python knows."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(about.get("flags", about.get("Features", "")).split())
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "bf16")
    return about.get("model name") or platform.processor(), [flag for flag in known if flag in flags]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["1M", "10M", "bfloat16", "compile"]
    parser.add_argument("parts", nargs="*", default=parts, help=f"some of {parts}")
    parser.add_argument("--rounds", type=int, help="of each race; fewer where a step is slow, unless given")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"unknown parts {sorted(unknown)}, expected some of {parts}")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex")
    name, flags = machine()
    print(f"{datetime.date.today()}, {name}, {' '.join(flags)}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")
    peaks = {False: peak(torch.float32, 20), True: peak(torch.bfloat16, 2)}
    print(f"matrix product, 1 thread: float32 {peaks[False] / 1e9:.1f}, bfloat16 {peaks[True] / 1e9:.1f} GFLOP/s")
    if "amx_bf16" not in flags:
        print("this CPU has no AMX: bfloat16 cannot be expected to gain")
    for part in arguments.parts:
        if part == "bfloat16":
            number_types("1M", arguments.rounds or 5, peaks)
            number_types("10M", arguments.rounds or 3, peaks)
        elif part == "compile":
            compiled("10M", arguments.rounds or 3, peaks)
        else:
            blocks(part, arguments.rounds or {"1M": 9, "10M": 5}[part], peaks)


if __name__ == "__main__":
    main()
