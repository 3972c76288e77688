"""Reading other people's weights and keeping our own (chapter 6).

Every format answers two questions, "which numbers describe the model?" and "which tensor is which?"; each reader here
turns the answers into a `ModelConfig` and Meta's names, and `minillama.model.assembly` does the rest.

Does: Meta's params.json + consolidated.NN.pth in any number of shards; Hugging Face's config.json + safetensors, single
    or sharded, with the q/k rows put back in Meta's order; llama2.c (`minillama.model.llama2c`); safetensors of our
    own, written atomically. Missing, surplus, misshapen, truncated, non-finite: a `CheckpointError` that says where.
Does not: quantized or pickled Hugging Face weights; writing other people's formats.
Source: names, shard axes and the permutation are facts read from the public converters; chapter 6 has the tables.
"""

import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minillama.model.assembly import CheckpointError, Piece, assemble, build_config, read_json
from minillama.model.config import ModelConfig
from minillama.model.llama2c import load_llama2c
from minillama.model.rope import permute_to_meta
from minillama.model.transformer import Llama

__all__ = ["CheckpointError", "load_hf", "load_llama2c", "load_meta", "load_safetensors", "save_safetensors"]

HF_TO_META = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def load_meta(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    max_seq_len: int | None = None,
    check_finite: bool = True,
) -> Llama:
    """Read Meta's own format: `params.json` and `consolidated.00.pth`, `consolidated.01.pth`, ...

    Args:
        folder: folder with both; the shards of a model-parallel checkpoint are joined along Meta's axes.
        dtype: convert to this type; None keeps the file's, and then a single shard stays mapped, not copied.
        device: where the weights go.
        max_seq_len: context length; the format does not record it, and None means the config's default.
        check_finite: look for NaN and infinity, which reads every weight once.

    Returns:
        The model, in evaluation mode. A mapped file must stay in place while the model lives.

    Raises:
        CheckpointError: if a file, key, shape, type or value is not what the format and params.json call for.
    """
    folder = Path(folder)
    config, pieces = read_meta(folder, max_seq_len)
    return assemble(folder, config, pieces, dtype, device, check_finite)


def read_meta(folder: Path, max_seq_len: int | None = None) -> tuple[ModelConfig, dict[str, list[Piece]]]:
    """Config and mapped tensors, by Meta's names, of a folder in Meta's format; arguments and errors of `load_meta`."""
    params = read_json(folder / "params.json")
    files = sorted(folder.glob("consolidated.*.pth"))
    numbered = [f"consolidated.{number:02d}.pth" for number in range(max(len(files), 1))]
    if [file.name for file in files] != numbered:
        raise CheckpointError(f"{folder}: found {[file.name for file in files]}, expected {numbered}; fetch all files")
    pieces: dict[str, list[Piece]] = {}
    for file in files:
        for key, data in _read_pickled(file).items():
            if key != "rope.freqs":  # a table that the model computes itself
                pieces.setdefault(key, []).append(Piece(file, key, data))
    for key, found in pieces.items():
        if len(found) != len(files):
            raise CheckpointError(
                f"{folder}: {key!r} is in {len(found)} files, expected all {len(files)}; fetch them again"
            )
    vocab_size = None
    if params.get("vocab_size", -1) == -1 and "tok_embeddings.weight" in pieces:
        # Meta leaves the number to the tokenizer, but the embedding (cut along its width) has that many rows
        vocab_size = pieces["tok_embeddings.weight"][0].data.shape[0]
    config = build_config(folder / "params.json", lambda: ModelConfig.from_params_json(params, vocab_size, max_seq_len))
    return config, pieces


def load_hf(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    max_seq_len: int | None = None,
    check_finite: bool = True,
) -> Llama:
    """Read a Hugging Face folder: `config.json` and `model.safetensors`, or shards with an index.

    The rows of q_proj and k_proj go back into Meta's adjacent-pair order (chapter 4); a tied head becomes a copy.

    Args:
        folder: folder with the files.
        dtype: convert to this type; None keeps the file's. All but the permuted q and k then stay mapped.
        device: where the weights go.
        max_seq_len: context length; None takes `max_position_embeddings`.
        check_finite: look for NaN and infinity, which reads every weight once.

    Returns:
        The model, in evaluation mode. A mapped file must stay in place while the model lives.

    Raises:
        CheckpointError: if files are damaged or incomplete, or describe something other than Llama 1, 2 or Code Llama.
    """
    folder = Path(folder)
    config, pieces = read_hf(folder, max_seq_len)
    head = pieces.get("output.weight")
    if head and head[0].key == "model.embed_tokens.weight":  # tied: the model has two matrices, so it needs a copy
        pieces["output.weight"] = [head[0]._replace(data=head[0].data.clone())]

    def undo_permutation(name: str, weight: Tensor) -> Tensor:
        heads = rotated_heads(config, name)
        return weight if heads is None else permute_to_meta(weight, heads)

    return assemble(folder, config, pieces, dtype, device, check_finite, undo_permutation)


