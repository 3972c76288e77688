"""Speed of decoding with 16-, 8- and 4-bit weights, next to `transformers` and llama.cpp: batch 1, one thread.

Run `python benchmarks/quantized_decoding.py` (ten minutes, 10 GB of memory, 5 GB of disk). The model has the shape
of TinyLlama 1.1B and random weights: speed does not depend on what they are. With the package `llama-cpp-python` the
same weights run in llama.cpp as F16, Q8_0 and Q4_0.

How it is measured: processor time of this process, so that a busy machine does not count against anyone; contestants
take turns in one process; medians of the rounds. Seconds per token are those of 1 + N tokens less those of 1 token, by
N, so that reading the prompt does not count. The limit is this machine's: no program can read weights faster than the
memory gives them, and that is measured in the same rounds.

llama.cpp's default build crashes on some processors in its AMX buffers for Q8_0, so its extra buffer types are off
(`use_extra_bufts`). It then lacks its repacked kernels, so "faster than llama.cpp" does not follow from these numbers.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from minillama.family.export import hf_config, hf_name
from minillama.family.quantization import quantize, quantized_bytes
from minillama.model.bpe import BYTE, CONTROL, UNKNOWN, Piece, Vocabulary
from minillama.model.config import ModelConfig
from minillama.model.generation import generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

SHAPE = ModelConfig(dim=2048, n_layers=22, n_heads=32, n_kv_heads=4, vocab_size=32000, hidden_dim=5632, max_seq_len=256)
PROMPT = list(range(300, 308))
LONG = [300 + i % 1000 for i in range(128)]


def random_model(config: ModelConfig) -> Llama:
    """Random bfloat16 weights, made without a float32 copy."""
    with torch.device("meta"):
        model = Llama(config).bfloat16()
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(p.shape, dtype=torch.bfloat16).uniform_(-0.03, 0.03, generator=generator) + (p.dim() == 1)
        for name, p in model.named_parameters()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval()


def shared_copy(model: Llama) -> Llama:
    """A second model with the same tensors, so that one can be quantized and the other not."""
    with torch.device("meta"):
        copy = Llama(model.config).bfloat16()
    copy.load_state_dict(model.state_dict(), assign=True)
    return copy.eval()


def transformers_model(model: Llama) -> transformers.LlamaForCausalLM:
    """`transformers` with the same tensors; the order of q's and k's rows does not matter for speed."""
    shape = transformers.LlamaConfig(**hf_config(model.config) | {"eos_token_id": None, "pad_token_id": None})
    small = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{**shape.to_dict(), "num_hidden_layers": 1, "vocab_size": 8})
    )
    rotary = small.model.rotary_emb  # a table that is no part of the weights
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(shape).bfloat16()
    weights = {hf_name(name): weight for name, weight in model.state_dict().items()}
    theirs.load_state_dict(weights, assign=True)
    theirs.model.rotary_emb = rotary
    return theirs.eval()


def llama_cpp_models(model: Llama, folder: Path) -> dict[str, object]:
    """The same weights in llama.cpp, or nothing where it is not installed."""
    if find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed: no rows of llama.cpp")
        return {}
    import llama_cpp

    from minillama.family.gguf_file import export_gguf

    defaults = llama_cpp.llama_cpp.llama_model_default_params

    def without_extra_buffers():
        settings = defaults()
        settings.use_extra_bufts = False
        return settings

    llama_cpp.llama_cpp.llama_model_default_params = without_extra_buffers
    special = [Piece("<unk>", 0.0, UNKNOWN), Piece("<s>", 0.0, CONTROL), Piece("</s>", 0.0, CONTROL)]
    bytes_ = [Piece(f"<0x{i:02X}>", 0.0, BYTE) for i in range(256)]
    words = [Piece(f"\u2581w{i}", -float(i)) for i in range(model.config.vocab_size - 259)]
    tokenizer = Tokenizer(Vocabulary((*special, *bytes_, *words)))
    files = {"F16": export_gguf(model, tokenizer, folder / "F16.gguf")}
    for kind, number in {"Q8_0": 7, "Q4_0": 2}.items():
        files[kind] = folder / f"{kind}.gguf"
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype, settings.nthread = number, 1
        if llama_cpp.llama_model_quantize(bytes(files["F16"]), bytes(files[kind]), settings):
            raise SystemExit(f"llama.cpp could not write {kind}")
    options = dict(n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1, n_threads_batch=1, n_gpu_layers=0, verbose=False)
    return {f"llama.cpp {kind}": llama_cpp.Llama(str(file), **options) for kind, file in files.items()}


def llama_cpp_decode(theirs, prompt: list[int], new_tokens: int) -> None:
    """Read a prompt and continue it greedily."""
    theirs.reset()
    tokens = theirs.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0)
    for _ in range(new_tokens):
        next(tokens)
    tokens.close()


def read_seconds(matrix: torch.Tensor, vector: torch.Tensor) -> float:
    """Processor seconds of one float32 matrix-vector product, which reads the matrix once."""
    start = time.process_time()
    matrix @ vector
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=SHAPE.n_layers, help="fewer for a quick trial")
    parser.add_argument("--no-llama-cpp", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    config = ModelConfig(**{**vars(SHAPE), "n_layers": arguments.layers})
    base = random_model(config)
    int8, int4 = quantize(shared_copy(base), 8), quantize(shared_copy(base), 4, 64)
    int4_32 = quantize(shared_copy(base), 4, 32)
    theirs = transformers_model(base)
    more = arguments.new_tokens + 1

    def ours(model: Llama) -> Callable[[list[int], int], object]:
        return lambda prompt, new: generate(model, [prompt], new, temperature=0)

    def hf(prompt: list[int], new: int) -> None:
        ids = torch.tensor([prompt])
        theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)

    contestants = {
        "minillama bfloat16": ours(base),
        "minillama int8": ours(int8),
        "minillama int4, groups of 64": ours(int4),
        "minillama int4, groups of 32": ours(int4_32),
        "transformers bfloat16": hf,
    }
    weight = {"minillama bfloat16": 16, "minillama int8": 8, "minillama int4, groups of 64": 4}
    with tempfile.TemporaryDirectory() as folder:
        files = {} if arguments.no_llama_cpp else llama_cpp_models(base, Path(folder))
        for name, model in files.items():
            contestants[name] = lambda prompt, new, model=model: llama_cpp_decode(model, prompt, new)
        for run in contestants.values():
            run(PROMPT, 2)  # warm up: kernels are chosen, 4-bit weights brought into their order
        measured: dict[str, dict[str, list[float]]] = {
            name: {"one": [], "more": [], "long": []} for name in contestants
        }
        matrix, vector, reads = torch.randn(32768, 2048), torch.randn(2048), []
        sideways = matrix.t().contiguous().t()
        try:
            for _ in tqdm(range(arguments.rounds), desc="rounds"):
                reads.append(min(read_seconds(matrix, vector), read_seconds(sideways, vector)))
                for name, run in contestants.items():
                    for what, prompt, new in (("one", PROMPT, 1), ("more", PROMPT, more), ("long", LONG, 1)):
                        start = time.process_time()
                        run(prompt, new)
                        measured[name][what].append(time.process_time() - start)
        except KeyboardInterrupt:
            print("stopped: complete rounds only")
    rounds = min(len(values["long"]) for values in measured.values())
    if not rounds:
        raise SystemExit("no complete round")
    measured = {name: {what: some[:rounds] for what, some in values.items()} for name, values in measured.items()}
    del reads[rounds:]
    bandwidth = 4 * matrix.numel() / statistics.median(reads)
    print(f"{config.n_parameters() / 1e9:.2f}B parameters, torch {torch.__version__}, {rounds} rounds")
    print(f"memory: {bandwidth / 1e9:.1f} GB/s read (float32 matrix-vector product)\n")
    print("| weights | tokens/s | / our bfloat16 | over rounds | GB per token | of the limit | 128 tokens read, s |")
    print("|---|---|---|---|---|---|---|")

    def per_token(name: str) -> list[float]:
        values = measured[name]
        return [(m - o) / arguments.new_tokens for m, o in zip(values["more"], values["one"], strict=True)]

    ours_16 = statistics.median(per_token("minillama bfloat16"))
    for name in contestants:
        seconds = statistics.median(per_token(name))
        ratios = [a / b for a, b in zip(per_token("minillama bfloat16"), per_token(name), strict=True)]
        part = ["", ""]
        if name in weight or "int4" in name:
            group = 32 if name.endswith("32") else 64
            size = quantized_bytes(config, weight.get(name, 4), group) - 2 * config.vocab_size * config.dim
            part = [f"{size / 1e9:.2f}", f"{size / seconds / bandwidth:.0%}"]
        print(
            f"| {name} | {1 / seconds:.2f} | {ours_16 / seconds:.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
            f"{part[0]} | {part[1]} | {statistics.median(measured[name]['long']):.2f} |"
        )


if __name__ == "__main__":
    main()
