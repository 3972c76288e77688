"""Attention: the library against loops written from the equation, and the promises that the rest of the book uses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillama.model.attention import Attention, KVCache, causal_mask, fused_attention, plain_attention
from minillama.model.config import PRESETS, ModelConfig
from minillama.model.rope import apply_rotary, rotation_table

GROUPS = (1, 2, 4, 8)


def attention_loops(q, k, v):
    """softmax(q k / sqrt(hd)) v with Python loops and Python floats; nothing here comes from the library."""
    batch, n_heads, n_queries, head_dim = q.shape
    group, past = n_heads // k.shape[1], k.shape[2] - n_queries
    out = torch.zeros_like(q)
    for b in range(batch):
        for h in range(n_heads):
            for m in range(n_queries):
                keys, values = k[b, h // group, : past + m + 1].tolist(), v[b, h // group, : past + m + 1]
                query = q[b, h, m].tolist()
                scores = [sum(x * y for x, y in zip(query, key, strict=True)) / math.sqrt(head_dim) for key in keys]
                top = max(scores)
                exps = [math.exp(s - top) for s in scores]
                for e, value in zip(exps, values, strict=True):
                    out[b, h, m] += e / sum(exps) * value
    return out


def random_qkv(seed, batch, n_heads, n_kv_heads, n_queries, n_keys, head_dim, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, n_heads, n_queries, head_dim, generator=generator, dtype=torch.float64)
    k = torch.randn(batch, n_kv_heads, n_keys, head_dim, generator=generator, dtype=torch.float64)
    v = torch.randn(batch, n_kv_heads, n_keys, head_dim, generator=generator, dtype=torch.float64)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def make_layer(group, n_heads=8, head_dim=6, seed=0):
    config = ModelConfig(dim=n_heads * head_dim, n_layers=1, n_heads=n_heads, n_kv_heads=n_heads // group)
    torch.manual_seed(seed)
    return Attention(config).double(), config


def make_input(config, batch, length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, config.dim, generator=generator, dtype=torch.float64)
    return x, rotation_table(config.head_dim, torch.arange(length), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    batch=st.integers(1, 3),
    n_kv_heads=st.sampled_from([1, 2, 3]),
    group=st.sampled_from(GROUPS),
    n_queries=st.integers(1, 5),
    past=st.integers(0, 5),
    head_dim=st.sampled_from([2, 4, 6]),
)
def test_plain_and_fused_equal_the_loops(seed, batch, n_kv_heads, group, n_queries, past, head_dim):
    q, k, v = random_qkv(seed, batch, n_kv_heads * group, n_kv_heads, n_queries, past + n_queries, head_dim)
    expected = attention_loops(q, k, v)
    for kernel in (plain_attention, fused_attention):
        torch.testing.assert_close(kernel(q, k, v), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("length", [1, 7, 33])
def test_fused_equals_plain_in_float32(group, length):
    q, k, v = random_qkv(length, 2, 8, 8 // group, length, length, 16, torch.float32)
    # two float32 summation orders over at most 33 values of size about 1: a few units of 6e-8
    torch.testing.assert_close(fused_attention(q, k, v), plain_attention(q, k, v), rtol=0, atol=2e-6)


@pytest.mark.parametrize("kernel", [plain_attention, fused_attention])
@pytest.mark.parametrize("group", [2, 4, 8])
def test_grouped_equals_multi_head_with_each_kv_head_repeated_in_place(kernel, group):
    q, k, v = random_qkv(3, 2, 8, 8 // group, 9, 9, 4)
    grouped = kernel(q, k, v)
    for h in range(8):  # query head h reads key/value head h // group, as Meta's weights expect
        alone = kernel(q[:, h : h + 1], k[:, h // group : h // group + 1], v[:, h // group : h // group + 1])
        torch.testing.assert_close(grouped[:, h : h + 1], alone, rtol=0, atol=1e-12)
    if group < 8:  # the other order, 0 1 0 1 ..., must not pass for it
        tiled = kernel(q, k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1))
        assert (grouped - tiled).abs().max() > 0.1


@pytest.mark.parametrize("group", GROUPS)
def test_layer_equals_loops_around_the_same_weights(group):
    layer, config = make_layer(group)
    x, table = make_input(config, batch=2, length=5)

    def heads(weight):  # (B, heads, T, hd)
        return torch.einsum("btd,ed->bte", x, weight).unflatten(-1, (-1, config.head_dim)).transpose(1, 2)

    q, k = apply_rotary(heads(layer.wq.weight), table), apply_rotary(heads(layer.wk.weight), table)
    mixed = attention_loops(q, k, heads(layer.wv.weight)).transpose(1, 2).flatten(2)
    expected = torch.einsum("bte,de->btd", mixed, layer.wo.weight)
    torch.testing.assert_close(layer(x, table), expected, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), group=st.sampled_from(GROUPS), length=st.integers(2, 12), share=st.floats(0, 0.999))
def test_a_later_token_never_changes_an_earlier_output(seed, group, length, share):
    layer, config = make_layer(group, seed=seed)
    x, table = make_input(config, batch=1, length=length, seed=seed + 1)
    changed = 1 + int(share * (length - 1))
    other = x.clone()
    other[:, changed] += 10.0
    with torch.no_grad():
        before, after = layer(x, table), layer(other, table)
    torch.testing.assert_close(after[:, :changed], before[:, :changed], rtol=0, atol=1e-12)
    assert (after[:, changed:] - before[:, changed:]).abs().amax(dim=(0, 2)).min() > 1e-6  # and every later one sees it


def test_gradient_of_an_output_reaches_exactly_its_past():
    layer, config = make_layer(group=2)
    x, table = make_input(config, batch=1, length=6)
    x.requires_grad_()
    layer(x, table)[:, 3].sum().backward()
    reached = x.grad[0].abs().amax(dim=-1) > 0
    assert reached.tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("chunks", [[1] * 11, [4, 4, 3], [5, 1, 1, 4], [1, 10], [11]])
def test_cache_equals_recomputation(group, chunks):
    layer, config = make_layer(group)
    x, table = make_input(config, batch=2, length=11)
    cache = KVCache(2, config.n_kv_heads, 16, config.head_dim, dtype=torch.float64)
    with torch.no_grad():
        whole = layer(x, table)
        ends = torch.tensor(chunks).cumsum(0).tolist()
        parts = [layer(x[:, e - n : e], table[e - n : e], cache) for n, e in zip(chunks, ends, strict=True)]
    assert cache.length == 11
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)


def test_cache_is_equal_to_recomputation_after_every_single_token():
    layer, config = make_layer(group=4)
    x, table = make_input(config, batch=1, length=9)
    cache = KVCache(1, config.n_kv_heads, 9, config.head_dim, dtype=torch.float64)
    with torch.no_grad():
        for t in range(9):
            step = layer(x[:, t : t + 1], table[t : t + 1], cache)
            again = layer(x[:, : t + 1], table[: t + 1])[:, -1:]
            torch.testing.assert_close(step, again, rtol=0, atol=1e-10)


def test_cache_holds_rotated_keys_and_untouched_values():
    layer, config = make_layer(group=2)
    x, table = make_input(config, batch=1, length=4)
    cache = KVCache(1, config.n_kv_heads, 6, config.head_dim, dtype=torch.float64)
    with torch.no_grad():
        layer(x, table, cache)
        k = layer.wk(x).unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
        v = layer.wv(x).unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
    torch.testing.assert_close(cache.keys[:, :, :4], apply_rotary(k, table), rtol=0, atol=1e-12)
    torch.testing.assert_close(cache.values[:, :, :4], v, rtol=0, atol=1e-12)
    assert not cache.keys[:, :, 4:].any() and not cache.values[:, :, 4:].any()


def test_full_cache_names_its_size_and_leaves_what_it_holds_alone():
    cache = KVCache(1, 2, max_seq_len=4, head_dim=2)
    cache.append(torch.ones(1, 2, 3, 2), torch.ones(1, 2, 3, 2))
    with pytest.raises(ValueError, match="holds 4 positions and 3 are taken, got 2 more.*larger max_seq_len"):
        cache.append(torch.full((1, 2, 2, 2), 9.0), torch.full((1, 2, 2, 2), 9.0))
    assert cache.length == 3 and cache.keys.max() == 1 and not cache.keys[:, :, 3:].any()
    cache.append(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))  # the last free place can still be used
    assert cache.length == 4


def test_cache_for_another_batch_size_is_refused():
    cache = KVCache(3, 2, max_seq_len=4, head_dim=2)
    with pytest.raises(ValueError, match="batch of 3, got 1"):
        cache.append(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))


@pytest.mark.parametrize("with_cache", [False, True])
def test_a_sequence_does_not_depend_on_its_neighbours_in_the_batch(with_cache):
    layer, config = make_layer(group=4)
    x, table = make_input(config, batch=3, length=7)

    def run(part):
        cache = KVCache(len(part), config.n_kv_heads, 7, config.head_dim, torch.float64) if with_cache else None
        with torch.no_grad():
            if cache is None:
                return layer(part, table)
            return torch.cat([layer(part[:, :4], table[:4], cache), layer(part[:, 4:], table[4:], cache)], dim=1)

    together = run(x)
    for b in range(3):
        torch.testing.assert_close(run(x[b : b + 1])[0], together[b], rtol=0, atol=1e-12)
    louder = x.clone()
    louder[0] *= 100
    torch.testing.assert_close(run(louder)[1:], together[1:], rtol=0, atol=1e-12)


def test_positions_count_only_relative_to_each_other():
    layer, config = make_layer(group=2)
    x, table = make_input(config, batch=1, length=6)
    moved = rotation_table(config.head_dim, torch.arange(100, 106), dtype=torch.float64)
    shuffled = rotation_table(config.head_dim, torch.tensor([0, 2, 1, 3, 4, 5]), dtype=torch.float64)
    torch.testing.assert_close(layer(x, moved), layer(x, table), rtol=0, atol=1e-10)
    assert (layer(x, shuffled) - layer(x, table)).abs().max() > 1e-3


@pytest.mark.parametrize("kernel", [plain_attention, fused_attention])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softmax_of_half_precision_scores_is_taken_in_float32(kernel, dtype):
    """4,096 equal keys: a bfloat16 running sum of ones stops at 256, a float16 one at 2,048; the truth is 4,096."""
    n = 4096
    q = torch.zeros(1, 1, 1, 8, dtype=dtype)
    k = torch.zeros(1, 1, n, 8, dtype=dtype)
    v = torch.ones(1, 1, n, 8, dtype=dtype)
    out = kernel(q, k, v)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), torch.ones(1, 1, 1, 8), rtol=0.01, atol=0)


def test_plain_softmax_equals_the_float32_softmax_of_the_rounded_scores():
    q, k, v = random_qkv(5, 1, 2, 2, 64, 64, 16, torch.bfloat16)
    scores = q @ k.transpose(-2, -1) / math.sqrt(16)
    weights = scores.float().masked_fill(~causal_mask(64, 64), -math.inf).softmax(-1)
    assert torch.equal(plain_attention(q, k, v), weights.bfloat16() @ v)


def test_large_scores_do_not_overflow():
    q, k, v = random_qkv(6, 1, 2, 1, 5, 5, 4, torch.float32)
    for kernel in (plain_attention, fused_attention):
        out = kernel(q * 1e4, k * 1e4, v)
        assert out.isfinite().all()
        assert out.abs().max() <= v.abs().max() + 1e-6  # an average never leaves the values' range


@pytest.mark.parametrize("n_queries, n_keys", [(1, 1), (1, 6), (4, 4), (3, 7)])
def test_mask_lets_the_query_at_position_m_see_keys_up_to_m(n_queries, n_keys):
    mask = causal_mask(n_queries, n_keys)
    for i in range(n_queries):
        position = n_keys - n_queries + i
        assert mask[i].tolist() == [n <= position for n in range(n_keys)]


def test_parameter_names_and_shapes_are_those_of_meta():
    layer, config = make_layer(group=4)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    kv_dim = config.n_kv_heads * config.head_dim
    assert shapes == {
        "wq.weight": (48, 48),
        "wk.weight": (kv_dim, 48),
        "wv.weight": (kv_dim, 48),
        "wo.weight": (48, 48),
    }


@pytest.mark.parametrize("group", GROUPS)
def test_bytes_of_real_caches_equal_the_formula(group):
    config = ModelConfig(dim=64, n_layers=3, n_heads=8, n_kv_heads=8 // group, vocab_size=10)
    layers = [KVCache(2, config.n_kv_heads, 50, config.head_dim, dtype=torch.float16) for _ in range(config.n_layers)]
    assert sum(c.keys.nbytes + c.values.nbytes for c in layers) == config.kv_cache_bytes(50, batch=2)


@pytest.mark.parametrize(
    "name, per_token, at_4096, at_100k",
    [
        ("llama-2-7b", 524_288, 2.00, 48.8),
        ("llama-2-13b", 819_200, 3.125, 76.3),
        ("llama-2-34b", 196_608, 0.75, 18.3),
        ("llama-2-70b", 327_680, 1.25, 30.5),
    ],
)
def test_cache_sizes_of_the_real_models(name, per_token, at_4096, at_100k):
    config = PRESETS[name]
    assert config.kv_cache_bytes(1) == per_token
    assert config.kv_cache_bytes(4096) == at_4096 * 2**30
    assert round(config.kv_cache_bytes(100_000) / 2**30, 1) == at_100k
