"""DPO: a loop in float64, a bandit whose optimum is known, batches that change nothing, pairs chosen by a reward."""

import copy
import math
import random
from dataclasses import replace

import bandit
import pytest
import torch
from bandit import ARMS, ONE_TOKEN, chances, objective, tilted

from minillama import data_path
from minillama.alignment.comparisons import Comparison
from minillama.alignment.preference_optimization import best_and_worst, dpo_loss, sequence_logprobs, train_dpo
from minillama.alignment.rejection import Candidates
from minillama.alignment.sampling import Answer
from minillama.alignment.sft import Recipe
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.requests import requests

PAYS = 3 * bandit.PAYS  # so far apart that few choices are errors


def four(seed, size=5):
    dice = torch.Generator().manual_seed(seed)
    return [torch.randn(size, dtype=torch.float64, generator=dice) * 3 for _ in range(4)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_loss_equals_a_loop(seed, beta):
    total = 0.0
    for c, r, c0, r0 in zip(*(x.tolist() for x in four(seed)), strict=True):
        total -= math.log(1 / (1 + math.exp(-beta * ((c - c0) - (r - r0)))))
    assert abs(dpo_loss(*four(seed), beta).item() - total / 5) < 1e-9


def test_the_gradient_is_right_and_weighs_by_how_wrong_the_pair_is(beta=0.3):
    chosen, rejected, *reference = four(1)
    chosen.requires_grad_(), rejected.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: dpo_loss(c, r, *reference, beta), (chosen, rejected))
    up, down = torch.autograd.grad(dpo_loss(chosen, rejected, *reference, beta), (chosen, rejected))
    margin = beta * ((chosen - reference[0]) - (rejected - reference[1]))
    assert torch.allclose(up, -beta * torch.sigmoid(-margin) / 5) and torch.allclose(down, -up)


def test_huge_differences_stay_finite():
    x = torch.tensor([1e4, -1e4])
    assert torch.isfinite(dpo_loss(x, -x, torch.zeros(2), torch.zeros(2), 1.0))


# A bandit ------------------------------------------------------------------------------------------------------------


def learnt(seed, number, beta, strict, recipe):
    """A policy of one-token answers after random pairs, and its reference; the optimum does not ask who gave them."""
    policy, lots = Llama(ONE_TOKEN, seed), random.Random(seed)
    reference, found = chances(policy), []
    while len(found) < number:
        a, b = lots.sample(range(ARMS), 2)
        gap = (PAYS[a] - PAYS[b]).item()
        first = gap > 0 if strict else lots.random() < 1 / (1 + math.exp(-gap))
        one, two = (a, b) if first else (b, a)
        found.append(Comparison(None, Answer("", (one,), False), Answer("", (two,), False), "better"))
    losses = train_dpo(policy, None, found, beta, replace(recipe, seed=seed), encode=lambda _: [0], progress=False)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    return chances(policy), reference


@pytest.mark.parametrize("seed", range(10))
def test_the_best_arm_is_found(seed):
    policy, _ = learnt(seed, 1500, 0.05, True, Recipe(epochs=3, batch_size=32, peak_lr=5e-2))
    assert (policy * PAYS).sum() >= 0.99 * PAYS.max()


@pytest.mark.parametrize("seed", range(10))
def test_from_choices_by_bradley_and_terry_the_optimum_is_the_tilted_reference(seed, beta=1.0):
    policy, reference = learnt(seed, 5000, beta, False, Recipe(epochs=1, batch_size=64, peak_lr=3e-2))
    best = tilted(reference, beta, PAYS)
    assert objective(policy, reference, beta, PAYS) >= 0.99 * objective(best, reference, beta, PAYS)
    assert (policy - best).abs().max() < 0.12


# Answers of a model --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def village():
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
    return Llama(config, 0), Tokenizer.from_file(data_path("tokenizer.model"))


def answers_of(number):
    lots = random.Random(number)
    tokens = [tuple(lots.randrange(3, 2048) for _ in range(lots.randint(1, 9))) for _ in range(number)]
    return [Answer(" ".join(map(str, own)), (*own, 2), True) for own in tokens]


def pairs_of(number):
    said = answers_of(2 * number)
    return [Comparison(r, *said[2 * i : 2 * i + 2], "better") for i, r in enumerate(requests("train", number, 0))]


def test_a_whole_answer_is_the_sum_of_its_tokens_and_company_does_not_matter(village):
    model = copy.deepcopy(village[0]).double()
    prompts, answers = [[1, 5, 6], [1, 7]], answers_of(2)
    with torch.no_grad():
        both = sequence_logprobs(model, prompts, answers)
        for prompt, answer, found in zip(prompts, answers, both, strict=True):
            assert abs((sequence_logprobs(model, [prompt], [answer]) - found).item()) < 1e-9
            total, ids = 0.0, [*prompt, *answer.tokens]
            for t in range(len(prompt), len(ids)):
                total += model(torch.tensor([ids[:t]]))[0, -1].log_softmax(-1)[ids[t]].item()
            assert abs(found.item() - total) < 1e-9


def test_training_raises_the_chosen_answers_above_the_rejected_ones(village):
    model, tokenizer = copy.deepcopy(village[0]), village[1]
    pairs = pairs_of(24)
    recipe = Recipe(epochs=8, batch_size=8, peak_lr=5e-3)
    losses = train_dpo(model, tokenizer, pairs, 0.5, recipe, progress=False)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6) and losses[-1] < 0.3
    assert len(losses) == 24


def test_a_stopped_run_goes_on_exactly(village, tmp_path, monkeypatch):
    start, tokenizer = village
    pairs, recipe = pairs_of(12), Recipe(epochs=2, batch_size=4, peak_lr=1e-3)
    whole = copy.deepcopy(start)
    losses = train_dpo(whole, tokenizer, pairs, 0.2, recipe, progress=False)
    from minillama.pretraining import trainer

    stops = trainer.Trainer._update

    def stopping(self):
        if self.step == 3:
            raise KeyboardInterrupt
        record = stops(self)
        self.save()
        return record

    monkeypatch.setattr(trainer.Trainer, "_update", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(copy.deepcopy(start), tokenizer, pairs, 0.2, recipe, folder=tmp_path, progress=False)
    monkeypatch.setattr(trainer.Trainer, "_update", stops)
    again = copy.deepcopy(start)
    assert train_dpo(again, tokenizer, pairs, 0.2, recipe, folder=tmp_path, progress=False) == losses[3:]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    with pytest.raises(ValueError, match="other items"):
        train_dpo(copy.deepcopy(start), tokenizer, pairs, 0.3, recipe, folder=tmp_path, progress=False)


def test_best_and_worst_are_compared_and_equals_are_not():
    asked, said = requests("train", 3, 0), answers_of(3)
    rewards = torch.tensor([[0.2, 0.9, 0.1], [0.5, 0.5, 0.5], [0.6, 0.5, 0.55]])
    found = best_and_worst(Candidates(asked, [said] * 3, rewards))
    assert [(c.request, c.chosen, c.rejected) for c in found] == [(asked[0], said[1], said[2]), (asked[2], *said[:2])]
    assert [c.degree for c in found] == ["significantly", "negligibly"]  # logits apart by 4.4 and by 0.4


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_wrong_beta_is_refused(village, beta):
    with pytest.raises(ValueError, match="above 0"):
        train_dpo(village[0], village[1], pairs_of(2), beta)
