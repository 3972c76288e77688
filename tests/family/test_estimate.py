"""The arithmetic of memory against published numbers and real buffers, and what a refusal says."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minillama.family import estimate as module
from minillama.family.estimate import GIB, DoesNotFit, available_memory, estimate, measure_bandwidth, measure_reading
from minillama.family.estimate import refuse as refuse_
from minillama.family.quantization import quantize
from minillama.model.config import PRESETS
from minillama.model.transformer import Llama

SEVEN = PRESETS["llama-2-7b"]


def test_weights_of_7b_and_70b_in_two_bytes():
    assert estimate(SEVEN).weights == 2 * 6_738_415_616
    assert round(estimate(SEVEN).weights / GIB, 2) == 12.55  # printed by Code Llama's README
    assert round(estimate(PRESETS["llama-2-70b"]).weights / GIB, 2) == 128.48


@pytest.mark.parametrize(
    ("name", "tokens", "gib"),
    [("llama-2-7b", 4096, 2.0), ("llama-2-13b", 4096, 3.125), ("llama-2-70b", 4096, 1.25), ("code-llama-7b", 16384, 8)],
)
def test_caches(name, tokens, gib):
    assert estimate(PRESETS[name], tokens=tokens).cache == gib * GIB
    assert estimate(PRESETS[name], tokens=tokens, batch=3).cache == 3 * gib * GIB


def test_a_cache_is_never_longer_than_the_context():
    assert estimate(SEVEN, tokens=100_000).tokens == 4096


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_weights_are_the_buffers(bits):
    config = replace(PRESETS["nano"], n_layers=3)
    model = quantize(Llama(config).bfloat16(), bits, group=32)
    found = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert estimate(config, f"int{bits}", group=32).weights == found


def test_what_is_mapped_can_be_taken_back():
    mapped, copied = estimate(SEVEN), estimate(SEVEN, "float32")
    assert mapped.mapped == mapped.weights and mapped.anonymous < 1.5 * GIB
    assert copied.mapped == 0 and copied.anonymous == copied.total > 25 * GIB
    assert estimate(SEVEN, "bfloat16").mapped and not estimate(SEVEN, "bfloat16", file_dtype=torch.float16).mapped
    assert estimate(SEVEN, "float16", file_dtype=torch.float16).mapped


def test_targets_at_7b():
    assert estimate(SEVEN, "int8", tokens=512).total < 7.5 * GIB
    assert estimate(SEVEN, "int4", tokens=512).total < 5 * GIB


def test_times_follow_from_bytes():
    one = estimate(SEVEN)
    assert one.read_seconds(1e9) == pytest.approx(13.476831232)
    assert one.tokens_per_second(20e9) == pytest.approx(20e9 / (one.weights - 32000 * 4096 * 2 + one.cache))
    assert estimate(SEVEN, "int4").tokens_per_second(20e9) > 2 * one.tokens_per_second(20e9)


def refusal(precision: str, free: float, name: str = "llama-2-7b") -> str:
    with pytest.raises(DoesNotFit) as caught:
        refuse_(estimate(PRESETS[name], precision), int(free * GIB))
    return str(caught.value)


def test_the_free_colab_gets_advice():
    text = refusal("file", 11.2)
    assert "6.74 billion parameters as file with 2048 tokens" in text
    assert re.search(r"need 13\.\d GiB and 11\.2 GiB are free", text)
    assert "int8" in text and "int4" in text and "reads from the disk again for every token" in text
    refuse_(estimate(SEVEN, "int8"), int(11.2 * GIB))
    refuse_(estimate(SEVEN), int(14.5 * GIB))


def test_advice_names_only_what_fits():
    text = refusal("file", 6)
    assert "int4 (" in text and "int8" not in text
    assert "no precision of this model fits" in refusal("int4", 2)
    assert "no precision" in refusal("file", 32, "llama-2-70b")
    assert "disk" not in refusal("float32", 20)


def test_free_memory_is_less_in_a_limited_group(tmp_path, monkeypatch):
    assert 2**26 < available_memory() < 2**45
    monkeypatch.setattr(module, "_limits", lambda: iter([12345]))
    assert available_memory() == 12345


def test_unknown_precision():
    with pytest.raises(ValueError, match="got 'int3'"):
        estimate(SEVEN, "int3")


def test_speeds_are_measured(tmp_path: Path):
    assert 1e8 < measure_bandwidth(0.01) < 1e13
    file = tmp_path / "numbers"
    file.write_bytes(bytes(2**22))
    assert measure_reading(file) > 1e5
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        measure_reading(file)
