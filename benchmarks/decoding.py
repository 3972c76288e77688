"""Speed of cached greedy decoding against `transformers.generate`: same weights, batch 1, one thread, float32.

Run `python benchmarks/decoding.py` (about two minutes), or name the sizes: `python benchmarks/decoding.py stories-15m`.

How it is measured: processor time of this process, so that a busy machine does not count against either side; the
contestants take turns in one process, and the median of the rounds is reported. Both sides must produce the same
tokens. Beside the ratio stands the share of the memory-bandwidth limit: a token needs every weight once (only one row
of the embedding table), and no program can read weights faster than this machine reads memory.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from minillama.family.export import hf_config
from minillama.model.checkpoints import load_hf
from minillama.model.config import PRESETS, ModelConfig
from minillama.model.generation import generate, store_by_columns

PROMPT = list(range(1, 9))


def transformers_model(config: ModelConfig) -> LlamaForCausalLM:
    """A randomly initialised model of the same shape, without an end token, so that it never stops early."""
    torch.manual_seed(0)
    shape = hf_config(config, "float32") | {"eos_token_id": None, "pad_token_id": None}
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def median_seconds(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each contestant; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def read_bandwidth(rounds: int = 5) -> float:
    """Bytes per second of a 256 MiB matrix-vector product, in the faster of the two storage orders."""
    matrix, vector = torch.randn(32768, 2048), torch.randn(2048)
    sideways = matrix.t().contiguous().t()
    seconds = median_seconds({"rows": lambda: matrix @ vector, "columns": lambda: sideways @ vector}, rounds)
    return 4 * matrix.numel() / min(seconds.values())


def race(name: str, new_tokens: int, rounds: int) -> None:
    config = PRESETS[name]
    theirs = transformers_model(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours, ours_columns = load_hf(folder), store_by_columns(load_hf(folder))
    prompt = torch.tensor([PROMPT])
    mask = torch.ones_like(prompt)

    def run_theirs() -> list[int]:
        out = theirs.generate(prompt, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False)
        return out[0, len(PROMPT) :].tolist()

    contestants = {
        "transformers.generate": run_theirs,
        "minillama": lambda: generate(ours, [PROMPT], new_tokens, temperature=0)[0].tokens,
        "minillama, store_by_columns": lambda: generate(ours_columns, [PROMPT], new_tokens, temperature=0)[0].tokens,
    }
    tokens = {label: run() for label, run in contestants.items()}  # also warms everything up
    if len({tuple(ids) for ids in tokens.values()}) != 1 or len(tokens["minillama"]) != new_tokens:
        raise SystemExit(f"{name}: the contestants do not produce the same tokens: {tokens}")

    seconds = median_seconds(contestants, rounds)
    bandwidth = read_bandwidth()
    counts = config.parameter_counts()
    read_bytes = 4 * (sum(counts.values()) - counts["embedding"])  # float32
    print(f"\n{name}: {config.n_parameters() / 1e6:.1f}M parameters, {new_tokens} greedy tokens, the same on all sides")
    print(f"  memory: {bandwidth / 1e9:.1f} GB/s read, {read_bytes / 1e6:.0f} MB of weights per token")
    for label, value in seconds.items():
        speed = new_tokens / value
        ratio = seconds["transformers.generate"] / value
        print(f"  {label:26} {speed:7.1f} tokens/s   x{ratio:.2f}   {read_bytes * speed / bandwidth:4.0%} of the limit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["stories-15m", "stories-110m"], help="names in PRESETS")
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    for name in arguments.sizes:
        race(name, arguments.new_tokens, arguments.rounds)


if __name__ == "__main__":
    main()
