"""The published shapes, counts and cache sizes, against values worked out from the papers' tables."""

import pytest

from minillama.model.config import PRESETS, ModelConfig, ffn_hidden

TOTALS = {  # exact counts from the published shapes; Touvron et al. 2023a, table 2 prints 6.7B, 13.0B, 32.5B, 65.2B
    "llama-1-7b": 6_738_415_616,
    "llama-1-13b": 13_015_864_320,
    "llama-1-33b": 32_528_943_616,
    "llama-1-65b": 65_285_660_672,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-34b": 33_743_970_304,
    "llama-2-70b": 68_976_648_192,
    "code-llama-7b": 6_738_546_688,
    "code-llama-13b": 13_016_028_160,
    "code-llama-34b": 33_743_970_304,
    "code-llama-70b": 68_976_910_336,
}


@pytest.mark.parametrize("name, total", TOTALS.items())
def test_parameter_totals_of_the_published_models(name, total):
    assert PRESETS[name].n_parameters() == total


@pytest.mark.parametrize(
    "dim, multiple_of, multiplier, hidden",
    [
        (4096, 256, None, 11008),
        (5120, 256, None, 13824),
        (6656, 256, None, 17920),
        (8192, 256, None, 22016),
        (8192, 256, 1.0, 22016),
        (8192, 4096, 1.3, 28672),
    ],
)
def test_feed_forward_width(dim, multiple_of, multiplier, hidden):
    assert ffn_hidden(dim, multiple_of, multiplier) == hidden


def test_parts_of_a_layer():
    parts = PRESETS["llama-2-70b"].parameter_counts()
    assert parts["attention"] == 80 * 150_994_944
    assert parts["feed_forward"] == 80 * 704_643_072
    assert parts["embedding"] == parts["output"] == 32000 * 8192


@pytest.mark.parametrize(
    "name, per_token, at_4096",
    [
        ("llama-2-7b", 524_288, 2.0),
        ("llama-2-13b", 819_200, 3.125),
        ("llama-2-34b", 196_608, 0.75),
        ("llama-2-70b", 327_680, 1.25),
    ],
)
def test_kv_cache_bytes(name, per_token, at_4096):
    assert PRESETS[name].kv_cache_bytes(1) == per_token
    assert PRESETS[name].kv_cache_bytes(4096) / 2**30 == at_4096
    assert PRESETS[name].kv_cache_bytes(10, batch=3, bytes_per_value=4) == per_token * 60


@pytest.mark.parametrize(
    "name, plain, with_attention",
    [
        ("llama-2-7b", 8.086e22, 9.375e22),
        ("llama-2-13b", 1.562e23, 1.763e23),
        ("llama-2-34b", 4.049e23, 4.436e23),
        ("llama-2-70b", 8.277e23, 8.921e23),
    ],
)
def test_training_compute_for_two_trillion_tokens(name, plain, with_attention):
    assert 2e12 * PRESETS[name].flops_per_token(training=True) == pytest.approx(plain, rel=5e-4)
    assert 2e12 * PRESETS[name].flops_per_token(4096, training=True) == pytest.approx(with_attention, rel=5e-4)
    assert PRESETS[name].flops_per_token(100, training=True) == 3 * PRESETS[name].flops_per_token(100)


def test_params_json_round_trip_and_meta_files():
    for config in PRESETS.values():
        assert ModelConfig.from_params_json(config.to_params_json()) == config
    meta_70b = {"dim": 8192, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "n_heads": 64, "n_kv_heads": 8,
                "n_layers": 80, "norm_eps": 1e-05, "vocab_size": -1}  # fmt: skip
    assert ModelConfig.from_params_json(meta_70b, vocab_size=32000) == PRESETS["llama-2-70b"]


@pytest.mark.parametrize(
    "params, word",
    [
        ({"dim": 64, "n_layers": 1, "n_heads": 2, "vocab_size": -1}, "pass vocab_size"),
        ({"dim": 64, "n_layers": 1, "n_heads": 2, "vocab_size": 9, "moe": 1}, "moe"),
        ({"n_layers": 1, "n_heads": 2, "vocab_size": 9}, "dim"),
    ],
)
def test_bad_params_json(params, word):
    with pytest.raises(ValueError, match=word):
        ModelConfig.from_params_json(params)


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"dim": 0}, "dim"),
        ({"dim": 65, "n_heads": 2}, "n_heads must divide dim"),
        ({"dim": 6, "n_heads": 2}, "even"),
        ({"dim": 64, "n_heads": 8, "n_kv_heads": 3}, "n_kv_heads"),
        ({"n_layers": 2.5}, "n_layers"),
        ({"norm_eps": 0.0}, "norm_eps"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"hidden_dim": 0}, "feed-forward"),
    ],
)
def test_sizes_that_do_not_fit(fields, word):
    with pytest.raises(ValueError, match=word):
        ModelConfig(**fields)
