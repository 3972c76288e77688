"""Will it fit, and how long will it take? (chapter 22)

Everything that decides is arithmetic on a dozen numbers of the config, so it can be told before 13 GB are read: the
weights at a precision, the key/value cache, the activations; and since a token needs every weight once, tokens per
second are at most the memory's speed divided by the weights' bytes.

Does: bytes and times for every precision of `minillama.family.loading`, the free memory of this machine or container,
    a refusal with advice, the speeds of memory and disk, measured in a second.
Does not: GPUs (pass their memory and bandwidth yourself); predict how a system swaps.
Source: parameter counts and cache of chapters 1 and 5; measured against real loading in `benchmarks/real_weights.py`.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from minillama.family.quantization import quantized_bytes
from minillama.model.config import ModelConfig

GIB = 2**30
BYTES = {torch.float64: 8, torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
PRECISIONS = ("file", "bfloat16", "float16", "float32", "int8", "int4")
RUNTIME = 300 * 2**20  # PyTorch itself with its libraries: 0.21 GiB measured, rounded up
CHUNK = 128  # tokens of a prompt that the estimate counts activations for


class DoesNotFit(ValueError):
    """A model that by estimate needs more memory than is free; the message says what would fit."""


@dataclass(frozen=True)
class Estimate:
    """Bytes and times before anything is loaded.

    Attributes:
        config: the model.
        precision: as asked for.
        tokens: positions of the cache.
        weights: bytes of the weights when they are used.
        mapped: those of them that stay in the file; the system may take their memory back, and then reads again.
        cache: bytes of the key/value cache.
        activations: bytes of the largest intermediate results, for a prompt of 128 tokens.
        converting: bytes of the matrix that is held beside the result while loading.
        file: bytes of the files.
    """

    config: ModelConfig
    precision: str
    tokens: int
    weights: int
    mapped: int
    cache: int
    activations: int
    converting: int
    file: int

    @property
    def total(self) -> int:
        """Bytes needed to run at full speed, mapped weights included."""
        return self.weights + max(self.cache + self.activations, self.converting) + RUNTIME

    @property
    def anonymous(self) -> int:
        """Bytes that the system cannot take back."""
        return self.total - self.mapped

    def read_seconds(self, bytes_per_second: float) -> float:
        """Time to read all files once; without a copy in memory, loading or the first token takes at least that."""
        return self.file / bytes_per_second

    def tokens_per_second(self, bytes_per_second: float) -> float:
        """Upper limit: a new token reads every weight but the embedding's, and the filled cache, once."""
        embedding = self.config.parameter_counts()["embedding"] * 2
        return bytes_per_second / (self.weights - embedding + self.cache)


def estimate(
    config: ModelConfig,
    precision: str = "file",
    tokens: int = 2048,
    batch: int = 1,
    group: int = 64,
    file_dtype: torch.dtype = torch.bfloat16,
) -> Estimate:
    """Memory of a model at a precision.

    Args:
        config: the model.
        precision: one of `PRECISIONS`.
        tokens: length of prompt and answer together, at most the model's context.
        batch: rows at once.
        group: columns of a 4-bit group.
        file_dtype: number type of the files.

    Raises:
        ValueError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    count, width = config.n_parameters(), BYTES[file_dtype]
    kept = precision == "file" or precision == str(file_dtype).removeprefix("torch.")
    bits = {"int8": 8, "int4": 4}.get(precision)
    value = 2 if bits else BYTES[file_dtype if precision == "file" else getattr(torch, precision)]
    weights = quantized_bytes(config, bits, group) if bits else count * value
    tokens = min(tokens, config.max_seq_len)
    rows = batch * min(tokens, CHUNK)
    # the stream, its copy in float32, gate, up and their product, and the logits of the last position in float32
    activations = rows * (config.dim * (value + 4) + 3 * config.ffn_hidden * value) + 4 * batch * config.vocab_size
    largest = max(config.dim * config.ffn_hidden, config.vocab_size * config.dim)
    return Estimate(
        config,
        precision,
        tokens,
        weights,
        weights if kept else 0,
        config.kv_cache_bytes(tokens, batch, value),
        activations,
        0 if kept else largest * width,
        count * width,
    )


def refuse(wanted: Estimate, free: int | None = None) -> None:
    """Raise if a model does not fit.

    Args:
        wanted: from `estimate`.
        free: bytes of free memory; None asks the system.

    Raises:
        DoesNotFit: with the numbers, and the precisions (or failing those, the sizes) that would fit.
    """
    free = available_memory() if free is None else free
    if wanted.total <= free:
        return
    others = [(name, estimate(wanted.config, name, wanted.tokens)) for name in ("int8", "int4")]
    smaller = [f"{name} ({other.total / GIB:.1f} GiB)" for name, other in others if other.total <= free]
    if smaller:
        advice = f"with precision {' or '.join(smaller)} it fits"
    else:
        advice = "no precision of this model fits; take a smaller model, such as TinyLlama 1.1B, or a larger machine"
    if wanted.mapped and wanted.anonymous <= free:
        advice += "; force=True runs it all the same, but reads from the disk again for every token"
    else:
        advice += "; force=True tries it all the same"
    raise DoesNotFit(
        f"{wanted.config.n_parameters() / 1e9:.2f} billion parameters as {wanted.precision} with {wanted.tokens} "
        f"tokens need {wanted.total / GIB:.1f} GiB and {free / GIB:.1f} GiB are free: {advice}"
    )


def available_memory() -> int:
    """Bytes that a new program can have: what the system has free, or less where a container has a limit."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = _free_without_proc()
    return min([free, *_limits()])


def _limits() -> Iterator[int]:
    """What the control groups of this process, and those above, leave free; page cache counts as free."""
    try:
        entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, inside in entries:
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "file")
        elif "memory" in controllers.split(","):
            root, names = (
                Path("/sys/fs/cgroup/memory"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
            )
        else:
            continue
        folder = root / inside.lstrip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(root):
                break
            try:
                limit, used = ((place / name).read_text().strip() for name in names[:2])
                stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
                if limit != "max":
                    yield int(limit) - int(used) + int(stat.get(names[2], 0))
            except (OSError, ValueError):
                continue


def _free_without_proc() -> int:
    try:  # macOS has no count of available pages here: take three quarters of all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
    except (AttributeError, ValueError, OSError):
        return 8 * GIB  # Windows; say something careful


def measure_bandwidth(seconds: float = 0.5) -> float:
    """Bytes per second that matrix-vector products read from memory, the best of what fits in the time."""
    matrix = torch.ones(8192, 8192)  # 256 MiB, more than any cache
    vector, best, end = torch.ones(8192), 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        start = time.perf_counter()
        matrix @ vector
        best = max(best, matrix.nbytes / (time.perf_counter() - start))
    return best


def measure_reading(file: str | Path, limit: int = 256 * 2**20) -> float:
    """Bytes per second at which a file is read; on Linux after its cached part was dropped, so from the disk."""
    with open(file, "rb", buffering=0) as opened:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start, done = time.perf_counter(), 0
        while done < limit and (part := opened.read(2**22)):
            done += len(part)
    if not done:
        raise ValueError(f"{file} is empty: give a large file on the disk to measure")
    return done / (time.perf_counter() - start)