def read_hf(folder: Path, max_seq_len: int | None = None) -> tuple[ModelConfig, dict[str, list[Piece]]]:
    """Config and mapped tensors of a Hugging Face folder; arguments and errors of `load_hf`.

    Names are Meta's, but the rows of wq and wk still stand in Hugging Face's order. With a tied head, "output.weight"
    is the embedding's piece.
    """
    described = read_json(folder / "config.json")
    config = build_config(folder / "config.json", lambda: _config_from_hf(described, max_seq_len))

    index = folder / "model.safetensors.index.json"
    listed = read_json(index).get("weight_map", {}) if index.exists() else {}
    found: dict[str, Piece] = {}
    for name in sorted(set(listed.values()), key=str) or ["model.safetensors"]:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name:
            raise CheckpointError(
                f"{index}: names the file {name!r}, expected a plain name in this folder; do not use this checkpoint"
            )
        tensors, _ = _read_safetensors(folder / name)
        found |= {key: Piece(folder / name, key, data) for key, data in tensors.items()}
    for key, name in listed.items():
        if key not in found:
            raise CheckpointError(
                f"{folder / name}: no tensor {key!r}, but {index.name} lists it there; fetch both again"
            )

    pieces = {}
    for key, piece in found.items():
        if not key.endswith("rotary_emb.inv_freq"):  # a table that the model computes itself
            pieces[_meta_name(key)] = [piece]
    if described.get("tie_word_embeddings", False) and "tok_embeddings.weight" in pieces:
        pieces["output.weight"] = pieces["tok_embeddings.weight"]
    return config, pieces


def rotated_heads(config: ModelConfig, name: str) -> int | None:
    """Number of heads of a matrix whose rows Hugging Face stores in another order, wq and wk; None for all others."""
    return {"wq": config.n_heads, "wk": config.n_kv_heads}.get(name.split(".")[-2])


def load_safetensors(
    path: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    check_finite: bool = True,
) -> Llama:
    """Read a file written by `save_safetensors`. Arguments and errors are those of `load_hf`.

    Raises:
        CheckpointError: if the file is damaged, lacks our metadata, or its tensors do not fit its config.
    """
    path = Path(path)
    tensors, metadata = _read_safetensors(path)
    if "minillama_config" not in metadata:
        raise CheckpointError(
            f"{path}: metadata {sorted(metadata)} lack 'minillama_config'; use load_hf for its folder"
        )
    config = build_config(path, lambda: ModelConfig(**json.loads(metadata["minillama_config"])))
    return assemble(
        path, config, {key: [Piece(path, key, data)] for key, data in tensors.items()}, dtype, device, check_finite
    )


def save_safetensors(model: Llama, path: str | Path) -> None:
    """Write weights under Meta's names, with the config as JSON in the file's metadata: all or nothing.

    The bytes go to a temporary file beside the target, are forced to the disk and then renamed over it, so that a
    crash leaves the old file or the new one, never half of one.

    Args:
        model: the model to keep.
        path: the target, by custom ending in `.safetensors`; an existing file is replaced.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": "pt", "minillama_config": json.dumps(dataclasses.asdict(model.config))}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        permissions = temporary.stat().st_mode  # what the user's umask gives; save_file makes private files
        save_file(tensors, temporary, metadata)
        temporary.chmod(permissions)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_pickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pth file, mapped; `weights_only` refuses a pickle that would run code."""
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file}: truncated, or more than tensors ({reason}); fetch it again") from error
    if not isinstance(tensors, dict):
        raise CheckpointError(
            f"{file}: holds a {type(tensors).__name__}, expected a dict of tensors; it is no weight file"
        )
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{file}: {key!r} is a {type(value).__name__}, expected a tensor; it is no weight file"
            )
    return tensors


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (mapped) and metadata of a safetensors file."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: missing, truncated or not safetensors ({error}); fetch it again") from error


def _meta_name(key: str) -> str:
    """Meta's name of a Hugging Face tensor; unknown names come back as they are, for `assemble` to report."""
    layer, name = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.+?)(?:\.weight)?", key).groups()
    if name not in HF_TO_META or not key.endswith(".weight"):
        return key
    return f"{'' if layer is None else f'layers.{layer}.'}{HF_TO_META[name]}.weight"


def _config_from_hf(described: dict, max_seq_len: int | None) -> ModelConfig:
    """Translate config.json; refuse what would change the computation."""
    rope = described.get("rope_parameters") or {}  # transformers 5; version 4 has rope_theta and rope_scaling
    scaling = described.get("rope_scaling") or {}
    required = {
        "model_type": (described.get("model_type", "llama"), "llama"),
        "hidden_act": (described.get("hidden_act", "silu"), "silu"),
        "attention_bias": (described.get("attention_bias", False), False),
        "mlp_bias": (described.get("mlp_bias", False), False),
        "rope_type": (rope.get("rope_type", scaling.get("rope_type", scaling.get("type", "default"))), "default"),
    }
    for key, (value, expected) in required.items():
        if value != expected:
            raise ValueError(f"{key} is {value!r}, expected {expected!r}; this loader reads the Llama 2 family only")
    try:
        dim, n_heads = described["hidden_size"], described["num_attention_heads"]
        config = ModelConfig(
            dim=dim,
            n_layers=described["num_hidden_layers"],
            n_heads=n_heads,
            n_kv_heads=described.get("num_key_value_heads"),
            vocab_size=described["vocab_size"],
            norm_eps=described.get("rms_norm_eps", 1e-6),  # Hugging Face's default, not Meta's
            rope_theta=float(rope.get("rope_theta", described.get("rope_theta", 10_000.0))),
            max_seq_len=max_seq_len or described.get("max_position_embeddings", 2048),
            hidden_dim=described["intermediate_size"],
        )
    except KeyError as error:
        raise ValueError(f"no key {error}, expected the config.json of a LlamaForCausalLM") from error
    if described.get("head_dim") not in (None, config.head_dim):
        raise ValueError(f"head_dim is {described['head_dim']}, expected hidden_size / heads = {config.head_dim}")
    return config
