"""Real formats, all precisions, small models: equal to the plain loaders, nothing copied, damage named.

float32 layers on the same numbers differ by rounding only: 1e-5. In bfloat16 a mapped whole matrix gives the very same
numbers; a cut one adds in another order, so logits of size 3 may differ by a few hundredths.
"""

import json
import pickle
from pathlib import Path

import pytest
import torch
from llama2_vocabulary import llama2_vocabulary
from safetensors.torch import load_file, save_file
from torch import nn

from minillama.family import estimate, loading, standins
from minillama.family.loading import differences_from_llama2, fingerprint, load, load_tokenizer, open_checkpoint
from minillama.family.mapped import HalfSplitLinear, PiecesEmbedding, PiecesLinear
from minillama.family.quantization import Int4Linear, Int8Linear, quantize
from minillama.model.assembly import CheckpointError
from minillama.model.checkpoints import load_hf, load_meta, save_safetensors
from minillama.model.config import ModelConfig
from minillama.model.generation import generate
from minillama.model.rope import permute_to_hf
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.paths import data_path

# no two axes have the same length, heads share keys, everything that is cut is a multiple of 8
CONFIG = ModelConfig(dim=64, n_layers=2, n_heads=16, n_kv_heads=8, vocab_size=2048, multiple_of=96, max_seq_len=96)
TOKENS = torch.arange(3, 23).view(2, 10)
TOKENIZER = data_path("tokenizer.model")


@pytest.fixture(scope="module")
def model() -> Llama:
    model = Llama(CONFIG, seed=3).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.bfloat16()


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    made = {f"meta{n}": standins.write_meta(model, TOKENIZER, root / f"meta{n}", n) for n in (1, 2, 8)}
    return made | {f"hf{n}": standins.write_hf(model, TOKENIZER, root / f"hf{n}", n) for n in (1, 2)}


FOLDERS = ["meta1", "meta2", "meta8", "hf1", "hf2"]


def logits(model: Llama) -> torch.Tensor:
    with torch.inference_mode():
        return model(TOKENS)


@pytest.fixture
def copied(folders, tmp_path):
    """A folder that a test may damage."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in folders[name].iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    return copy


# ---- what must load ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDERS)
def test_mapped_weights_are_those_of_the_files_in_metas_order(name, folders, model):
    loaded = load(folders[name])
    assert set(loaded.state_dict()) == set(model.state_dict())
    for key, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], weight), key
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("name", FOLDERS)
def test_mapped_models_compute_what_plain_ones_do(name, folders, model):
    got, expected = logits(load(folders[name], max_seq_len=96)), logits(model)
    if name in ("meta1", "hf1", "hf2"):
        assert torch.equal(got, expected)
    else:
        torch.testing.assert_close(got, expected, rtol=0, atol=0.1)
        assert (got - expected).abs().mean() < 0.01


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_conversion_is_that_of_the_plain_loaders(name, precision, folders):
    dtype = getattr(torch, precision)
    plain = (load_meta if name.startswith("meta") else load_hf)(folders[name], dtype=dtype)
    loaded = load(folders[name], precision, progress=False)
    for key, weight in plain.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], weight), key
    assert torch.equal(logits(loaded), logits(plain))


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("bits", [8, 4])
def test_streamed_rounding_is_that_of_the_whole_model(name, bits, folders, model):
    plain = quantize(load_meta(folders["meta1"]), bits, group=32)
    loaded = load(folders[name], f"int{bits}", group=32, progress=False)
    expected = plain.state_dict()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert isinstance(loaded.layers[1].attention.wq, Int8Linear if bits == 8 else Int4Linear)


def test_nothing_is_copied_from_a_mapped_file(folders):
    """Every matrix shares its memory with the file: pages of a file's mapping, told by the system."""
    for name in FOLDERS:
        loaded = load(folders[name])
        for parameter in loaded.parameters():
            assert backing_file(parameter.data_ptr()).startswith(str(folders[name])), name


def backing_file(address: int) -> str:
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *rest = line.split()
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= address < high:
            return rest[4] if len(rest) > 4 else "anonymous"
    return "nowhere"


def test_greedy_text_is_the_same_from_every_folder(folders, model):
    expected = generate(model, [[1, 5, 9]], 12, temperature=0)[0].tokens
    for name in ("meta1", "hf1", "hf2"):
        assert generate(load(folders[name]), [[1, 5, 9]], 12, temperature=0)[0].tokens == expected


def test_tied_heads_stay_one_matrix(model, tmp_path):
    folder = standins.write_hf(model, TOKENIZER, tmp_path / "hf", 1)
    file = folder / "model-00001-of-00001.safetensors"
    tensors = load_file(file)
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load(folder)
    assert loaded.output.weight is loaded.tok_embeddings.weight
    assert torch.equal(logits(loaded), logits(load_hf(folder)))


