"""Rotary positions: the definition, the relative-position property, both layouts."""

import cmath

import pytest
import torch

from minillama.model.rope import (
    apply_rotary,
    apply_rotary_real,
    permute_to_hf,
    permute_to_meta,
    rotation_table,
    wavelengths,
)


def test_is_the_equation_pair_by_pair():
    x = torch.randn(1, 1, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 5, 1000])
    turned = apply_rotary(x, rotation_table(8, positions, 10_000.0, torch.float64))
    for t, m in enumerate(positions.tolist()):
        for j in range(4):
            z = complex(x[0, 0, t, 2 * j], x[0, 0, t, 2 * j + 1]) * cmath.exp(1j * m * 10_000 ** (-2 * j / 8))
            assert abs(z - complex(turned[0, 0, t, 2 * j], turned[0, 0, t, 2 * j + 1])) < 1e-12


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_scores_depend_on_distance_only(theta):
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 16, dtype=torch.float64, generator=generator)

    def score(m, n):
        table = rotation_table(16, torch.tensor([m, n]), theta, torch.float64)
        return (apply_rotary(q[None], table[:1]) * apply_rotary(k[None], table[1:])).sum()

    for m, n, shift in [(3, 7, 10), (100, 2, 5000), (0, 0, 99)]:
        assert abs(score(m, n) - score(m + shift, n + shift)) < 1e-10
    assert abs(score(3, 7) - score(3, 8)) > 1e-6


def test_norms_are_kept_and_position_zero_is_the_identity():
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    turned = apply_rotary(x, rotation_table(6, torch.arange(9), dtype=torch.float64))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_real_form_equals_complex_form(dtype):
    x = torch.randn(2, 3, 11, 8).to(dtype)
    table = rotation_table(8, torch.arange(11), dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    a, b = apply_rotary(x, table), apply_rotary_real(x, table)
    assert a.dtype == b.dtype == dtype
    torch.testing.assert_close(a, b, rtol=1e-5 if dtype != torch.bfloat16 else 1e-2, atol=1e-6)


def test_permutation_order_for_a_head_of_eight():
    rows = torch.arange(8.0)[:, None].expand(8, 2)
    assert permute_to_hf(rows, 1)[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    weight = torch.randn(24, 5)
    assert torch.equal(permute_to_meta(permute_to_hf(weight, 3), 3), weight)
    assert not torch.equal(permute_to_hf(weight, 3), permute_to_hf(weight, 1))


def test_half_split_rotation_of_permuted_rows_gives_the_same_scores():
    generator = torch.Generator().manual_seed(3)
    heads, hd, dim, length = 2, 8, 12, 6
    x = torch.randn(length, dim, dtype=torch.float64, generator=generator)
    wq, wk = torch.randn(2, heads * hd, dim, dtype=torch.float64, generator=generator)
    table = rotation_table(hd, torch.arange(length), dtype=torch.float64)

    def split_heads(weight):
        return (x @ weight.T).view(length, heads, hd).transpose(0, 1)

    def half_split(v):  # rotate_half, as Hugging Face writes it
        angle = torch.cat((table.angle(), table.angle()), -1)
        a, b = v.chunk(2, -1)
        return v * angle.cos() + torch.cat((-b, a), -1) * angle.sin()

    meta = apply_rotary(split_heads(wq), table) @ apply_rotary(split_heads(wk), table).transpose(-1, -2)
    q, k = (half_split(split_heads(permute_to_hf(w, heads))) for w in (wq, wk))
    torch.testing.assert_close(q @ k.transpose(-1, -2), meta, rtol=1e-12, atol=1e-12)


def test_wavelengths_of_the_real_models():
    base, code = wavelengths(128), wavelengths(128, 1e6)
    assert base[0] == pytest.approx(6.2832, abs=1e-4) and base[-1] == pytest.approx(54_410, abs=1)
    assert int((base <= 4096).sum()) == 46
    assert code[-1] == pytest.approx(5_063_256, abs=1) and int((code <= 100_000).sum()) == 45


def test_odd_head_size_is_refused():
    with pytest.raises(ValueError, match="even, got 7"):
        rotation_table(7, torch.arange(3))
