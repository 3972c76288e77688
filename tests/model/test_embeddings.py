"""RMSNorm and lookup against their equations."""

import pytest
import torch

from minillama.model.embeddings import RMSNorm, nearest, one_hot_lookup


def equation(x, weight, eps):
    return torch.stack([row / (sum(v * v for v in row) / len(row) + eps).sqrt() * weight for row in x])


def test_rmsnorm_is_the_equation_in_float64():
    torch.manual_seed(0)
    norm = RMSNorm(12, eps=1e-3).double()
    norm.weight.data.normal_()
    x = torch.randn(5, 12, dtype=torch.float64)
    torch.testing.assert_close(norm(x), equation(x, norm.weight, 1e-3), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rmsnorm_takes_its_statistics_in_float32_and_the_gain_after_the_cast(dtype):
    torch.manual_seed(1)
    norm = RMSNorm(64, eps=1e-5).to(dtype)
    norm.weight.data.normal_()
    x = torch.randn(7, 64).to(dtype)
    wide = x.float()
    normed = wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + 1e-5)
    expected = normed.to(dtype) * norm.weight
    assert norm(x).dtype == dtype
    assert torch.equal(norm(x), expected)
    assert not torch.equal(norm(x), (normed * norm.weight.float()).to(dtype))  # the other order is a different number


def test_rmsnorm_of_zero_is_zero_and_scale_does_not_matter():
    norm = RMSNorm(8)
    assert torch.equal(norm(torch.zeros(2, 8)), torch.zeros(2, 8))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(norm(1000 * x), norm(100_000 * x))


def test_float16_does_not_overflow():
    assert RMSNorm(4).half()(torch.full((1, 4), 60000.0, dtype=torch.float16)).isfinite().all()


def test_one_hot_lookup_is_indexing():
    table = torch.randn(11, 4, dtype=torch.float64)
    tokens = torch.tensor([[3, 0], [10, 3]])
    assert torch.equal(one_hot_lookup(tokens, table), table[tokens])


def test_nearest_orders_by_cosine_and_ignores_length():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 5.0], [10.0, 10.0], [-1.0, 0.0]])
    values, rows = nearest(vectors, torch.tensor([1.0, 0.1]), k=3)
    assert rows.tolist() == [0, 2, 1]
    assert values[0] > values[1] > values[2]
    with pytest.raises(ValueError, match="shape"):
        nearest(vectors, torch.zeros(3))
    with pytest.raises(ValueError, match="k must be"):
        nearest(vectors, torch.zeros(2), k=5)