def test_float16_files_are_mapped_as_they_are_or_converted(model, tmp_path):
    """Hugging Face's Llama 2 is float16: bfloat16 would be a copy, 'file' is none."""
    folder = standins.write_hf(model, TOKENIZER, tmp_path / "hf", 1)
    file = folder / "model-00001-of-00001.safetensors"
    save_file({key: value.half() for key, value in load_file(file).items()}, file, {"format": "pt"})
    mapped = load(folder)
    assert {parameter.dtype for parameter in mapped.parameters()} == {torch.float16}
    assert isinstance(mapped.layers[0].attention.wq, HalfSplitLinear)
    converted = load(folder, "bfloat16", progress=False)
    assert {parameter.dtype for parameter in converted.parameters()} == {torch.bfloat16}
    assert logits(mapped).isfinite().all()
    torch.testing.assert_close(logits(mapped), logits(converted), rtol=0, atol=0.2)


def test_code_llama_gets_the_context_that_its_files_do_not_state(model, tmp_path):
    folder = standins.write_meta(model, TOKENIZER, tmp_path / "meta")
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"rope_theta": 1e6}))
    assert load(folder).config.max_seq_len == 16_384
    (folder / "params.json").write_text(json.dumps(params))
    assert load(folder).config.max_seq_len == 4096 and load(folder, max_seq_len=64).config.max_seq_len == 64


def test_files_of_llama2c_and_of_ours_come_through_the_same_door(model, tmp_path):
    save_safetensors(model, tmp_path / "ours.safetensors")
    assert torch.equal(logits(load(tmp_path / "ours.safetensors")), logits(model))
    assert isinstance(load(tmp_path / "ours.safetensors", "int8", progress=False).output, Int8Linear)
    with pytest.raises(CheckpointError, match=r"expected a folder, a \.bin file"):
        load(TOKENIZER)


def test_transformers_agrees(folders):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlamaForCausalLM.from_pretrained(folders["hf2"], dtype=torch.float32).eval()
    ours = load(folders["hf2"], "float32", progress=False)
    with torch.no_grad():
        torch.testing.assert_close(logits(ours), theirs(TOKENS).logits, rtol=0, atol=1e-4)


# ---- the mapped layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_reordered_outputs_equal_reordered_rows(heads):
    weight, x = torch.randn(24, 5, dtype=torch.float64), torch.randn(3, 7, 5, dtype=torch.float64)
    mapped = HalfSplitLinear(permute_to_hf(weight, heads), heads)
    torch.testing.assert_close(mapped(x), x @ weight.T, rtol=0, atol=1e-13)
    assert torch.equal(mapped.state_dict()["weight"], weight)
    with pytest.raises(RuntimeError, match="cannot be replaced"):
        mapped.load_state_dict({"weight": weight})


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_pieces_equal_the_whole(axis, shards):
    weight, x = torch.randn(12, 18, dtype=torch.float64), torch.randn(2, 5, 18, dtype=torch.float64)
    layer = PiecesLinear(weight.chunk(shards, axis), axis)
    torch.testing.assert_close(layer(x), x @ weight.T, rtol=0, atol=1e-13)
    assert (layer.out_features, layer.in_features) == (12, 18)
    assert torch.equal(layer.state_dict()["weight"], weight)
    table = PiecesEmbedding(weight.chunk(shards, 1))
    assert torch.equal(table(torch.tensor([[3, 0], [11, 3]])), weight[torch.tensor([[3, 0], [11, 3]])])


def test_in_bfloat16_pieces_lose_little():
    torch.manual_seed(0)
    weight, x = torch.randn(64, 512).bfloat16(), torch.randn(4, 512).bfloat16()
    exact = x.double() @ weight.double().T
    error = {n: (PiecesLinear(weight.chunk(n, 1), 1)(x).double() - exact).abs().mean() for n in (1, 8)}
    assert error[8] < 2 * error[1]


# ---- what must not load ------------------------------------------------------------------------------------------


def refused(folder: Path, *expected: str, **options) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(folder, progress=False, **options)
    for text in expected:
        assert text in str(caught.value), str(caught.value)


def test_no_folder_and_no_checkpoint(tmp_path):
    refused(tmp_path / "nowhere", "no folder of that name")
    refused(tmp_path, "no params.json and no config.json")


def test_two_formats_in_one_folder(copied, folders):
    folder = copied("meta1")
    (folder / "config.json").write_bytes((folders["hf1"] / "config.json").read_bytes())
    refused(folder, "params.json", "config.json", "its own folder")


def test_a_truncated_shard(copied):
    folder = copied("meta2")
    file = folder / "consolidated.01.pth"
    file.write_bytes(file.read_bytes()[:5000])
    refused(folder, "consolidated.01.pth", "fetch it again", precision="int8")
    folder = copied("hf2")
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    refused(folder, file.name, "truncated")


def test_a_missing_shard(copied):
    folder = copied("meta2")
    (folder / "consolidated.01.pth").unlink()
    refused(folder, "shape", "shards are missing")
    folder = copied("hf2")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors", "missing")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..\\x", 3])
