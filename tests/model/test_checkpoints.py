"""Every format read back exactly, and every kind of damage named in a clear error."""

import dataclasses
import json
import os
import re
import stat
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

import minillama.model.checkpoints as checkpoints
from minillama.model.assembly import skeleton
from minillama.model.checkpoints import (
    CheckpointError,
    load_hf,
    load_llama2c,
    load_meta,
    load_safetensors,
    save_safetensors,
)
from minillama.model.config import ModelConfig
from minillama.model.llama2c import load_llama2c as load_llama2c_at_home
from minillama.model.rope import permute_to_hf
from minillama.model.transformer import Llama

# every size that is cut is a multiple of 8, and no two axes have the same length
CONFIG = ModelConfig(dim=64, n_layers=2, n_heads=16, n_kv_heads=8, vocab_size=40, multiple_of=32, max_seq_len=48)
TOKENS = torch.arange(10).view(2, 5)
# axis of the cut by the last part of the name but one, as the published converters have it; None: in every file
AXES = {"tok_embeddings": 1, "wq": 0, "wk": 0, "wv": 0, "wo": 1, "w1": 0, "w2": 1, "w3": 0, "output": 0,
        "attention_norm": None, "ffn_norm": None, "norm": None}  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Llama(CONFIG, seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def write_meta(folder, model, shards=1, **params):
    names = ("dim", "n_layers", "n_heads", "n_kv_heads", "multiple_of", "norm_eps")
    content = {name: getattr(model.config, name) for name in names} | {"vocab_size": -1} | params
    (folder / "params.json").write_text(json.dumps(content))
    parts = [{"rope.freqs": torch.rand(model.config.head_dim // 2)} for _ in range(shards)]
    for name, tensor in model.state_dict().items():
        axis = AXES[name.split(".")[-2]]
        cut = [tensor] * shards if axis is None else tensor.chunk(shards, dim=axis)
        for part, piece in zip(parts, cut, strict=True):
            part[name] = piece.clone()
    for number, part in enumerate(parts):
        torch.save(part, folder / f"consolidated.{number:02d}.pth")


def hf_tensors(model):
    swaps = [("attention.wq", "self_attn.q_proj"), ("attention.wk", "self_attn.k_proj"), ("tok_emb", "embed_tokens"),
             ("attention.wv", "self_attn.v_proj"), ("attention.wo", "self_attn.o_proj"),
             ("feed_forward.w1", "mlp.gate_proj"), ("feed_forward.w2", "mlp.down_proj"),
             ("feed_forward.w3", "mlp.up_proj"), ("attention_norm", "input_layernorm"), ("eddings", ""),
             ("ffn_norm", "post_attention_layernorm")]  # fmt: skip
    tensors = {}
    for name, tensor in model.state_dict().items():
        heads = {"wq": CONFIG.n_heads, "wk": CONFIG.n_kv_heads}.get(name.split(".")[-2])
        tensor = tensor if heads is None else permute_to_hf(tensor, heads)
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        tensors["lm_head.weight" if name == "output.weight" else f"model.{name}"] = tensor.contiguous()
    return tensors


def hf_config(config, **changes):
    return {"model_type": "llama", "hidden_size": config.dim, "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads, "num_key_value_heads": config.n_kv_heads, "hidden_act": "silu",
            "vocab_size": config.vocab_size, "intermediate_size": config.ffn_hidden, "rms_norm_eps": config.norm_eps,
            "max_position_embeddings": config.max_seq_len} | changes  # fmt: skip


def write_hf(folder, model, **changes):
    (folder / "config.json").write_text(json.dumps(hf_config(model.config, **changes)))
    save_file(hf_tensors(model), folder / "model.safetensors", {"format": "pt"})


def write_llama2c(path, model, version, shared):
    """Written from the description of the format, one `write` per line of it."""
    c, weights = model.config, model.state_dict()
    sizes = [c.dim, c.ffn_hidden, c.n_layers, c.n_heads, c.n_kv_heads, c.vocab_size, c.max_seq_len]
    with open(path, "wb") as file:

        def write(name):
            file.write(weights[f"{name}.weight"].numpy().astype("<f4").tobytes())

        def write_layers(part):
            for layer in range(c.n_layers):
                write(f"layers.{layer}.{part}")

        matrices = ["attention.wq", "attention.wk", "attention.wv", "attention.wo"]
        if version == 0:
            sizes[5] *= 1 if shared else -1
            file.write(struct.pack("<7i", *sizes))
            write("tok_embeddings")
            for part in [
                "attention_norm",
                *matrices,
                "ffn_norm",
                "feed_forward.w1",
                "feed_forward.w2",
                "feed_forward.w3",
            ]:
                write_layers(part)
            write("norm")
            file.write(torch.full((c.max_seq_len, c.head_dim), 7.0).numpy().tobytes())  # tables nobody reads
        else:
            file.write(struct.pack("<Ii7iB", 0x616B3432, version, *sizes, shared).ljust(256, b"\0"))
            write_layers("attention_norm")
            write_layers("ffn_norm")
            write("norm")
            write("tok_embeddings")
            for part in [*matrices, "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"]:
                write_layers(part)
        if not shared:
            write("output")


def assert_same_model(loaded, model):
    assert set(loaded.state_dict()) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS), model(TOKENS))


# ---- what must load ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_meta_files(model, tmp_path, shards):
    write_meta(tmp_path, model, shards)
    assert_same_model(load_meta(tmp_path), model)


def test_meta_config_comes_from_params_and_the_embedding(model, tmp_path):
    write_meta(tmp_path, model, 2, rope_theta=1e6, norm_eps=1e-6)
    config = load_meta(tmp_path, max_seq_len=99).config
    assert (config.vocab_size, config.rope_theta, config.norm_eps, config.max_seq_len) == (40, 1e6, 1e-6, 99)


def test_hf_single_file_and_both_spellings_of_theta(model, tmp_path):
    write_hf(tmp_path, model)
    assert_same_model(load_hf(tmp_path), model)
    for spelling in ({"rope_theta": 1e6}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}):
        write_hf(tmp_path, model, **spelling)
        assert load_hf(tmp_path).config.rope_theta == 1e6
    write_hf(tmp_path, model, rope_scaling=None, head_dim=4, attention_bias=False)
    assert_same_model(load_hf(tmp_path), model)


def test_hf_old_files_carry_a_rotary_table_that_is_ignored(model, tmp_path):
    write_hf(tmp_path, model)
    tensors = hf_tensors(model) | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.rand(2) for i in range(2)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_model(load_hf(tmp_path), model)


def test_hf_shards(model, tmp_path):
    write_hf_shards(tmp_path, model)
    assert_same_model(load_hf(tmp_path), model)


def write_hf_shards(folder, model):
    write_hf(folder, model)
    (folder / "model.safetensors").unlink()
    tensors = hf_tensors(model)
    names = {key: f"model-0000{i % 3 + 1}-of-00003.safetensors" for i, key in enumerate(tensors)}
    for file in set(names.values()):
        save_file({key: tensors[key] for key in tensors if names[key] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_hf_tied_head_becomes_a_copy(model, tmp_path):
    with torch.no_grad():
        model.output.weight.copy_(model.tok_embeddings.weight)
    write_hf(tmp_path, model, tie_word_embeddings=True)
    tensors = hf_tensors(model)
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load_hf(tmp_path)
    assert_same_model(loaded, model)
    assert loaded.output.weight.data_ptr() != loaded.tok_embeddings.weight.data_ptr()


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own head"])
def test_llama2c_files(model, tmp_path, version, shared):
    if shared:
        with torch.no_grad():
            model.output.weight.copy_(model.tok_embeddings.weight)
    write_llama2c(tmp_path / "model.bin", model, version, shared)
    loaded = load_llama2c(tmp_path / "model.bin")
    assert_same_model(loaded, model)
    assert (loaded.config.norm_eps, loaded.config.rope_theta, loaded.config.max_seq_len) == (1e-5, 1e4, 48)
    assert loaded.output.weight.data_ptr() != loaded.tok_embeddings.weight.data_ptr()


def test_our_own_format_keeps_weights_and_config(model, tmp_path):
    model.config = dataclasses.replace(CONFIG, rope_theta=1e6, norm_eps=1e-6)
    save_safetensors(model, tmp_path / "model.safetensors")
    loaded = load_safetensors(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())  # readable without us


LOADERS = {
    "meta": (lambda folder, model: write_meta(folder, model), load_meta, ""),
    "hf": (lambda folder, model: write_hf(folder, model), load_hf, ""),
    "llama2c": (lambda folder, model: write_llama2c(folder / "m.bin", model, 1, False), load_llama2c, "m.bin"),
    "own": (lambda folder, model: save_safetensors(model, folder / "m.safetensors"), load_safetensors, "m.safetensors"),
}


@pytest.mark.parametrize("name", LOADERS)
def test_dtype_is_converted_on_request(model, tmp_path, name):
    write, load, file = LOADERS[name]
    write(tmp_path, model)
    assert {p.dtype for p in load(tmp_path / file).parameters()} == {torch.float32}
    loaded = load(tmp_path / file, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded(TOKENS).dtype == torch.float32


@pytest.mark.parametrize("name", LOADERS)
def test_training_a_loaded_model_leaves_the_file_alone(model, tmp_path, name):
    write, load, file = LOADERS[name]
    write(tmp_path, model)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    loaded = load(tmp_path / file)
    loaded(TOKENS).sum().backward()
    with torch.no_grad():
        for parameter in loaded.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert not torch.equal(loaded.output.weight, model.output.weight)


def test_half_precision_files_stay_half(model, tmp_path):
    write_meta(tmp_path, model.half(), 2)
    assert {p.dtype for p in load_meta(tmp_path).parameters()} == {torch.float16}


# ---- saving ------------------------------------------------------------------------------------------------------


def test_saving_replaces_atomically(model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_safetensors(model, path)
    original = path.read_bytes()

    def torn_write(tensors, file, metadata):
        file.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_file", torn_write)
    with pytest.raises(OSError, match="no space"):
        save_safetensors(model, path)
    assert path.read_bytes() == original
    assert os.listdir(tmp_path) == ["model.safetensors"]  # nothing left behind


def test_saved_files_have_the_usual_permissions(model, tmp_path):
    (tmp_path / "other").touch()
    save_safetensors(model, tmp_path / "m")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_loaded_model_can_be_saved_over_its_own_file(model, tmp_path):
    save_safetensors(model, tmp_path / "m")
    save_safetensors(load_safetensors(tmp_path / "m"), tmp_path / "m")
    assert_same_model(load_safetensors(tmp_path / "m"), model)


def test_a_model_with_another_head_comes_back_with_it(tmp_path):
    scorer = Llama(dataclasses.replace(CONFIG, n_outputs=1), seed=1).eval()
    assert scorer.output.weight.shape == (1, CONFIG.dim) and scorer(TOKENS).shape == (2, 5, 1)
    save_safetensors(scorer, tmp_path / "m")
    loaded = load_safetensors(tmp_path / "m")
    assert loaded.config == scorer.config and (loaded(TOKENS) - scorer(TOKENS)).abs().max() < 1e-6
    for name, value in scorer.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert sum(p.numel() for p in scorer.parameters()) == scorer.config.n_parameters()


# ---- what must not load: each message names the file, the key, what was found and what was expected ----------------


def refuses(load, path, *parts, **arguments):
    with pytest.raises(CheckpointError) as caught:
        load(path, **arguments)
    for part in parts:
        assert part in str(caught.value), f"{part!r} not in: {caught.value}"


def rewrite_meta(folder, change, number=0):
    file = folder / f"consolidated.{number:02d}.pth"
    shard = torch.load(file)
    change(shard)
    torch.save(shard, file)


def test_meta_missing_key(model, tmp_path):
    write_meta(tmp_path, model)
    rewrite_meta(tmp_path, lambda shard: shard.pop("layers.1.attention.wk.weight"))
    refuses(load_meta, tmp_path, str(tmp_path), "1 of 21", "layers.1.attention.wk.weight", "missing")


def test_meta_key_missing_from_one_shard(model, tmp_path):
    write_meta(tmp_path, model, 2)
    rewrite_meta(tmp_path, lambda shard: shard.pop("norm.weight"), 1)
    refuses(load_meta, tmp_path, "norm.weight", "1 files", "all 2")


def test_meta_surplus_key(model, tmp_path):
    write_meta(tmp_path, model)
    rewrite_meta(tmp_path, lambda shard: shard.update({"layers.0.attention.bias": torch.zeros(2)}))
    refuses(load_meta, tmp_path, "consolidated.00.pth", "layers.0.attention.bias", "no place")


def test_meta_more_layers_in_the_file_than_in_the_params(model, tmp_path):
    write_meta(tmp_path, model, n_layers=1)
    refuses(load_meta, tmp_path, "consolidated.00.pth", "9 tensors", "layers.1.", "1-layer")


@pytest.mark.parametrize("shards", [1, 2])
def test_meta_wrong_shape(model, tmp_path, shards):
    write_meta(tmp_path, model, shards)
    rewrite_meta(
        tmp_path, lambda shard: shard.update({"layers.0.feed_forward.w2.weight": torch.zeros(64, 3)}), shards - 1
    )
    expected = str((64, CONFIG.ffn_hidden // shards))
    refuses(
        load_meta, tmp_path, f"consolidated.0{shards - 1}.pth", "layers.0.feed_forward.w2.weight", "(64, 3)", expected
    )


def test_meta_shards_cut_along_the_wrong_axis(model, tmp_path):
    write_meta(tmp_path, model, 2)
    rewrite_meta(tmp_path, lambda shard: shard.update({"layers.0.attention.wo.weight": torch.zeros(32, 64)}))
    refuses(load_meta, tmp_path, "consolidated.00.pth", "wo.weight", "(32, 64)", "(64, 32)")


def test_meta_missing_shard(model, tmp_path):
    write_meta(tmp_path, model, 8)
    (tmp_path / "consolidated.03.pth").unlink()
    refuses(load_meta, tmp_path, "consolidated.04.pth", "expected", "consolidated.03.pth")


def test_meta_last_shard_missing(model, tmp_path):
    write_meta(tmp_path, model, 8)
    (tmp_path / "consolidated.07.pth").unlink()
    refuses(load_meta, tmp_path, "shards")


def test_meta_shards_of_two_models(model, tmp_path):
    write_meta(tmp_path, model, 2)
    rewrite_meta(tmp_path, lambda shard: shard["norm.weight"].mul_(2), 1)
    refuses(load_meta, tmp_path, "consolidated.01.pth", "norm.weight", "consolidated.00.pth")


def test_meta_no_weights_no_params(model, tmp_path):
    refuses(load_meta, tmp_path, "params.json", "No such file")
    (tmp_path / "params.json").write_text(json.dumps(CONFIG.to_params_json()))
    refuses(load_meta, tmp_path, "consolidated.00.pth")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_meta_truncated_file(model, tmp_path, keep):
    write_meta(tmp_path, model)
    truncate(tmp_path / "consolidated.00.pth", keep)
    refuses(load_meta, tmp_path, "consolidated.00.pth", "truncated")


def truncate(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])


class Payload:
    """Unpickling this object would create the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_meta_file_with_code_is_refused_and_not_run(model, tmp_path):
    write_meta(tmp_path, model)
    rewrite_meta(tmp_path, lambda shard: shard.update({"extra": Payload(str(tmp_path / "ran"))}))
    refuses(load_meta, tmp_path, "consolidated.00.pth", "more than tensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"norm.weight": "text"}, {"model": {"norm.weight": 1}}])
def test_meta_file_without_tensors(model, tmp_path, content):
    write_meta(tmp_path, model)
    torch.save(content, tmp_path / "consolidated.00.pth")
    refuses(load_meta, tmp_path, "consolidated.00.pth", "expected a")


def test_meta_unknown_params_key(model, tmp_path):
    write_meta(tmp_path, model, use_scaled_rope=True)
    refuses(load_meta, tmp_path, "params.json", "use_scaled_rope")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"dim": 64}', '{"dim": "a", "n_layers": 1, "n_heads": 2}'])
def test_meta_bad_params(model, tmp_path, text):
    write_meta(tmp_path, model)
    (tmp_path / "params.json").write_text(text)
    refuses(load_meta, tmp_path, "params.json")


def test_hf_missing_and_surplus_keys(model, tmp_path):
    write_hf(tmp_path, model)
    tensors = hf_tensors(model)
    save_file({k: v for k, v in tensors.items() if "layers.0.mlp.up" not in k}, tmp_path / "model.safetensors")
    refuses(load_hf, tmp_path, "layers.0.feed_forward.w3.weight", "missing")
    for key in ("model.layers.0.self_attn.q_proj.bias", "model.layers.0", "model.layers.0.weight", "score.weight"):
        save_file(tensors | {key: torch.zeros(64)}, tmp_path / "model.safetensors")
        refuses(load_hf, tmp_path, "model.safetensors", f"{key!r}", "no place")


def test_hf_wrong_shape_is_found_before_the_permutation(model, tmp_path):
    write_hf(tmp_path, model)
    key = "model.layers.1.self_attn.k_proj.weight"
    save_file(hf_tensors(model) | {key: torch.zeros(31, 64)}, tmp_path / "model.safetensors")
    refuses(load_hf, tmp_path, "model.safetensors", key, "(31, 64)", "(32, 64)")


@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
def test_hf_truncated_file(model, tmp_path, keep):
    write_hf(tmp_path, model)
    truncate(tmp_path / "model.safetensors", keep)
    refuses(load_hf, tmp_path, "model.safetensors", "truncated")


def test_hf_no_files(model, tmp_path):
    refuses(load_hf, tmp_path, "config.json")
    write_hf(tmp_path, model)
    (tmp_path / "model.safetensors").unlink()
    refuses(load_hf, tmp_path, "model.safetensors", "missing")


def test_hf_shard_missing_or_lacking_a_tensor(model, tmp_path):
    write_hf_shards(tmp_path, model)
    shard = tmp_path / "model-00002-of-00003.safetensors"
    tensors = load_file(shard)
    key = sorted(tensors)[0]
    del tensors[key]
    save_file(tensors, shard)
    refuses(load_hf, tmp_path, shard.name, key, "index.json")
    shard.unlink()
    refuses(load_hf, tmp_path, shard.name, "missing")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_bias", True),
        ("mlp_bias", True),
        ("hidden_act", "gelu"),
        ("model_type", "mistral"),
        ("head_dim", 8),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}),
        ("rope_parameters", [1]),
        ("num_attention_heads", 7),
        ("vocab_size", None),
    ],
)
def test_hf_config_of_another_model(model, tmp_path, key, value):
    write_hf(tmp_path, model, **{key: value})
    refuses(load_hf, tmp_path, "config.json", "describes no model of this family")


def test_hf_config_lacks_a_key(model, tmp_path):
    write_hf(tmp_path, model)
    config = hf_config(CONFIG)
    del config["intermediate_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    refuses(load_hf, tmp_path, "config.json", "intermediate_size")


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("keep", [0, 20, 200, 0.5, 0.999])
def test_llama2c_truncated_file(model, tmp_path, version, keep):
    path = tmp_path / "model.bin"
    write_llama2c(path, model, version, False)
    truncate(path, keep)
    refuses(load_llama2c, path, "model.bin", "bytes", "expected")


def test_llama2c_file_with_bytes_to_spare(model, tmp_path):
    path = tmp_path / "model.bin"
    write_llama2c(path, model, 1, False)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    refuses(load_llama2c, path, f"{size + 4:,} bytes", f"expected {size:,}")


def test_llama2c_other_versions_and_other_files(model, tmp_path):
    path = tmp_path / "model.bin"
    for version, words in ((2, "int8"), (3, "version 3")):
        write_llama2c(path, model, version, False)
        refuses(load_llama2c, path, "model.bin", words, "expected")
    path.write_bytes(bytes(1000))
    refuses(load_llama2c, path, "model.bin", "positive whole number, got 0")
    path.write_bytes(b"#!/usr/bin/env python3\n" * 100)
    refuses(load_llama2c, path, "model.bin")
    refuses(load_llama2c, tmp_path / "absent.bin", "absent.bin", "No such file")


def test_own_format_without_or_with_a_wrong_config(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_file(model.state_dict(), path)
    refuses(load_safetensors, path, "m.safetensors", "minillama_config", "load_hf")
    for text in ("{", '{"dims": 64}', json.dumps(dataclasses.asdict(CONFIG) | {"n_heads": 7})):
        save_file(model.state_dict(), path, {"minillama_config": text})
        refuses(load_safetensors, path, "m.safetensors", "describes no model")
    save_file(
        model.state_dict(), path, {"minillama_config": json.dumps(dataclasses.asdict(CONFIG) | {"vocab_size": 41})}
    )
    refuses(load_safetensors, path, "m.safetensors", "tok_embeddings.weight", "(40, 64)", "(41, 64)")
    truncate(path, 0.9)
    refuses(load_safetensors, path, "m.safetensors", "truncated")


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values(model, tmp_path, name, value):
    write, load, file = LOADERS[name]
    with torch.no_grad():
        model.layers[1].feed_forward.w2.weight[3, 4] = value
    write(tmp_path, model)
    names = {"hf": "model.layers.1.mlp.down_proj.weight"}
    refuses(load, tmp_path / file, names.get(name, "layers.1.feed_forward.w2.weight"), "1 values", "NaN or infinite")
    loaded = load(tmp_path / file, check_finite=False)
    assert (~loaded.layers[1].feed_forward.w2.weight.isfinite()).sum() == 1


def test_non_finite_norm_loads_on_request(model, tmp_path):
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    write_meta(tmp_path, model)
    load_meta(tmp_path, check_finite=False)


def test_wrong_number_types(model, tmp_path):
    write_meta(tmp_path, model)
    rewrite_meta(tmp_path, lambda s: s.update({"output.weight": torch.zeros(40, 64, dtype=torch.int8)}))
    refuses(load_meta, tmp_path, "consolidated.00.pth", "output.weight", "torch.int8", "torch.float16")
    rewrite_meta(tmp_path, lambda s: s.update({"output.weight": torch.zeros(40, 64, dtype=torch.float16)}))
    refuses(load_meta, tmp_path, str(tmp_path), "torch.float16", "torch.float32", "dtype=")
    assert {p.dtype for p in load_meta(tmp_path, dtype=torch.float32).parameters()} == {torch.float32}


def test_error_is_a_value_error_and_llama2c_has_one_home():
    assert issubclass(CheckpointError, ValueError)
    assert load_llama2c is load_llama2c_at_home


# ---- memory ------------------------------------------------------------------------------------------------------


def test_a_mapped_checkpoint_is_not_copied(tmp_path):
    """Loading 64 MiB without the finite check may not add 64 MiB of the process's own memory."""
    config = ModelConfig(dim=512, n_layers=1, n_heads=8, vocab_size=13_000, max_seq_len=32)
    big = Llama(config).eval()
    write_meta(tmp_path, big)
    save_safetensors(big, tmp_path / "own.safetensors")
    size = sum(parameter.numel() * 4 for parameter in big.parameters())
    assert size > 60e6
    del big
    skeleton(CONFIG)  # the first use of the meta device imports 70 MB of torch
    kept = []
    for load in (lambda: load_meta(tmp_path, check_finite=False),
                 lambda: load_safetensors(tmp_path / "own.safetensors", check_finite=False)):  # fmt: skip
        before = own_memory()
        kept.append(load())
        assert own_memory() - before < size / 4
        assert kept[-1].output.weight.sum().isfinite()


def own_memory():
    """Resident bytes that are no file's pages (Linux); elsewhere the test has nothing to measure with."""
    try:
        text = open("/proc/self/smaps_rollup").read()
    except OSError:
        pytest.skip("needs /proc/self/smaps_rollup")
    return 1024 * int(re.search(r"^Anonymous:\s+(\d+)", text, re.MULTILINE).group(1))
