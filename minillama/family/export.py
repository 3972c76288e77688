"""Our models in other people's formats: Hugging Face and llama2.c (chapter 21).

Reading a format is chapter 6; here are the same tables the other way round. What is written goes to a folder beside
the target first and is moved when it is complete. `minillama.family.gguf_file` writes the third format, GGUF.

Does: config, weights (q and k permuted), tokenizer, chat template and generation settings for `transformers`;
    version 0 files and `tokenizer.bin` for llama2.c.
Does not: shards, quantized weights, version 2 of llama2.c; upload anything.
Source: the formats as their public readers take them; chapter 6 has the tables.
"""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from minillama.family.tokenizer_json import tokenizer_json
from minillama.model.assembly import skeleton
from minillama.model.bpe import SPACE
from minillama.model.checkpoints import HF_TO_META, rotated_heads
from minillama.model.config import ModelConfig
from minillama.model.llama2c import _layout
from minillama.model.rope import permute_to_hf, rotation_table
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

# chapter 12's template; trim leaves U+2581 alone, and nothing here refuses a message with a tag, as `chat` does
CHAT_TEMPLATE = (
    "{% set turns = messages %}{% set system = '' %}"
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% if messages[0]['content'] | trim %}"
    "{% set system = '<<SYS>>\\n' + (messages[0]['content'] | trim) + '\\n<</SYS>>\\n\\n' %}{% endif %}{% endif %}"
    "{% for turn in turns %}{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns, and user begins') }}{% endif %}"
    "{% if turn['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + (turn['content'] | trim) + ' [/INST]' }}"
    "{% else %}{{ ' ' + (turn['content'] | trim) + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def float_weights(model: Llama, tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The weights under Meta's names, after a check that they can be exported at all.

    Raises:
        ValueError: if the model is a reward model or quantized, a value is not finite, or the tokenizer has another
            number of pieces.
    """
    config = model.config
    if config.n_outputs is not None:
        raise ValueError(f"n_outputs is {config.n_outputs}: a reward model has no next token; export a language model")
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the model {config.vocab_size} ids; they do not belong "
            "together: take the tokenizer that the model was trained with"
        )
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    expected = {name: tuple(tensor.shape) for name, tensor in skeleton(config).state_dict().items()}
    for name, shape in expected.items():
        weight = weights.get(name)
        if weight is None or not weight.is_floating_point() or tuple(weight.shape) != shape:
            raise ValueError(f"{name} is no float matrix of shape {shape}; export the model before it is quantized")
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity; a program that reads it would only print nonsense")
    return {name: weights[name] for name in expected}


@contextmanager
def finished_folder(folder: str | Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder whose files are moved to `folder` if nothing goes wrong meanwhile.

    Raises:
        FileExistsError: if `folder` is a file, or holds something and `overwrite` is not set. With `overwrite`, files
            of other names stay.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise FileExistsError(f"{folder} is not empty; name a new folder, or pass overwrite=True")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        folder.mkdir(exist_ok=True)
        for file in sorted(temporary.iterdir()):
            with open(file, "rb") as written:
                os.fsync(written.fileno())
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_hf(
    model: Llama,
    tokenizer: Tokenizer,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    chat: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a folder that `transformers` loads with `AutoModelForCausalLM` and `AutoTokenizer`.

    Its tokenizer takes "</s>" typed in a text for the control token, unless it is loaded or called with
    `split_special_tokens=True`; ours never does.

    Args:
        model, tokenizer: a pair that belongs together.
        folder: where the files go.
        dtype: of the weights; None keeps the model's.
        chat: also store Llama 2's chat template.
        overwrite: write into a folder that is not empty.

    Returns:
        The folder.

    Raises:
        ValueError: as `float_weights`.
        FileExistsError: as `finished_folder`.
    """
    weights, config = float_weights(model, tokenizer), model.config
    with finished_folder(folder, overwrite) as new:
        tensors = {}
        for name, weight in weights.items():
            tensors[hf_name(name)] = hf_order(config, name, weight).to(dtype).contiguous()
        save_file(tensors, new / "model.safetensors", {"format": "pt"})
        kind = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        _write_json(new / "config.json", hf_config(config, kind) | ids)
        sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}  # the reference's
        _write_json(new / "generation_config.json", {**ids, **sampling})
        tokenizer.save(new / "tokenizer.model")
        _write_json(new / "tokenizer.json", tokenizer_json(tokenizer))
        special = {"bos_token": "bos_id", "eos_token": "eos_id", "unk_token": "unk_id"}
        settings = {name: tokenizer.piece(getattr(tokenizer, number)) for name, number in special.items()}
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        settings |= {"model_max_length": config.max_seq_len} | ({"chat_template": CHAT_TEMPLATE} if chat else {})
        _write_json(new / "tokenizer_config.json", settings)
    return Path(folder)


