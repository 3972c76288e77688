"""Do our exports mean the same to the programs that they are for? Greedy answers of `transformers` and llama.cpp.

Run `python benchmarks/exports.py` (about a minute) with the extras `parity` and `llamacpp` installed. The book's chat
model is exported and asked the same questions by each program. Expected are, for Hugging Face, the same logits (1e-4)
and ids; for GGUF, the same greedy text as ours with the same rounded weights: float16, or Q8_0 as the package `gguf`
dequantizes it. Where two texts differ, the gap between our two best logits at the fork is printed: llama.cpp also
rounds activations (to float16 or 8 bits), so that a near tie may fall the other way.

llama.cpp's default build crashes on some processors in its AMX buffers for Q8_0, so its extra buffer types are switched
off (`use_extra_bufts`): without them it lacks its repacked kernels, and nothing on its speed follows from here.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import torch
import transformers
from tqdm import tqdm

from minillama import data_path
from minillama.alignment.chat import encode_prompt, messages
from minillama.family.export import export_hf
from minillama.family.gguf_file import export_gguf, gguf_name
from minillama.model.checkpoints import load_safetensors
from minillama.model.generation import generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.requests import requests

NEW_TOKENS = 96


def without_extra_buffers():
    """llama.cpp's default settings, but without the buffers that crash."""
    settings = DEFAULTS()
    settings.use_extra_bufts = False
    return settings


DEFAULTS = llama_cpp.llama_cpp.llama_model_default_params
llama_cpp.llama_cpp.llama_model_default_params = without_extra_buffers


def model() -> Llama:
    """The book's chat model in float32."""
    return load_safetensors(data_path("rlhf/v5.safetensors"), dtype=torch.float32)


def as_in_file(path: Path) -> Llama:
    """Our model with the weights that a GGUF file holds."""
    ours, stored = model(), {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            tensor = stored[gguf_name(name)]
            parameter.copy_(torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
    return ours


def fork(ours: Llama, prompt: list[int], mine: list[int], theirs: list[int]) -> str:
    """Where two answers part, and how near a tie that was for our model."""
    at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    with torch.inference_mode():
        best = ours(torch.tensor([prompt + mine[:at]]))[0, -1].topk(2).values
    return f"after {at} tokens, where our two best logits are {best[0] - best[1]:.4f} apart"


def check_gguf(kind: str, prompts: list[list[int]], tokenizer: Tokenizer, folder: Path) -> None:
    path = export_gguf(model(), tokenizer, folder / f"{kind}.gguf", kind, chat=True)
    ours = as_in_file(path)
    theirs = llama_cpp.Llama(
        str(path), n_ctx=ours.config.max_seq_len, n_threads=1, n_threads_batch=1, n_gpu_layers=0, verbose=False
    )
    for text in ("Mara lives at the mill.", " two  spaces", "h\u00e9llo \U0001f642\n", "</s>", "\u2581under", "a<s>b"):
        found = theirs.tokenize(text.encode(), add_bos=True, special=False)
        assert found == tokenizer.encode(text, bos=True), (text, found)
    same = 0
    for prompt in tqdm(prompts, desc=kind, leave=False):
        mine = generate(ours, [prompt], NEW_TOKENS, temperature=0, stop_tokens=(tokenizer.eos_id,))[0].tokens
        theirs.reset()
        found = []
        for token in theirs.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
            if token == tokenizer.eos_id or len(found) == NEW_TOKENS:
                break
            found.append(token)
        same += mine == found
        if mine != found:
            print(f"  {kind}: {tokenizer.decode(prompt)!r} differs {fork(ours, prompt, mine, found)}")
    print(f"{kind:5} {path.stat().st_size / 1e6:5.2f} MB   {same} of {len(prompts)} greedy answers equal llama.cpp's")


def check_hf(prompts: list[list[int]], asked: list, tokenizer: Tokenizer, folder: Path) -> None:
    ours = model()
    export_hf(ours, tokenizer, folder / "hf", chat=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32)
    words = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    same, largest = 0, 0.0
    for prompt, request in zip(prompts, asked, strict=True):
        assert list(words.apply_chat_template(messages(request), return_dict=False)) == prompt
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            largest = max(largest, (theirs(ids).logits - ours(ids)).abs().max().item())
        mine = generate(ours, [prompt], NEW_TOKENS, temperature=0, stop_tokens=(tokenizer.eos_id,))[0].tokens
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
        )
        found = [token for token in out[0, len(prompt) :].tolist() if token != tokenizer.eos_id]
        same += mine == found
    assert largest < 1e-4
    print(f"HF    {same} of {len(prompts)} greedy answers and all prompts' ids equal; logits within {largest:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--kinds", nargs="*", default=["F32", "F16", "BF16", "Q8_0"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    tokenizer, asked = Tokenizer.from_file(data_path("tokenizer.model")), requests("test", arguments.prompts, 21)
    prompts = [encode_prompt(tokenizer, messages(request)) for request in asked]
    print(
        f"transformers {transformers.__version__}, llama-cpp-python {llama_cpp.__version__}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        check_hf(prompts, asked, tokenizer, Path(folder))
        for kind in arguments.kinds:
            check_gguf(kind, prompts, tokenizer, Path(folder))


if __name__ == "__main__":
    main()
