"""Rounding against loops in float64, the layers against their own plain arithmetic, bytes against the buffers."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minillama.family import quantized_kernels as kernels
from minillama.family.quantization import BLOCK_VALUES, Int4Linear, Int8Linear, quantize, quantized_bytes
from minillama.family.rounding import bits_per_weight, round_model, rounded
from minillama.model.config import PRESETS, ModelConfig
from minillama.model.generation import generate
from minillama.model.transformer import Llama

TINY = ModelConfig(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=96, multiple_of=32, max_seq_len=64)


def matrix(out: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(out, columns, generator=torch.Generator().manual_seed(seed))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def plain_rounded(row: list[float], bits: int, zero_point: bool) -> list[float]:
    """One group, straight from the equations."""
    if zero_point:
        low, step = min(row), (max(row) - min(row)) / (2**bits - 1)
    else:
        low, step = 0.0, max(abs(x) for x in row) / (2 ** (bits - 1) - 1)
    return [round((x - low) / step) * step + low for x in row]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("zero_point", [False, True])
@pytest.mark.parametrize("group", [0, None, 7, 16, 999])
def test_rounded_follows_the_equations(bits, zero_point, group):
    weight = matrix(3, 40)
    size = 40 if group in (None, 999) else group
    expected = []
    if group == 0:
        flat = plain_rounded(weight.flatten().tolist(), bits, zero_point)
        expected = [flat[i : i + 40] for i in range(0, 120, 40)]
    else:
        for row in weight.tolist():
            parts = [plain_rounded(row[i : i + size], bits, zero_point) for i in range(0, 40, size)]
            expected.append([x for part in parts for x in part])
    found = rounded(weight, bits, group, zero_point)
    assert torch.allclose(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-6)
    assert rounded(found, bits, group, zero_point).sub(found).abs().max() < 1e-5  # what is on the grid stays


def test_rounding_error_has_the_variance_of_a_uniform_one():
    weight = matrix(64, 4096)
    for bits in (4, 6, 8):
        step = weight.abs().amax(1) / (2 ** (bits - 1) - 1)
        error = (rounded(weight, bits) - weight).square().mean(1)
        assert torch.allclose(error / (step**2 / 12), torch.ones(64), atol=0.15)


def test_smaller_groups_err_less_and_an_outlier_spoils_its_own_group_only():
    weight = matrix(16, 256)
    errors = [relative(rounded(weight, 4, group), weight) for group in (0, None, 128, 32)]
    assert errors == sorted(errors, reverse=True)
    spoiled = weight.clone()
    spoiled[3, 40] = 100.0
    error = (rounded(spoiled, 4, 32) - spoiled).abs()
    clean = (rounded(weight, 4, 32) - weight).abs()
    error[3, 32:64], clean[3, 32:64] = 0, 0
    assert torch.equal(error, clean)


@pytest.mark.parametrize("bits, group", [(1, None), (9, None), (4, -1)])
def test_rounded_refuses(bits, group):
    with pytest.raises(ValueError, match="expected bits from 2 to 8"):
        rounded(matrix(2, 4), bits, group)


def test_all_zero_groups_stay_zero():
    for layer in (Int8Linear.from_float(torch.zeros(32, 64)), Int4Linear.from_float(torch.zeros(32, 64), 32)):
        assert layer.dequantize().abs().max() < 1e-20
    assert rounded(torch.zeros(2, 8), 4, 4).abs().max() == 0


def test_bits_per_weight():
    assert bits_per_weight(4096, 8) == 8 + 16 / 4096
    assert bits_per_weight(128, 4, 32) == 4.5 and bits_per_weight(128, 4, 32, True) == 5
    assert bits_per_weight(352, 4, 64) == 4 + 16 * 6 / 352 and bits_per_weight(128, 2, 0) == 2


def test_round_model_changes_matrices_but_not_embedding_and_norms():
    model, before = Llama(TINY), Llama(TINY).state_dict()
    after = round_model(model, 3, 16).state_dict()
    for name, weight in after.items():
        same = "norm" in name or name.startswith("tok_embeddings")
        assert torch.equal(weight, before[name] if same else rounded(before[name], 3, 16)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(96, 64), (80, 128), (33, 64), (1, 32), (200, 160)])
def test_int8_numbers_are_the_nearest_ones(shape, dtype):
    weight = matrix(*shape).to(dtype)
    layer = Int8Linear.from_float(weight)
    scale = layer.scale.double()[:, None]
    assert (layer.scale.double() / (weight.double().abs().amax(1) / 127) - 1).abs().max() < 2**-8
    assert layer.weight.abs().max() <= 127
    inside = weight.double().abs() <= 127 * scale  # a scale that was rounded down clips the largest
    error = (layer.dequantize(torch.float64) - weight.double()).abs()
    assert (error[inside] <= (scale / 2).expand(shape)[inside] * (1 + 1e-6)).all() and inside.double().mean() > 0.95
    assert relative(layer.dequantize(), weight) < 0.01


@pytest.mark.parametrize(
    "shape, group", [((96, 64), 32), ((80, 128), 64), ((33, 64), 16), ((1, 32), 32), ((200, 256), 256)]
)
def test_int4_numbers_are_the_nearest_ones(shape, group):
    weight = matrix(*shape)
    layer = Int4Linear.from_float(weight, group)
    scale, zero = layer.scales_and_zeros.double().unbind(-1)  # (groups, out)
    for row in range(0, shape[0], 13):
        for part in range(shape[1] // group):
            grid = (torch.arange(16) - 8) * scale[part, row] + zero[part, row]
            values = weight[row, part * group : (part + 1) * group].double()
            nearest = grid[(values[:, None] - grid).abs().argmin(1)]
            found = layer.dequantize(torch.float64)[row, part * group : (part + 1) * group]
            assert torch.allclose(found, nearest, atol=1e-9)
    assert relative(layer.dequantize(), rounded(weight, 4, group, zero_point=True)) < 0.03  # grids in bfloat16


def layers(weight: torch.Tensor):
    yield lambda: Int8Linear.from_float(weight)
    yield lambda: Int4Linear.from_float(weight, 32)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("rows", [1, 5, 48, 49, 130])
@pytest.mark.parametrize("shape", [(128, 96), (352, 128), (80, 64), (51, 32), (1, 64)])
def test_kernel_and_plain_arithmetic_agree(shape, rows, dtype, tolerance):
    x = matrix(rows, shape[1], seed=1).to(dtype)
    for make in layers(matrix(*shape)):
        fast, plain = make(), make()
        plain.use_kernel = False
        exact = x.double() @ plain.dequantize(torch.float64).T
        with torch.inference_mode():
            for layer in (fast, plain):
                found = layer(x)
                assert found.dtype == dtype and found.shape == (rows, shape[0])
                size = x.double().norm() * plain.dequantize().norm() / shape[1] ** 0.5  # of a typical product
                assert (found.double() - exact).norm() < tolerance * size


@pytest.mark.skipif(not kernels.int8_works(torch.bfloat16), reason="this PyTorch or processor lacks the kernel")
def test_the_kernels_are_called_for_few_rows_only(monkeypatch):
    calls = []
    for make in layers(matrix(64, 64)):
        make()(matrix(1, 64))  # the kernels have been tried
    for name in ("int8_matmul", "int4_matmul"):
        original = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, name=name, f=original: calls.append(name) or f(*a))
    for make in layers(matrix(64, 64)):
        layer = make()
        with torch.inference_mode():
            layer(torch.zeros(2, 3, 64))
            layer(torch.zeros(49, 64))
            layer(torch.zeros(0, 64))
        layer(torch.zeros(1, 64, requires_grad=True)).sum().backward()
    assert calls == ["int8_matmul", "int4_matmul"]


def test_a_missing_or_wrong_kernel_is_not_used(monkeypatch):
    def missing(*_):
        raise AttributeError("no such kernel")

    for replacement in (missing, lambda x, w, *_: x.new_zeros(len(x), len(w))):
        for name in ("int8_matmul", "int4_matmul"):
            monkeypatch.setattr(kernels, name, replacement)
        kernels.int8_works.cache_clear(), kernels.int4_works.cache_clear()
        assert not kernels.int8_works(torch.float32) and not kernels.int4_works(torch.float32, 64, 32)
        x = matrix(3, 64, seed=2)
        for make in layers(matrix(64, 64)):
            layer = make()
            assert relative(layer(x), x @ layer.dequantize().T) < 1e-5
    monkeypatch.undo()
    kernels.int8_works.cache_clear(), kernels.int4_works.cache_clear()


def test_columns_that_are_no_whole_vectors_never_reach_the_kernel(monkeypatch):
    monkeypatch.setattr(kernels, "int8_matmul", lambda *_: pytest.fail("this kernel reads past the end of such rows"))
    weight, x = matrix(33, 40), matrix(2, 40)
    assert relative(Int8Linear.from_float(weight)(x), x @ weight.T) < 0.02


@pytest.mark.skipif(not kernels.int4_works(torch.float32, 128, 32), reason="this PyTorch or processor lacks the kernel")
@pytest.mark.parametrize("rows", [16, 32, 48, 64, 80, 128, 208])
def test_packing_can_be_undone(rows):
    numbers = torch.randint(0, 16, (rows, 96), generator=torch.Generator().manual_seed(rows)).to(torch.uint8)
    assert torch.equal(kernels.unpack_int4(kernels.pack_int4(numbers), rows), numbers)


def test_gradients_reach_the_input_and_adapters_can_be_trained_on_top():
    for make in layers(matrix(64, 64)):
        layer, x = make(), matrix(3, 64).requires_grad_()
        layer(x).square().sum().backward()
        weight = layer.dequantize()
        assert torch.allclose(x.grad, 2 * (x.detach() @ weight.T) @ weight, rtol=1e-4, atol=1e-3)
        assert not list(layer.parameters())


def test_saved_in_one_order_before_and_after_use(tmp_path):
    for name, make in zip("84", layers(matrix(128, 64)), strict=True):
        used, fresh = make(), make()
        x = matrix(2, 64, seed=5)
        with torch.inference_mode():
            expected = used(x)
        saved = {key: tensor.contiguous() for key, tensor in used.state_dict().items()}
        assert all(torch.equal(saved[key], tensor) for key, tensor in fresh.state_dict().items())
        save_file(saved, tmp_path / f"{name}.safetensors")
        with torch.inference_mode():
            fresh.load_state_dict(load_file(tmp_path / f"{name}.safetensors"))
            assert torch.equal(fresh(x), expected)
            used.load_state_dict(saved)  # into a layer that has been used
            assert torch.equal(used(x), expected) and torch.equal(used.dequantize(), fresh.dequantize())


def test_conversion_of_a_large_matrix_goes_block_by_block(monkeypatch):
    seen = []
    original = torch.Tensor.float

    def spy(self):
        seen.append(self.numel())
        return original(self)

    weight = torch.zeros(4096, 2048, dtype=torch.bfloat16)
    monkeypatch.setattr(torch.Tensor, "float", spy)
    Int8Linear.from_float(weight), Int4Linear.from_float(weight, 64)
    assert max(seen) <= BLOCK_VALUES and len(seen) > 8


@pytest.mark.parametrize("make", [Int8Linear.from_float, lambda w: Int4Linear.from_float(w, 32)])
def test_damaged_or_wrong_matrices_are_refused(make):
    bad = matrix(4, 32)
    for value in (math.nan, math.inf, -math.inf):
        bad[2, 5] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            make(bad)
    for wrong in (torch.zeros(4), torch.zeros(4, 32, dtype=torch.int32), torch.zeros(2, 4, 32)):
        with pytest.raises(ValueError, match="expected a matrix of floats"):
            make(wrong)


@pytest.mark.parametrize("group", [0, 1, 31, 48, 128])
def test_int4_refuses_groups_that_do_not_divide(group):
    with pytest.raises(ValueError, match="a group must be even and divide the 64 columns"):
        Int4Linear.from_float(matrix(4, 64), group)


@pytest.mark.parametrize("bits, group, head", [(8, 64, True), (4, 32, True), (4, 32, False), (8, 32, False)])
def test_bytes_by_arithmetic_are_those_of_the_buffers(bits, group, head):
    for config in (TINY, replace(TINY, n_outputs=1), replace(TINY, n_kv_heads=4, hidden_dim=160)):
        model = quantize(Llama(config).bfloat16(), bits, group, head)
        measured = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        assert measured == quantized_bytes(config, bits, group, head)
    plain = Llama(TINY).bfloat16()
    assert quantized_bytes(TINY, 16) == sum(2 * p.numel() for p in plain.parameters())


def test_llama_2_7b_by_arithmetic():
    sizes = {bits: quantized_bytes(PRESETS["llama-2-7b"], bits) / 2**30 for bits in (16, 8, 4)}
    assert sizes[16] == pytest.approx(12.55, abs=0.005)  # the reference's README
    assert sizes[8] == pytest.approx(6.40, abs=0.005) and sizes[4] == pytest.approx(3.71, abs=0.005)
    with pytest.raises(ValueError, match="bits must be 16, 8 or 4"):
        quantized_bytes(TINY, 5)


@pytest.mark.parametrize("bits, tolerance", [(8, 0.02), (4, 0.25)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantized_model_says_nearly_the_same(bits, tolerance, dtype):
    model, quantized = (Llama(TINY, seed=3).to(dtype) for _ in range(2))
    assert quantize(quantized, bits, 32) is quantized and not any(isinstance(m, nn.Linear) for m in quantized.modules())
    tokens = torch.arange(40)[None]
    with torch.inference_mode():
        assert relative(quantized(tokens), model(tokens)) < tolerance
    (made,) = generate(quantized, [[1, 2, 3]], 8, temperature=0)
    assert len(made.tokens) == 8


def test_cached_and_uncached_decoding_agree_in_float32():
    model = quantize(Llama(TINY, seed=4), 4, 32)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8]]
    cached, uncached = (generate(model, prompts, 10, temperature=0, use_cache=c) for c in (True, False))
    assert [c.tokens for c in cached] == [c.tokens for c in uncached]


def test_quantize_refuses_before_it_changes_anything():
    model = Llama(replace(TINY, hidden_dim=96))
    with pytest.raises(ValueError, match="group 64 does not divide the 96 columns of layers.0.feed_forward.w2"):
        quantize(model, 4, 64)
    with pytest.raises(ValueError, match="bits must be 8 or 4"):
        quantize(model, 3)
    assert sum(isinstance(m, nn.Linear) for m in model.modules()) == 15


def test_the_head_can_stay():
    model = quantize(Llama(TINY), 8, head=False)
    assert isinstance(model.output, nn.Linear) and isinstance(model.layers[0].attention.wq, Int8Linear)
    assert "in_features=64" in str(model) and "group=32" in str(Int4Linear.from_float(matrix(2, 64), 32))
