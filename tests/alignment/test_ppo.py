"""PPO: a bandit whose optimum is known, batches that change nothing, a run that goes on exactly."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from bandit import ONE_TOKEN, PAYS, NoText, chances, objective, reward, tilted

from minillama import data_path
from minillama.alignment.policy_gradient import policy_loss
from minillama.alignment.ppo import PPO, PPOConfig, token_values, whole_reward
from minillama.alignment.reward import reward_model
from minillama.alignment.sampling import Answer, logprobs
from minillama.model.checkpoints import CheckpointError
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.requests import requests


def bandit(seed, beta=0.0, **numbers):
    """A run in which each answer is one token that pays its price."""
    settings = {
        "iterations": 30,
        "batch_size": 48,
        "minibatch_size": 16,
        "lr": 2e-2,
        "value_lr": 2e-2,
        "whiten_rewards": False,
        "no_end": 0.0,
    }
    config = PPOConfig(**(settings | numbers), beta=beta, max_new_tokens=1, seed=seed)
    value = Llama(replace(ONE_TOKEN, n_outputs=1), seed + 50)

    return PPO(Llama(ONE_TOKEN, seed), value, NoText(), [None] * 48, reward, config, encode=lambda _: [0])


@pytest.mark.parametrize("seed", range(10))
def test_the_best_arm_is_found(seed):
    run = bandit(seed)
    records = run.train(progress=False)
    assert (chances(run.policy) * PAYS).sum() >= 0.99 * PAYS.max()
    assert max(record.first_ratio for record in records) < 1e-5  # but for rounding


@pytest.mark.parametrize("seed", range(10))
def test_with_a_penalty_the_optimum_is_the_tilted_reference(seed, beta=0.3):
    run = bandit(seed, beta)
    run.train(progress=False)
    reference = chances(run.reference)
    best = tilted(reference, beta)
    assert objective(chances(run.policy), reference, beta) >= 0.99 * objective(best, reference, beta)
    assert (chances(run.policy) - best).abs().max() < 0.1


@pytest.mark.parametrize(("target", "factor"), [(1e-9, 1.02), (1e3, 0.98)])
def test_the_controller_turns_beta_by_a_tenth_of_the_error(target, factor):
    run = bandit(0, 0.05, target_kl=target, iterations=2)
    records = run.train(progress=False)
    assert records[0].kl == pytest.approx(0, abs=1e-6) and records[1].kl > 0.001
    assert run.beta == pytest.approx(records[1].beta * factor)


@pytest.fixture(scope="module")
def village():
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
    policy = Llama(config, 0)
    return policy, reward_model(policy, 1), Tokenizer.from_file(data_path("tokenizer.model"))


def length(_, answers):
    return torch.tensor([float(len(answer.tokens)) for answer in answers])


def run_of(village, folder=None, **numbers):
    policy, value, tokenizer = village
    settings = {"iterations": 3, "batch_size": 6, "minibatch_size": 3, "max_new_tokens": 8, "lr": 1e-3}
    config = PPOConfig(**(settings | numbers))
    return PPO(
        copy.deepcopy(policy), copy.deepcopy(value), tokenizer, requests("train", 12, 0), length, config, folder=folder
    )


def test_columns_belong_to_tokens(village):
    policy, value, _ = village
    policy, value = copy.deepcopy(policy).double(), copy.deepcopy(value).double()
    prompts, answers = [[1, 5, 6], [1, 7]], [Answer("", (8, 9, 2), True), Answer("", (4,), False)]
    for prompt, answer, lp, v in zip(
        prompts, answers, logprobs(policy, prompts, answers), token_values(value, prompts, answers), strict=True
    ):
        ids = torch.tensor([[*prompt, *answer.tokens]])
        with torch.no_grad():
            logits, heads = policy(ids)[0].log_softmax(-1), value(ids)[0, :, 0]
        for t, token in enumerate(answer.tokens):
            before = len(prompt) + t - 1
            assert abs(lp[t].item() - logits[before, token].item()) < 1e-9
            assert abs(v[t].item() - heads[before].item()) < 1e-9


def test_order_and_batch_composition_do_not_change_the_gradient(village):
    run = run_of(village, minibatch_size=6)
    run.policy.double(), run.value.double(), run.reference.double()
    rollout = run.rollout()

    def loss(order):
        lps = logprobs(run.policy, [rollout.prompts[i] for i in order], [rollout.answers[i] for i in order])
        width = max(map(len, lps))
        new = torch.nn.utils.rnn.pad_sequence(lps, batch_first=True)
        pick = [x[order, :width] for x in (rollout.old, rollout.advantages, rollout.mask)]
        return policy_loss(new, *pick, 0.2), pick[2].sum()

    whole, tokens = loss([0, 1, 2, 3, 4, 5])
    turned, _ = loss([5, 3, 1, 0, 2, 4])
    parts = [loss([i]) for i in range(6)]
    assert abs((whole - turned).item()) < 1e-9
    assert abs(whole.item() - sum((x * n).item() for x, n in parts) / tokens.item()) < 1e-9


def test_a_rollout_holds_together(village):
    run = run_of(village)
    rollout = run.rollout()
    assert rollout.mask.sum(1).tolist() == [len(answer.tokens) for answer in rollout.answers]
    assert torch.allclose(rollout.kl, torch.zeros(6), atol=1e-6)  # the policy is still the reference
    total = whole_reward(rollout.scores, rollout.answers, run.config)
    assert torch.allclose(rollout.rewards.sum(1), total, atol=1e-5)
    again = run.rollout()
    assert [a.tokens for a in again.answers] == [a.tokens for a in rollout.answers]


def test_an_answer_without_an_end_is_worth_less():
    answers = [Answer("", (3, 2), True), Answer("", (3, 4), False)]
    config = PPOConfig(whiten_rewards=False, no_end=-2.0)
    assert whole_reward(torch.tensor([1.0, 1.0]), answers, config).tolist() == [1.0, -1.0]


def test_a_stopped_run_goes_on_exactly(village, tmp_path):
    whole = run_of(village)
    expected = whole.train(progress=False)
    first = run_of(village, tmp_path / "run")
    first.train(1, progress=False)
    first.save()
    second = run_of(village, tmp_path / "run")
    assert second.iteration == 1
    records = second.train(progress=False)
    assert records == expected[1:]
    for name, weight in whole.policy.state_dict().items():
        assert torch.equal(weight, second.policy.state_dict()[name]), name
    assert torch.equal(second.reference.output.weight, whole.reference.output.weight)
    with pytest.raises(CheckpointError, match="another folder"):
        run_of(village, tmp_path / "run", beta=0.7)


def test_stopping_early(village):
    run = run_of(village, iterations=50)
    records = run.train(on_iteration=lambda run, record: record.iteration == 2, progress=False)
    assert [record.iteration for record in records] == [1, 2] and run.iteration == 2


def test_what_cannot_be_run_is_refused(village):
    policy, value, tokenizer = village
    with pytest.raises(ValueError, match="only 3"):
        PPO(policy, value, tokenizer, [None] * 3, length, PPOConfig(batch_size=4))
    with pytest.raises(ValueError, match="one output"):
        PPO(policy, policy, tokenizer, [None] * 9, length, PPOConfig(batch_size=4))
    for wrong in ({"clip": 0.0}, {"lam": 1.5}, {"beta": -0.1}, {"lr": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PPOConfig(**wrong)
