"""GGUF, the file that llama.cpp and Ollama run (chapter 21).

One file holds everything: key-value metadata (shape, tokenizer, chat template) and the tensors, each in a type of its
own. llama.cpp rotates adjacent pairs, as Meta does, so q and k stay as they are: the converters for Hugging Face
models have to undo the permutation of chapter 4 first.

Does: architecture "llama" in float32, float16, bfloat16 or Q8_0 (blocks of 32 int8 with a float16 scale), written one
    tensor at a time; a Modelfile for Ollama.
Does not: the 4-bit types, for which llama.cpp has its own tool; run anything. Needs the package `gguf`.
Source: the GGUF specification and llama.cpp's converter, through the package `gguf`.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minillama.family.export import CHAT_TEMPLATE, float_weights
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

KINDS = ("F32", "F16", "BF16", "Q8_0")
STOPS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")  # a model that begins to write a tag is at its end
# chapter 12's template in Go's language. The program puts BOS before the whole, so it stands before later turns only.
OLLAMA_TEMPLATE = """\
{{- $first := true }}
{{- range .Messages }}
{{- if eq .Role "user" }}
{{- if not $first }}<s>{{ end }}[INST] {{ if and $first $.System }}<<SYS>>
{{ $.System }}
<</SYS>>

{{ end }}{{ .Content }} [/INST]
{{- $first = false }}
{{- else if eq .Role "assistant" }} {{ .Content }} </s>
{{- end }}
{{- end }}"""
_NAMES = {
    "tok_embeddings": "token_embd",
    "norm": "output_norm",
    "output": "output",
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}


def export_gguf(
    model: Llama,
    tokenizer: Tokenizer,
    path: str | Path,
    kind: str = "F16",
    chat: bool = False,
    name: str = "minillama",
    overwrite: bool = False,
) -> Path:
    """Write a model and its tokenizer as one GGUF file.

    Args:
        model, tokenizer: a pair that belongs together.
        path: the target, by custom ending in `.gguf`.
        kind: type of the matrices, one of `KINDS`; norms are float32. A matrix whose columns are no multiple of 32 is
            float16 where Q8_0 was asked for.
        chat: also store Llama 2's chat template.
        name: what programs show.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        ImportError: if the package `gguf` is missing.
        ValueError: for another kind, a weight beyond float16's range, or as `float_weights`.
        FileExistsError: if the file is there and `overwrite` is not set.
    """
    path = Path(path)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}; llama.cpp's llama-quantize makes the others")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name a new file, or pass overwrite=True")
    try:
        import gguf  # an extra: nothing else needs it
    except ImportError as error:
        raise ImportError("GGUF files need the package gguf: pip install gguf") from error
    weights, config = float_weights(model, tokenizer), model.config
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    try:
        writer.add_name(name)
        writer.add_file_type({"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_seq_len)
        writer.add_embedding_length(config.dim)
        writer.add_block_count(config.n_layers)
        writer.add_feed_forward_length(config.ffn_hidden)
        writer.add_head_count(config.n_heads)
        writer.add_head_count_kv(config.n_kv_heads)
        writer.add_layer_norm_rms_eps(config.norm_eps)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_rope_freq_base(config.rope_theta)
        _add_tokenizer(writer, tokenizer, chat)
        kinds = {}
        for meta, weight in weights.items():
            kinds[meta] = gguf.GGMLQuantizationType[_kind_of(meta, weight, kind)]
            if kinds[meta].name == "F16" and weight.abs().max() > torch.finfo(torch.float16).max:
                raise ValueError(f"{meta} holds {weight.abs().max():.0f}, beyond float16; take BF16 or F32")
            shape, width = gguf_shape(weight, kinds[meta])
            writer.add_tensor_info(gguf_name(meta), shape, width, int(np.prod(shape)) * width.itemsize, kinds[meta])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for meta, weight in weights.items():
            writer.write_tensor_data(gguf.quants.quantize(weight.float().contiguous().numpy(), kinds[meta]))
        writer.close()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def gguf_name(name: str) -> str:
    """GGUF's name of one of Meta's, such as blk.0.attn_q.weight of layers.0.attention.wq.weight."""
    inner, block = name.removesuffix(".weight"), ""
    if inner.startswith("layers."):
        _, number, inner = inner.split(".", 2)
        block = f"blk.{number}."
    return f"{block}{_NAMES[inner]}.weight"


def gguf_shape(weight: Tensor, kind) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and number type of a tensor as it stands in the file; Q8_0 and BF16 are bytes to numpy."""
    shape = tuple(weight.shape)
    if kind.name == "Q8_0":
        return (*shape[:-1], shape[-1] // 32 * 34), np.dtype(np.uint8)
    if kind.name == "BF16":
        return (*shape[:-1], 2 * shape[-1]), np.dtype(np.uint8)
    return shape, np.dtype(np.float32 if kind.name == "F32" else np.float16)


def _kind_of(name: str, weight: Tensor, kind: str) -> str:
    if weight.dim() == 1:
        return "F32"
    return "F16" if kind == "Q8_0" and weight.shape[1] % 32 else kind


def _add_tokenizer(writer, tokenizer: Tokenizer, chat: bool) -> None:
    """Pieces, scores and types; the numbering of the types is SentencePiece's."""
    pieces = tokenizer.vocabulary.pieces
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.text.encode() for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([piece.kind for piece in pieces])
    writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_unk_token_id(tokenizer.unk_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(tokenizer.vocabulary.add_dummy_prefix)
    if chat:
        writer.add_chat_template(CHAT_TEMPLATE)


def ollama_modelfile(weights: str, context: int, system: str = "", temperature: float = 0.6, top_p: float = 0.9) -> str:
    """The text of a Modelfile for a chat model: `ollama create mine -f Modelfile`, then `ollama run mine`.

    Args:
        weights: path of the GGUF file, relative to the Modelfile.
        context: the model's `max_seq_len`; Ollama's own default may be longer than a small model can read.
        system: a system message for all conversations.
        temperature, top_p: sampling; the defaults are the reference's.

    Raises:
        ValueError: if the system message or the path would end its line or its quotes.
    """
    if '"""' in system or "\n" in weights or not weights.strip():
        raise ValueError(f"a path of one line and no triple quotes, please; got {weights!r} and {system!r}")
    lines = [f"FROM {weights}", f'TEMPLATE """{OLLAMA_TEMPLATE}"""', f"PARAMETER num_ctx {context}"]
    lines += [f"PARAMETER temperature {temperature}", f"PARAMETER top_p {top_p}"]
    lines += [f'PARAMETER stop "{stop}"' for stop in (*STOPS, "</s>")]
    lines += [f'SYSTEM """{system}"""'] if system else []
    return "\n".join(lines) + "\n"
