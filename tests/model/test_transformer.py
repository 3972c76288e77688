"""The assembled model: names, shapes, initialisation, number formats, training after sampling."""

import math

import pytest
import torch
import torch.nn.functional as F

from minillama.model.config import PRESETS, ModelConfig
from minillama.model.embeddings import RMSNorm
from minillama.model.transformer import FeedForward, Llama

NANO = PRESETS["nano"]


def tokens(*shape, seed=0):
    return torch.randint(0, NANO.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def test_parameter_names_are_metas_and_counts_agree_with_the_config():
    names = set(Llama(NANO).state_dict())
    expected = {"tok_embeddings.weight", "norm.weight", "output.weight"}
    for i in range(NANO.n_layers):
        expected |= {f"layers.{i}.attention.{w}.weight" for w in ("wq", "wk", "wv", "wo")}
        expected |= {f"layers.{i}.feed_forward.{w}.weight" for w in ("w1", "w2", "w3")}
        expected |= {f"layers.{i}.{w}.weight" for w in ("attention_norm", "ffn_norm")}
    assert names == expected


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-2-70b", "code-llama-34b", "stories-15m", "nano"])
def test_every_preset_builds_with_the_counted_parameters(name):
    with torch.device("meta"):  # no memory is taken
        model = Llama(PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) == PRESETS[name].n_parameters()
    if name == "llama-2-7b":
        assert len(model.state_dict()) == 291


def test_feed_forward_is_swiglu():
    layer = FeedForward(6, 10).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    gate, value = x @ layer.w1.weight.T, x @ layer.w3.weight.T
    torch.testing.assert_close(layer(x), (gate / (1 + (-gate).exp()) * value) @ layer.w2.weight.T)


def test_initial_weights():
    config = ModelConfig(dim=256, n_layers=8, n_heads=4, vocab_size=1000)
    model = Llama(config, seed=3)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            smaller = math.sqrt(16) if name.endswith(("wo.weight", "w2.weight")) else 1
            assert parameter.std().item() == pytest.approx(0.02 / smaller, rel=0.02), name
    again, other = Llama(config, seed=3), Llama(config, seed=4)
    assert torch.equal(model.output.weight, again.output.weight)
    assert not torch.equal(model.output.weight, other.output.weight)


def test_untrained_loss_is_that_of_a_uniform_guess():
    x = tokens(4, 65)
    loss = F.cross_entropy(Llama(NANO)(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
    assert abs(loss.item() - math.log(NANO.vocab_size)) < 0.05


@pytest.mark.parametrize("dtype, expected", [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_number_formats(dtype, expected):
    model = Llama(NANO).to(dtype)
    assert model(tokens(1, 5)).dtype == expected
    assert model.new_cache(1)[0].keys.dtype == dtype
    assert model.hidden_states(tokens(1, 5)).dtype == dtype


def test_bfloat16_follows_float32():
    model = Llama(NANO, seed=1)
    full = model(tokens(2, 33))
    half = model.bfloat16()(tokens(2, 33))
    assert (full - half).abs().max() < 0.02 * full.abs().max()


def test_the_same_model_samples_first_and_trains_later():
    model = Llama(NANO)
    with torch.inference_mode():
        model(tokens(1, 4), model.new_cache(1, 8))
    model(tokens(2, 4)).square().mean().backward()  # fails if the rotary table were an inference tensor
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_rotary_table_grows_beyond_max_seq_len_and_follows_the_type():
    model = Llama(NANO)
    long = tokens(1, NANO.max_seq_len + 10)
    assert model(long).shape == (1, NANO.max_seq_len + 10, NANO.vocab_size)
    before = model.double()(long[:, :20])
    assert model.rotations(0, 5).dtype == torch.complex128 and before.dtype == torch.float64


def test_gradients_are_those_of_finite_differences():
    config = ModelConfig(dim=8, n_layers=1, n_heads=2, n_kv_heads=1, vocab_size=11, multiple_of=4)
    model, x = Llama(config).double(), torch.tensor([[1, 5, 2]])

    def loss(weight):
        changed = {"layers.0.attention.wk.weight": weight}
        return torch.func.functional_call(model, changed, (x,)).square().sum()

    assert torch.autograd.gradcheck(loss, model.layers[0].attention.wk.weight.detach().clone().requires_grad_())


def test_wrong_shape_of_tokens():
    with pytest.raises(ValueError, match="batch, length"):
        Llama(NANO)(torch.tensor([1, 2, 3]))


def test_norm_epsilon_reaches_every_norm():
    model = Llama(ModelConfig(dim=8, n_layers=2, n_heads=2, vocab_size=11, norm_eps=0.25))
    assert {m.eps for m in model.modules() if isinstance(m, RMSNorm)} == {0.25}


@pytest.mark.parametrize("seed", range(10))
def test_packed_texts_are_as_if_each_were_alone(seed):
    """Logits and gradients in float64, below 1e-9; large weights, so that a look at a neighbour would show."""
    generator = torch.Generator().manual_seed(seed)
    model = Llama(NANO, seed).double()
    for parameter in model.parameters():
        parameter.data.mul_(8.0 if parameter.dim() == 2 else 1.0)
    lengths = torch.randint(1, 15, (2, 4), generator=generator)
    width = int(lengths.sum(1).max()) + 3  # and padding behind
    x, documents = tokens(2, width, seed=seed), torch.full((2, width), -1)
    spans = []
    for row in range(2):
        end = 0
        for number, length in enumerate(lengths[row].tolist()):
            documents[row, end : end + length] = number
            spans.append((row, end, end + length))
            end += length
    packed = model(x, documents=documents)
    apart = [model(x[row : row + 1, begin:end])[0] for row, begin, end in spans]
    for (row, begin, end), alone in zip(spans, apart, strict=True):
        assert (packed[row, begin:end] - alone).abs().max() < 1e-9
    whole = model(x)  # without the mask the first text of each row is the same and the others are not
    assert (whole[0, : lengths[0, 0]] - apart[0]).abs().max() < 1e-9
    assert (whole[0, width - 4] - packed[0, width - 4]).abs().max() > 1e-3
    grad = torch.autograd.grad(sum(packed[r, b:e].square().sum() for r, b, e in spans), model.tok_embeddings.weight)[0]
    other = torch.autograd.grad(sum(a.square().sum() for a in apart), model.tok_embeddings.weight)[0]
    assert (grad - other).abs().max() < 1e-9 * other.abs().max()


def test_one_text_that_fills_its_row_needs_no_mask():
    model, x = Llama(NANO).double(), tokens(2, 12)
    assert (model(x, documents=torch.zeros_like(x)) - model(x)).abs().max() < 1e-12


def test_documents_of_another_shape_or_with_a_cache_are_refused():
    model, x = Llama(NANO), tokens(2, 6)
    with pytest.raises(ValueError, match=r"shape of tokens \(2, 6\).*got shape \(2, 5\)"):
        model(x, documents=torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="and a cache"):
        model(x, model.new_cache(2), torch.zeros_like(x))
