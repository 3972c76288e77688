"""Token rewards, advantages and losses against loops over Python numbers in float64, and properties of them."""

import math
import random

import pytest
import torch

from minillama.alignment.policy_gradient import (
    gae,
    kl_estimates,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)


def batch(seed, rows=5, longest=7):
    """Answers of random lengths: (mask, random tensors that hold noise outside the mask too)."""
    dice = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows,), generator=dice)
    mask = torch.arange(longest) < lengths[:, None]
    make = lambda: torch.randn(rows, longest, dtype=torch.float64, generator=dice)  # noqa: E731
    return mask, make


def rows_of(tensor, mask):
    return [row[keep].tolist() for row, keep in zip(tensor, mask, strict=True)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_gae_is_the_discounted_sum_of_surprises(seed, gamma, lam):
    mask, make = batch(seed)
    rewards, values = make(), make()
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for i, (r, v) in enumerate(zip(rows_of(rewards, mask), rows_of(values, mask), strict=True)):
        surprise = [r[t] + gamma * (v[t + 1] if t + 1 < len(v) else 0.0) - v[t] for t in range(len(r))]
        for t in range(len(r)):
            expected = sum((gamma * lam) ** (k - t) * surprise[k] for k in range(t, len(r)))
            assert abs(advantages[i, t].item() - expected) < 1e-9
            assert abs(returns[i, t].item() - expected - v[t]) < 1e-9
    assert (advantages[~mask] == 0).all() and (returns[~mask] == 0).all()


def test_with_lambda_one_the_advantage_is_what_came_minus_what_was_expected():
    mask, make = batch(1)
    rewards, values = make(), make()
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    for i, row in enumerate(rows_of(rewards, mask)):
        for t in range(len(row)):
            assert returns[i, t].item() == pytest.approx(sum(row[t:]), abs=1e-9)
            assert advantages[i, t].item() == pytest.approx(sum(row[t:]) - values[i, t].item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_paid_on_the_last_token_and_the_penalty_on_each(seed):
    mask, make = batch(seed)
    old, reference, scores = make(), make(), make()[:, 0]
    rewards = token_rewards(scores, old, reference, mask, beta=0.3)
    for i, (a, b) in enumerate(zip(rows_of(old, mask), rows_of(reference, mask), strict=True)):
        expected = [-0.3 * (x - y) for x, y in zip(a, b, strict=True)]
        expected[-1] += scores[i].item()
        assert rewards[i, : len(a)].tolist() == pytest.approx(expected, abs=1e-12)
        assert rewards[i].sum().item() == pytest.approx(scores[i].item() - 0.3 * sum(a) + 0.3 * sum(b), abs=1e-9)
    assert (rewards[~mask] == 0).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clip", [0.2, 0.05, math.inf])
def test_the_losses_equal_loops(seed, clip):
    mask, make = batch(seed)
    new, old, advantages, values, returns = make() / 3, make() / 3, make(), make(), make()
    policy = value = 0.0
    for x, y, a, v, r in zip(*(rows_of(z, mask) for z in (new, old, advantages, values, returns)), strict=True):
        for i in range(len(x)):
            ratio = math.exp(x[i] - y[i])
            policy -= min(ratio * a[i], min(max(ratio, 1 - clip), 1 + clip) * a[i])
            held = v[i] + min(max(x[i] - v[i], -clip), clip)
            value += max((x[i] - r[i]) ** 2, (held - r[i]) ** 2) / 2
    n = int(mask.sum())
    assert abs(policy_loss(new, old, advantages, mask, clip).item() - policy / n) < 1e-9
    assert abs(value_loss(new, values, returns, mask, clip).item() - value / n) < 1e-9


def test_wider_padding_and_noise_in_it_change_nothing():
    mask, make = batch(5)
    tensors = [make() for _ in range(4)]
    wide_mask = torch.cat([mask, torch.zeros(5, 3, dtype=torch.bool)], 1)
    noise = lambda x: torch.cat([torch.where(mask, x, 77.0), torch.full((5, 3), -55.0, dtype=x.dtype)], 1)  # noqa: E731
    wide = [noise(x) for x in tensors]

    def everything(new, old, reference, values, mask):
        rewards = token_rewards(torch.arange(5.0, dtype=torch.float64), old, reference, mask, 0.1)
        advantages, returns = gae(rewards, values, mask)
        whitened = whiten(advantages, mask)
        return (policy_loss(new, old, whitened, mask), value_loss(new, values, returns, mask))

    for narrow, padded in zip(everything(*tensors, mask), everything(*wide, wide_mask), strict=True):
        assert abs(narrow.item() - padded.item()) < 1e-9


@pytest.mark.parametrize("clip", [0.2, math.inf])
def test_gradients_of_the_objective_are_right(clip):
    mask, make = batch(2, rows=3, longest=4)
    old, advantages, values, returns = make() / 5, make(), make(), make()
    new = (old + make() / 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, old, advantages, mask, clip), (new,))
    expected = (values + make()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value_loss(x, values, returns, mask, clip), (expected,))


def test_at_the_old_policy_the_gradient_is_that_of_the_policy_gradient():
    mask, make = batch(3)
    old, advantages = make(), make()
    new = old.clone().requires_grad_()
    (slope,) = torch.autograd.grad(policy_loss(new, old, advantages, mask, 0.2), new)
    assert torch.allclose(slope, torch.where(mask, -advantages, 0.0) / mask.sum(), atol=1e-12)


def test_clipping_stops_the_gain_and_never_the_way_back():
    mask = torch.ones(1, 4, dtype=torch.bool)
    new = torch.log(torch.tensor([[1.5, 1.5, 0.5, 0.5]], dtype=torch.float64)).requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    (slope,) = torch.autograd.grad(policy_loss(new, torch.zeros_like(new), advantages, mask, 0.2), new)
    assert (slope != 0).tolist() == [[False, True, True, False]]


def test_whitening():
    mask, make = batch(4)
    values = make() * 3 + 5
    white = whiten(values, mask)
    assert white[mask].mean().item() == pytest.approx(0, abs=1e-9)
    assert white[mask].var(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert (white[~mask] == 0).all()
    assert torch.allclose(whiten(7 * values - 3, mask), white, atol=1e-6)  # scale and zero of a reward do not count
    assert torch.isfinite(whiten(torch.full((3,), 2.0))).all()


def test_three_estimates_of_one_divergence():
    dice = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 6, dtype=torch.float64, generator=dice).mul(0.4).log_softmax(-1)
    k1, k2, k3 = kl_estimates(p, q)  # of each outcome
    weights = p.exp()
    true = (weights * (p - q)).sum().item()
    assert (weights * k1).sum().item() == pytest.approx(true, abs=1e-12)
    assert (weights * k3).sum().item() == pytest.approx(true, abs=1e-12)  # both are unbiased
    assert (weights * k2).sum().item() != pytest.approx(true, abs=1e-6)
    assert (k2 >= 0).all() and (k3 >= 0).all() and (k1 < 0).any()
    spread = [((weights * k**2).sum() - (weights * k).sum() ** 2).item() for k in (k1, k2, k3)]
    assert spread[2] < spread[0] and spread[1] < spread[0]


def test_random_numbers_of_any_length(seed=0):
    lots = random.Random(seed)
    for _ in range(30):
        mask, make = batch(lots.randrange(10**6), rows=lots.randint(1, 4), longest=lots.randint(1, 9))
        advantages, returns = gae(make(), make(), mask, lots.random(), lots.random())
        assert advantages.shape == mask.shape and torch.isfinite(returns).all()
