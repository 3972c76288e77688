"""LoRA: the equation, what is frozen, merging in float64, adapter files, and what the memory adds up to."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from minillama.family.lora import (
    ATTENTION,
    MATRICES,
    Adapter,
    LoRALinear,
    add_lora,
    attach,
    fingerprint,
    load_adapter,
    lora_layers,
    lora_parameters,
    merge,
    n_trainable,
    optimizer_bytes,
    remove,
    save_adapter,
    tuning_memory,
    unmerge,
)
from minillama.model.checkpoints import CheckpointError, load_safetensors, save_safetensors
from minillama.model.config import PRESETS, ModelConfig
from minillama.model.generation import generate
from minillama.model.transformer import Llama
from minillama.pretraining.scaling import training_memory
from minillama.pretraining.schedule import TrainConfig, make_optimizer
from minillama.pretraining.trainer import next_token_loss

LLAMA_2_7B = PRESETS["llama-2-7b"]
TINY = ModelConfig(dim=24, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=40, multiple_of=8, max_seq_len=32)
TOKENS = torch.randint(0, 40, (3, 13), generator=torch.Generator().manual_seed(0))


def trained(seed=0, rank=3, targets=MATRICES, dtype=torch.float64, steps=4):
    """A model whose adapter has learnt something."""
    model = add_lora(Llama(TINY, seed).to(dtype), rank, 6.0, targets, seed)
    config = TrainConfig(steps=steps, batch_size=3, context=12, peak_lr=3e-2)
    optimizer = make_optimizer(model, config)
    for _ in range(steps):
        next_token_loss(model, TOKENS).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_a_layer_is_the_equation_number_by_number():
    generator = torch.Generator().manual_seed(1)
    base = torch.nn.Linear(5, 4, bias=False).double()
    layer = LoRALinear(base, 2, 7.0, generator)
    layer.B.data.normal_(generator=generator)
    x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    out = layer(x)
    for row in range(3):
        for i in range(4):
            total = sum(base.weight[i, j].item() * x[row, j].item() for j in range(5))
            for k in range(2):
                inner = sum(layer.A[k, j].item() * x[row, j].item() for j in range(5))
                total += 7.0 / 2 * layer.B[i, k].item() * inner
            assert out[row, i].item() == pytest.approx(total, abs=1e-12)


def test_a_new_adapter_changes_nothing_and_only_its_factors_learn():
    plain = Llama(TINY).double()
    model = add_lora(copy.deepcopy(plain), 3)
    assert (model(TOKENS) == plain(TOKENS)).all()
    assert (
        n_trainable(model)
        == lora_parameters(TINY, 3)
        == sum(layer.A.numel() + layer.B.numel() for layer in lora_layers(model).values())
    )
    next_token_loss(model, TOKENS).backward()
    with_gradient = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"A", "B"}
    # at the start only B moves: the gradient of A is a product with B, which is zero
    assert all(layer.A.grad.abs().max() == 0 < layer.B.grad.abs().max() for layer in lora_layers(model).values())


def test_training_leaves_the_base_untouched():
    model, _ = trained()
    assert fingerprint(remove(model) and model) == fingerprint(Llama(TINY).double())


@pytest.mark.parametrize("targets", [ATTENTION, MATRICES, ("w2",)])
def test_merged_says_what_the_adapter_said_and_is_a_plain_llama(targets, tmp_path):
    model, _ = trained(targets=targets)
    expected, before = model(TOKENS), Llama(TINY).double()(TOKENS)
    assert (expected - before).abs().max() > 1e-2
    merge(model)
    assert (model(TOKENS) - expected).abs().max() < 1e-12
    assert not lora_layers(model) and list(model.state_dict()) == list(Llama(TINY).state_dict())
    assert n_trainable(model) == TINY.n_parameters()
    save_safetensors(model, tmp_path / "merged.safetensors")
    assert (load_safetensors(tmp_path / "merged.safetensors")(TOKENS) == model(TOKENS)).all()


def test_a_model_with_an_adapter_generates_with_a_cache_as_merged():
    model, _ = trained()
    said = [list(c.tokens) for c in generate(model, [[1, 5, 7]], 10, temperature=0.0)]
    merge(model)
    assert [list(c.tokens) for c in generate(model, [[1, 5, 7]], 10, temperature=0.0)] == said


def test_unmerge_gives_back_the_base_and_the_adapter():
    model, _ = trained()
    expected = model(TOKENS)
    adapter = merge(model)
    unmerge(model, adapter)
    assert (model(TOKENS) - expected).abs().max() < 1e-12
    remove(model)
    for own, first in zip(model.state_dict().values(), Llama(TINY).double().state_dict().values(), strict=True):
        assert (own - first).abs().max() < 1e-15


def test_merging_twice_is_refused():
    model, _ = trained()
    merge(model)
    with pytest.raises(ValueError, match="already merged"):
        merge(model)


def test_bfloat16_weights_are_summed_in_float32_and_rounded_once():
    model, _ = trained(dtype=torch.float32)
    model.to(torch.bfloat16)
    name, layer = next(iter(lora_layers(model).items()))
    exact = layer.base.weight.double() + layer.scale * layer.B.double() @ layer.A.double()
    merge(model)
    merged = model.get_submodule(name).weight
    assert merged.dtype == torch.bfloat16
    assert ((merged.double() - exact).abs() <= exact.abs() * 2.0**-8 + 1e-6).all()


def test_several_adapters_take_turns_on_one_base(tmp_path):
    adapters, said = [], []
    for seed in (1, 2):
        model = add_lora(Llama(TINY).double(), 2, 4.0, MATRICES, seed)
        for layer in lora_layers(model).values():
            layer.B.data.normal_(generator=torch.Generator().manual_seed(seed))
        said.append(model(TOKENS))
        adapters.append(remove(model))
        save_adapter(adapters[-1], tmp_path / f"{seed}.safetensors")
    base = Llama(TINY).double()
    for seed in (1, 2, 1):
        attach(base, load_adapter(tmp_path / f"{seed}.safetensors"))
        assert (base(TOKENS) == said[seed - 1]).all()
        remove(base)
    assert (base(TOKENS) == Llama(TINY).double()(TOKENS)).all()
    assert (tmp_path / "1.safetensors").stat().st_size < 3000 + 8 * adapters[0].n_parameters
    assert {p.name for p in tmp_path.iterdir()} == {"1.safetensors", "2.safetensors"}


def test_an_adapter_knows_its_base_whatever_type_it_is_read_in():
    half = Llama(TINY).to(torch.bfloat16)
    assert fingerprint(half) == fingerprint(copy.deepcopy(half).float()) == fingerprint(copy.deepcopy(half).double())
    adapter = remove(add_lora(Llama(TINY), 2))
    with pytest.raises(ValueError, match="load the base that it belongs to"):
        attach(Llama(TINY, seed=1), adapter)


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [(0, ATTENTION, "got 0"), (2, ("wq", "bias"), "'bias'"), (2, (), "out of")],
)
def test_what_cannot_be_adapted_is_named(rank, targets, message):
    with pytest.raises(ValueError, match=message):
        add_lora(Llama(TINY), rank, targets=targets)


def test_a_second_adapter_and_a_missing_one_are_refused():
    model = add_lora(Llama(TINY), 2)
    for call in (lambda: add_lora(model, 2), lambda: attach(model, Adapter(2, 4.0, "", {})), lambda: unmerge(model, Adapter(2, 4.0, "", {}))):  # fmt: skip # noqa: E501
        with pytest.raises(ValueError, match="has an adapter on 4 matrices"):
            call()
    with pytest.raises(ValueError, match="no adapter"):
        remove(Llama(TINY))


def test_damaged_adapter_files_are_named(tmp_path):
    adapter, path = remove(add_lora(Llama(TINY), 2)), tmp_path / "a.safetensors"
    save_adapter(adapter, path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="truncated"):
        load_adapter(path)
    with pytest.raises(CheckpointError, match="missing"):
        load_adapter(tmp_path / "none.safetensors")
    save_safetensors(Llama(TINY), path)
    with pytest.raises(CheckpointError, match="a whole model is no adapter"):
        load_adapter(path)
    described = {"minillama_lora": json.dumps({"rank": 2, "alpha": 4.0, "base_sha256": ""})}
    save_file({"x.A": torch.zeros(2, 5)}, path, described)
    with pytest.raises(CheckpointError, match="not pairs A and B"):
        load_adapter(path)
    save_file({"x.A": torch.zeros(2, 5), "x.B": torch.zeros(4, 3)}, path, described)
    with pytest.raises(CheckpointError, match=r"B \(4, 3\)"):
        load_adapter(path)


def test_the_optimiser_keeps_two_numbers_for_each_trained_one():
    model, optimizer = trained(dtype=torch.float32)
    assert optimizer_bytes(optimizer) == 2 * 4 * lora_parameters(TINY, 3, MATRICES)
    assert tuning_memory(TINY, 3, MATRICES)["optimizer"] == optimizer_bytes(optimizer)


def test_memory_of_full_tuning_is_what_chapter_11_counts():
    own, counted = tuning_memory(LLAMA_2_7B, None), training_memory(LLAMA_2_7B, 1, 1)
    assert {part: counted[part] for part in own} == own
    assert sum(own.values()) == 16 * LLAMA_2_7B.n_parameters()


def test_lora_of_llama_2_7b_on_queries_and_values():
    assert lora_parameters(LLAMA_2_7B, 8) == 32 * 2 * 8 * (4096 + 4096)
    found = tuning_memory(LLAMA_2_7B, 8)
    assert sum(found.values()) == 2 * LLAMA_2_7B.n_parameters() + 16 * 4_194_304


@pytest.mark.parametrize("targets", [ATTENTION, MATRICES])
def test_parameters_by_formula_are_those_that_are_there(targets):
    assert n_trainable(add_lora(Llama(TINY), 5, targets=targets)) == lora_parameters(TINY, 5, targets)