def test_an_index_that_points_outside_the_folder(name, copied):
    folder = copied("hf2")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["lm_head.weight"] = name
    index.write_text(json.dumps(content))
    refused(folder, "plain name in this folder")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


@pytest.mark.parametrize("precision", ["file", "int4"])
def test_a_pickle_that_would_run_code(precision, copied):
    folder = copied("meta1")
    torch.save({"norm.weight": Evil()}, folder / "consolidated.00.pth")
    refused(folder, "more than tensors", precision=precision)
    (folder / "consolidated.00.pth").write_bytes(pickle.dumps(Evil()))
    refused(folder, "consolidated.00.pth", precision=precision)


@pytest.mark.parametrize("precision", ["file", "int8"])
def test_shapes_that_do_not_fit_the_config(precision, copied):
    folder = copied("hf1")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 200}))
    refused(folder, "different models", precision=precision)


def test_an_unknown_key_in_params(copied):
    folder = copied("meta1")
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"use_scaled_rope": True}))
    refused(folder, "params.json", "use_scaled_rope")


def test_norms_that_differ_between_shards(copied):
    folder = copied("meta2")
    part = torch.load(folder / "consolidated.01.pth", weights_only=True)
    part["norm.weight"] = part["norm.weight"] + 1
    torch.save(part, folder / "consolidated.01.pth")
    for precision in ("file", "int8"):
        refused(folder, "norm.weight", "different checkpoints", precision=precision)


def test_nan_is_found_where_weights_are_read_and_on_request(copied):
    folder = copied("meta1")
    part = torch.load(folder / "consolidated.00.pth", weights_only=True)
    part["layers.1.feed_forward.w2.weight"][3, 4] = float("nan")
    torch.save(part, folder / "consolidated.00.pth")
    load(folder)  # mapped and unread
    refused(folder, "feed_forward.w2", "NaN", check_finite=True)
    refused(folder, "consolidated.00.pth", "feed_forward.w2", "NaN", precision="int8")
    refused(folder, "feed_forward.w2", "NaN", precision="int4", group=32)


def test_a_config_with_other_layers_than_the_files(copied):
    folder = copied("hf2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    refused(folder, "missing", "more layers in its config")


def test_precisions_and_groups_are_checked(folders):
    with pytest.raises(ValueError, match="one of file, bfloat16, float16, float32, int8, int4, got 'int2'"):
        load(folders["meta1"], "int2")
    with pytest.raises(ValueError, match="group 128 does not divide the 64 columns"):
        load(folders["meta1"], "int4", group=128, progress=False)


def test_a_model_that_does_not_fit_is_refused_unless_forced(folders, monkeypatch):
    monkeypatch.setattr(estimate, "available_memory", lambda: 2**20)
    with pytest.raises(estimate.DoesNotFit, match="GiB are free"):
        load(folders["meta1"])
    assert isinstance(load(folders["meta1"], force=True).output, nn.Linear)


# ---- tokenizer and fingerprint -----------------------------------------------------------------------------------


def test_the_tokenizer_is_found_and_must_fit(folders, model, copied, tmp_path):
    assert load_tokenizer(folders["hf1"], model).vocab_size == 2048
    nested = copied("meta1")
    (nested / "tokenizer.model").rename(nested.parent / "tokenizer.model")
    assert load_tokenizer(nested).vocab_size == 2048
    (nested.parent / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="fetch it again"):
        load_tokenizer(nested)
    (nested.parent / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer.model here"):
        load_tokenizer(nested)
    smaller = Llama(ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=100, multiple_of=16))
    with pytest.raises(CheckpointError, match="2048 pieces, but the model has 100"):
        load_tokenizer(folders["hf1"], smaller)


def test_a_fingerprint_tells_right_weights_from_wrong_ones(folders, model):
    right = fingerprint(load(folders["hf2"]), [1, 5, 9])
    assert right == fingerprint(model, [1, 5, 9]) and len(right) == 5
    assert [p for _, p in right] == sorted((p for _, p in right), reverse=True)
    unpermuted = load_hf(folders["hf2"])
    for layer in unpermuted.layers:
        layer.attention.wq.weight.data = permute_to_hf(layer.attention.wq.weight.data, CONFIG.n_heads)
    assert fingerprint(unpermuted, [1, 5, 9]) != right


def test_the_golden_ids_are_those_of_the_true_vocabulary():
    assert differences_from_llama2(Tokenizer(llama2_vocabulary())) == []
    assert len(differences_from_llama2(Tokenizer.from_file(TOKENIZER))) == len(loading.GOLDEN)


def test_opening_reads_no_weights(folders):
    config, pieces, half_split = open_checkpoint(folders["hf2"])
    assert half_split and config.dim == 64 and len(pieces) == 9 * 2 + 3
    assert loading.CODE_LLAMA_CONTEXT == 16_384
    assert Tokenizer.from_file(folders["hf2"] / "tokenizer.model").vocab_size == config.vocab_size