def export_llama2c(model: Llama, tokenizer: Tokenizer, folder: str | Path, overwrite: bool = False) -> Path:
    """Write `model.bin` (version 0, float32) and `tokenizer.bin`, which llama2.c's `run` takes.

    Args:
        model, tokenizer: a pair that belongs together.
        folder: where the two files go.
        overwrite: write into a folder that is not empty.

    Returns:
        The folder.

    Raises:
        ValueError: as `float_weights`, or if the model or tokenizer differs from what the program has built in.
        FileExistsError: as `finished_folder`.
    """
    weights, config = float_weights(model, tokenizer), model.config
    built_in = {
        "norm_eps": (config.norm_eps, 1e-5),
        "rope_theta": (config.rope_theta, 10_000.0),
        "bos_id": (tokenizer.bos_id, 1),
        "eos_id": (tokenizer.eos_id, 2),
    }
    for name, (value, expected) in built_in.items():
        if value != expected:
            raise ValueError(f"{name} is {value}, and llama2.c has {expected} built in; export to GGUF instead")
    table = rotation_table(config.head_dim, torch.arange(config.max_seq_len))
    weights["rope.weight"] = torch.stack([table.real, table.imag])
    with finished_folder(folder, overwrite) as new:
        # a negative vocabulary size says that the head is a matrix of its own
        sizes = (config.dim, config.ffn_hidden, config.n_layers, config.n_heads, config.n_kv_heads)
        with open(new / "model.bin", "wb") as file:
            file.write(struct.pack("<7i", *sizes, -config.vocab_size, config.max_seq_len))
            for name, _ in _layout(config, 0, shared=False):
                file.write(weights[name].float().contiguous().numpy().astype("<f4", copy=False).tobytes())
        around = {tokenizer.bos_id, tokenizer.eos_id}  # the program prints these on lines of their own
        texts = [piece.text.replace(SPACE, " ") for piece in tokenizer.vocabulary.pieces]
        coded = [(f"\n{text}\n" if i in around else text).encode() for i, text in enumerate(texts)]
        with open(new / "tokenizer.bin", "wb") as file:
            file.write(struct.pack("<i", max(map(len, coded))))
            for piece, text in zip(tokenizer.vocabulary.pieces, coded, strict=True):
                file.write(struct.pack("<fi", piece.score, len(text)) + text)
    return Path(folder)


def hf_config(config: ModelConfig, dtype: str = "bfloat16") -> dict:
    """The content of `config.json`, for versions 4 and 5 of `transformers`; `dtype` is the weights'."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_hidden,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # transformers 4
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},  # transformers 5
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def hf_order(config: ModelConfig, name: str, weight: Tensor) -> Tensor:
    """The rows in Hugging Face's order; only wq and wk differ. `name` is Meta's."""
    heads = rotated_heads(config, name)
    return weight if heads is None else permute_to_hf(weight, heads)


def hf_name(name: str) -> str:
    """Hugging Face's name of one of Meta's."""
    theirs = {meta: hf for hf, meta in HF_TO_META.items()}
    layer, inner = name.removesuffix(".weight"), ""
    if layer.startswith("layers."):
        _, number, layer = layer.split(".", 2)
        inner = f"model.layers.{number}."
    return f"{inner}{theirs[layer]}.weight"


def _write_json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
