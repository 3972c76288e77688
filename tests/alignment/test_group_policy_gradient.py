"""REINFORCE, RLOO and GRPO: loops in float64, a bandit whose optimum is known, batches that change nothing, resume."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from bandit import ARMS, ONE_TOKEN, PAYS, NoText, chances, objective, reward, tilted

from minillama import data_path
from minillama.alignment.group_policy_gradient import METHODS, GroupPolicyGradient, group_advantages, grpo_loss
from minillama.alignment.policy_gradient import policy_loss
from minillama.alignment.ppo import PPOConfig
from minillama.model.checkpoints import CheckpointError
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.requests import requests

GROUPS = {"reinforce": 1, "rloo": 4, "grpo": 4}


# The functions against loops -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_advantages_equal_loops(seed):
    rewards = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rewards[2] = 0.7  # a group in which nothing can be told apart
    rows = rewards.tolist()
    everything = [r for row in rows for r in row]
    for n, row in enumerate(rows):
        mean = sum(row) / len(row)
        spread = math.sqrt(sum((r - mean) ** 2 for r in row) / len(row))
        for k, r in enumerate(row):
            others = [x for i, x in enumerate(row) if i != k]
            expected = {
                "reinforce": r - sum(everything) / len(everything),
                "rloo": r - sum(others) / len(others),
                "grpo": (r - mean) / math.sqrt(spread**2 + 1e-8),
            }
            for method in METHODS:
                assert abs(group_advantages(rewards, method)[n, k].item() - expected[method]) < 1e-9


def losses(seed, rows=5, longest=7):
    dice = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows,), generator=dice)
    mask = torch.arange(longest) < lengths[:, None]
    new, old, reference = (torch.randn(rows, longest, dtype=torch.float64, generator=dice) / 3 for _ in range(3))
    return new, old, reference, torch.randn(rows, dtype=torch.float64, generator=dice), mask


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clip", [0.2, math.inf])
def test_the_loss_of_grpo_equals_a_loop(seed, clip, beta=0.3):
    new, old, reference, advantages, mask = losses(seed)
    total = 0.0
    for x, y, z, a, keep in zip(*(t.tolist() for t in (new, old, reference, advantages, mask)), strict=True):
        own = 0.0
        for t in range(sum(keep)):
            ratio = math.exp(x[t] - y[t])
            own += min(ratio * a, min(max(ratio, 1 - clip), 1 + clip) * a)
            own -= beta * (math.exp(z[t] - x[t]) - (z[t] - x[t]) - 1)
        total -= own / sum(keep)
    found = grpo_loss(new, old, reference, advantages, mask, beta, clip)
    assert abs(found.item() - total / len(mask)) < 1e-9


def test_padding_and_the_batch_change_nothing():
    new, old, reference, advantages, mask = losses(3)
    whole = grpo_loss(new, old, reference, advantages, mask, 0.2)

    def noise(x):
        return torch.cat([torch.where(mask, x, 7.0), torch.full((5, 3), -5.0, dtype=x.dtype)], 1)

    wide = torch.cat([mask, torch.zeros(5, 3, dtype=torch.bool)], 1)
    assert abs((grpo_loss(noise(new), noise(old), noise(reference), advantages, wide, 0.2) - whole).item()) < 1e-9
    alone = [grpo_loss(*(x[i : i + 1] for x in (new, old, reference, advantages, mask)), 0.2) for i in range(5)]
    assert abs((sum(alone) / 5 - whole).item()) < 1e-9


@pytest.mark.parametrize("clip", [0.2, math.inf])
def test_the_gradient_is_right(clip):
    new, old, reference, advantages, mask = losses(4, rows=3, longest=4)
    new = (old + new / 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: grpo_loss(x, old, reference, advantages, mask, 0.3, clip), (new,))


def exact(logits, reference, rewards, beta, method):
    """Gradient of the expected loss of one-token answers over all answers and, for the advantages, an endless group."""
    p = logits.detach().softmax(-1)
    mean = (p * rewards).sum()
    spread = (p * (rewards - mean) ** 2).sum().sqrt()
    new, mask = logits.log_softmax(-1)[:, None], torch.ones(len(p), 1, dtype=torch.bool)
    total = 0.0
    for a in range(len(p)):  # each arm alone, weighed by how often it is drawn
        row = slice(a, a + 1)
        if method == "grpo":
            own = grpo_loss(
                new[row], new[row].detach(), reference[row, None], (rewards[row] - mean) / spread, mask[row], beta
            )
        else:
            kl = (p[a].log() - reference[a]) * beta
            own = policy_loss(new[row], new[row].detach(), (rewards[row] - kl)[:, None], mask[row], math.inf)
        total = total + p[a] * own
    return torch.autograd.grad(total, logits)[0]


def numeric(function, x, step=1e-6):
    rows = [
        (function(x + step * e) - function(x - step * e)).item() / (2 * step) for e in torch.eye(len(x)).to(x.dtype)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def test_the_sampled_loss_points_along_the_objective(beta=0.3):
    """Checked numerically: REINFORCE follows E[r] - beta KL(pi || pi_0), GRPO E[r] / sigma - beta KL(pi_0 || pi)."""
    dice = torch.Generator().manual_seed(1)
    reference = torch.randn(ARMS, dtype=torch.float64, generator=dice).log_softmax(-1)
    logits = torch.randn(ARMS, dtype=torch.float64, generator=dice, requires_grad=True)
    rewards = PAYS.double()
    held = logits.detach().softmax(-1)
    sigma = ((held * rewards**2).sum() - (held * rewards).sum() ** 2).sqrt()

    def backward_kl(x):
        p = x.softmax(-1)
        return (p * rewards).sum() - beta * (p * (x.log_softmax(-1) - reference)).sum()

    def forward_kl(x):
        return (x.softmax(-1) * rewards).sum() / sigma - beta * (
            reference.exp() * (reference - x.log_softmax(-1))
        ).sum()

    x = logits.detach()
    assert torch.allclose(-exact(logits, reference, rewards, beta, "rloo"), numeric(backward_kl, x), atol=1e-8)
    assert torch.allclose(-exact(logits, reference, rewards, beta, "grpo"), numeric(forward_kl, x), atol=1e-8)


@pytest.mark.parametrize("k", [2, 4, 16])
def test_leaving_an_answer_out_keeps_the_gradient_unbiased(k):
    """The mean of advantage times score over many groups: right with RLOO, too small with the mean of all."""
    dice = torch.Generator().manual_seed(k)
    values = torch.randn(4000, k, dtype=torch.float64, generator=dice)
    right = (values * values).mean().item()  # reward = score function = value: E[r s]
    rloo = (group_advantages(values, "rloo") * values).mean().item()
    plain = ((values - values.mean(1, keepdim=True)) * values).mean().item()
    assert rloo == pytest.approx(right, abs=0.05)
    assert plain == pytest.approx(rloo * (k - 1) / k, abs=1e-9)


# A bandit ------------------------------------------------------------------------------------------------------------


def bandit(method, seed, beta=0.0, group=None, **numbers):
    """A run in which each answer is one token that pays its price."""
    settings = {"iterations": 40, "batch_size": 48, "minibatch_size": 16, "lr": 2e-2, "whiten_rewards": False}
    config = PPOConfig(**(settings | numbers), no_end=0.0, beta=beta, max_new_tokens=1, seed=seed)

    policy, group = Llama(ONE_TOKEN, seed), group or GROUPS[method]
    return GroupPolicyGradient(policy, NoText(), [None] * 48, reward, config, method, group, encode=lambda _: [0])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("method", METHODS)
def test_the_best_arm_is_found(method, seed):
    run = bandit(method, seed)
    records = run.train(progress=False)
    assert (chances(run.policy) * PAYS).sum() >= 0.99 * PAYS.max()
    assert max(record.first_ratio for record in records) < 1e-5  # but for rounding


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("method", ["reinforce", "rloo"])
def test_with_a_penalty_the_optimum_is_the_tilted_reference(method, seed, beta=0.3):
    run = bandit(method, seed, beta, lr=1e-2, iterations=60)
    run.train(progress=False)
    reference = chances(run.reference)
    best = tilted(reference, beta)
    assert objective(chances(run.policy), reference, beta) >= 0.99 * objective(best, reference, beta)
    assert (chances(run.policy) - best).abs().max() < 0.12


def where_grpo_rests(reference, beta):
    """pi_0 / (1 - A / beta): where E[A grad ln pi] = beta grad KL(pi_0 || pi), A in standard deviations."""
    p = reference.clone()
    for _ in range(4000):
        mean = (p * PAYS).sum()
        advantages = (PAYS - mean) / ((p * (PAYS - mean) ** 2).sum().sqrt() + 1e-9)
        p = p * (0.02 * (advantages - beta * (1 - reference / p))).exp()
        p /= p.sum()
    return p


@pytest.mark.parametrize("seed", range(10))
def test_with_a_penalty_grpo_rests_elsewhere(seed, beta=2.0):
    run = bandit("grpo", seed, beta, group=48, iterations=60)
    run.train(progress=False)
    reference = chances(run.reference)
    expected = where_grpo_rests(reference, beta)
    tilted = reference * (PAYS / PAYS.std() / beta).exp()

    def objective(p, spread):
        return (p * PAYS).sum().item() / spread - beta * (reference * (reference / p).log()).sum().item()

    mean = (expected * PAYS).sum()
    spread = ((expected * (PAYS - mean) ** 2).sum().sqrt()).item()
    assert objective(chances(run.policy), spread) >= 0.99 * objective(expected, spread)
    assert (chances(run.policy) - expected).abs().max() < 0.12
    assert (expected - tilted / tilted.sum()).abs().max() > 0.01


# A run ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def village():
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
    return Llama(config, 0), Tokenizer.from_file(data_path("tokenizer.model"))


def length(_, answers):
    return torch.tensor([float(len(answer.tokens)) for answer in answers])


def run_of(village, method="rloo", folder=None, group=2, **numbers):
    policy, tokenizer = village
    settings = {"iterations": 3, "batch_size": 6, "minibatch_size": 3, "max_new_tokens": 8, "lr": 1e-3, "beta": 0.1}
    return GroupPolicyGradient(
        copy.deepcopy(policy), tokenizer, requests("train", 12, 0), length, PPOConfig(**(settings | numbers)), method,
        group, folder=folder,
    )  # fmt: skip


def test_a_group_answers_one_prompt(village):
    run = run_of(village)
    group = run.rollout()
    assert [r.lines for r in group.requests[::2]] == [r.lines for r in group.requests[1::2]]
    assert len({r.lines for r in group.requests}) == 3
    assert group.mask.sum(1).tolist() == [len(answer.tokens) for answer in group.answers]
    assert torch.allclose(group.advantages.view(3, 2).sum(1), torch.zeros(3), atol=1e-5)
    assert [a.tokens for a in run.rollout().answers] == [a.tokens for a in group.answers]


@pytest.mark.parametrize("method", METHODS)
def test_the_penalty_is_in_the_reward_or_in_the_loss(village, method):
    run = run_of(village, method, beta=0.5, lr=5e-3)
    run.train(2, progress=False)
    group = run.rollout()
    plain = replace(run.config, beta=0.0)
    k1 = torch.where(group.mask, group.old - group.reference, 0.0).sum(1)
    assert k1.abs().max() > 1e-3
    run.config = plain
    without = run.rollout().rewards
    in_reward = torch.zeros(6) if method == "grpo" else 0.5 * k1
    assert torch.allclose(without - group.rewards, in_reward, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_order_and_batch_composition_do_not_change_the_loss(village, method):
    run = run_of(village, method)
    run.policy.double(), run.reference.double()
    run.train(1, progress=False)
    group = run.rollout()
    whole, turned = run.loss(group, range(6))[0].item(), run.loss(group, [5, 3, 1, 0, 2, 4])[0].item()
    assert abs(whole - turned) < 1e-9
    parts = [
        (run.loss(group, [i])[0].item(), 1 if method == "grpo" else len(group.answers[i].tokens)) for i in range(6)
    ]
    assert abs(whole - sum(loss * n for loss, n in parts) / sum(n for _, n in parts)) < 1e-9


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_a_stopped_run_goes_on_exactly(village, method, tmp_path):
    whole = run_of(village, method)
    expected = whole.train(progress=False)
    first = run_of(village, method, tmp_path / "run")
    first.train(1, progress=False)
    second = run_of(village, method, tmp_path / "run")
    assert second.iteration == 1
    assert second.train(progress=False) == expected[1:]
    for name, weight in whole.policy.state_dict().items():
        assert torch.equal(weight, second.policy.state_dict()[name]), name
    assert torch.equal(second.reference.output.weight, whole.reference.output.weight)
    for change in ({"beta": 0.7}, {"group": 3}):
        with pytest.raises(CheckpointError, match="another folder"):
            run_of(village, method, tmp_path / "run", **change)


def test_stopping_early(village):
    run = run_of(village, iterations=50)
    records = run.train(on_iteration=lambda run, record: record.iteration == 2, progress=False)
    assert [record.iteration for record in records] == [1, 2] and run.iteration == 2


def test_what_cannot_be_run_is_refused(village):
    with pytest.raises(ValueError, match="'ppo'"):
        run_of(village, "ppo")
    with pytest.raises(ValueError, match="at least 2 of them, got 1"):
        run_of(village, "grpo", group=1)
    with pytest.raises(ValueError, match="divide batch_size 6, got 4"):
        run_of(village, group=4)
    with pytest.raises(ValueError, match="only 12"):
        run_of(village, batch_size=30)
