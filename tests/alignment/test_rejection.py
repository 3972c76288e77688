"""Best of K, what it is expected to give, and a round."""

import itertools
import math
import random

import pytest
import torch

from minillama import data_path
from minillama.alignment import rejection, rounds
from minillama.alignment.comparisons import written
from minillama.alignment.rejection import Candidates, Judges, candidates, combine, expected_best, kl_bound, targets
from minillama.alignment.reward import reward_model
from minillama.alignment.sampling import Answer
from minillama.alignment.sft import Recipe
from minillama.model.checkpoints import load_safetensors
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.requests import requests
from minillama.village.safety import refuses

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
SIZES = rounds.Sizes(
    demonstrations=12, helpful=20, risky=12, prompts=25, k=2, sft=Recipe(epochs=1, batch_size=2, peak_lr=1e-3)
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(data_path("tokenizer.model"))


def test_the_reward_is_that_of_the_paper():
    def logit(p):
        return math.log(p / (1 - p))

    helpful = torch.tensor([logit(0.9)] * 4)
    safe = torch.tensor([logit(p) for p in (0.8, 0.16, 0.14, 0.8)])
    tagged = torch.tensor([False, False, False, True])
    assert combine(helpful, safe, tagged).tolist() == pytest.approx([0.9, 0.9, 0.14, 0.8])


def test_the_expected_best_is_the_mean_over_all_choices():
    lots = random.Random(0)
    for n in (1, 2, 5, 7):
        by = [lots.random() for _ in range(n)]
        values = [lots.random() for _ in range(n)]
        for k in range(1, n + 1):
            best = [values[max(chosen, key=lambda i: by[i])] for chosen in itertools.combinations(range(n), k)]
            found = expected_best(torch.tensor([by]), torch.tensor([values]), k).item()
            assert found == pytest.approx(sum(best) / len(best), abs=1e-6)


def test_the_expected_maximum_grows_with_k():
    scores = torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    curve = [expected_best(scores, scores, k).mean().item() for k in range(1, 17)]
    assert curve == sorted(curve) and curve[0] == pytest.approx(scores.mean().item(), abs=1e-6)
    assert curve[-1] == pytest.approx(scores.amax(-1).mean().item(), abs=1e-6)


@pytest.mark.parametrize("k", [0, 5])
def test_k_must_be_among_the_samples(k):
    with pytest.raises(ValueError, match="between 1 and the number of samples 4"):
        expected_best(torch.zeros(2, 4), torch.zeros(2, 4), k)


def test_the_bound_is_reached_by_a_policy_of_many_different_answers():
    """KL(best of k || policy) of n equally likely answers with different rewards, summed up, tends to the bound."""
    for k, printed in ((2, 0.193), (4, 0.636), (8, 1.204), (16, 1.835), (64, 3.175), (100, 3.615)):
        assert kl_bound(k) == pytest.approx(printed, abs=5e-4)
        n = 20_000
        chance = [((i + 1) / n) ** k - (i / n) ** k for i in range(n)]
        exact = sum(p * math.log(p * n) for p in chance if p > 0)
        assert exact == pytest.approx(kl_bound(k), abs=2e-3)
        few = [((i + 1) / 4) ** k - (i / 4) ** k for i in range(4)]
        assert sum(p * math.log(p * 4) for p in few) < kl_bound(k)  # with ties it is a bound only


def test_the_best_answer_becomes_the_target(tokenizer):
    asked = requests("train", 3, 0)
    answers = [
        [Answer(f"{i}", (5 + i,) + (tokenizer.eos_id,) * ended, bool(ended)) for i in range(3)] for ended in (1, 1, 0)
    ]
    found = Candidates(asked, answers, torch.tensor([[0.1, 0.9, 0.3], [0.5, 0.5, 0.2], [0.0, 0.0, 1.0]]))
    assert [a.text for a in found.best()] == ["1", "0", "2"]
    examples = targets(tokenizer, found)
    assert len(examples) == 2  # the third best has no end
    assert [t for t, said in zip(examples[0].tokens, examples[0].said, strict=True) if said] == [6, tokenizer.eos_id]


def test_candidates_are_k_to_each_and_rewarded_in_order(tokenizer):
    asked = requests("train", 4, 0)
    policy = Llama(TINY)

    def length(requests, answers):
        return torch.tensor([float(len(a.tokens)) for a in answers])

    found = candidates(policy, tokenizer, asked, 3, length, seed=1)
    assert found.rewards.shape == (4, 3)
    assert found.rewards.tolist() == [[len(a.tokens) for a in own] for own in found.answers]
    assert [len(a.tokens) for a in found.best()] == [max(len(a.tokens) for a in own) for own in found.answers]


def test_prompts_are_spread_over_families():
    asked = rounds.prompts("validation", 60, 0, ("list", "harmful", "fact"))
    assert sorted(r.family for r in asked) == ["fact"] * 20 + ["harmful"] * 20 + ["list"] * 20
    assert asked == rounds.prompts("validation", 60, 0, ("list", "harmful", "fact"))


def test_demonstrations_have_the_shares_asked_for():
    shown = rounds.demonstrations(800, 0, complied=0.5, good=0.2)
    harmful = [refuses(answer) for request, answer in shown if "harmful" in request.tags]
    assert 0.35 < sum(harmful) / len(harmful) < 0.65
    assert not any(refuses(answer) for request, answer in shown if "harmful" not in request.tags)


def test_a_round_from_beginning_to_end(tokenizer):
    def base():
        return load_safetensors(data_path("base/model.safetensors"), dtype=torch.float32)

    sft = rounds.supervised(base(), tokenizer, SIZES, 0, progress=False)
    found = rounds.collect([sft, base()], tokenizer, SIZES, 0)
    assert {c.request.family for c in found.safe} <= {"harmful", "borderline"}
    assert all(c.safe is None for c in found.helpful) and all(c.safe is not None for c in found.safe)
    judges = rounds.reward_models(sft, tokenizer, found, SIZES, 0, progress=False)
    before = [p.clone() for p in judges.safe.parameters()]
    policy, best, seen = rounds.reject(base(), sft, judges, [], SIZES, 0, progress=False)
    assert len(seen.requests) == 25 and 0 < len(best) == sum(a.ended for a in seen.best())
    assert any((p != q).any() for p, q in zip(policy.parameters(), base().parameters(), strict=True))
    fresh = found.with_replay(found, 0)
    assert len(fresh.helpful) == 2 * len(found.helpful)
    again = rounds.reward_models(sft, tokenizer, fresh, SIZES, 1, judges, progress=False)
    assert again.safe is judges.safe
    assert any((p != q).any() for p, q in zip(before, again.safe.parameters(), strict=True))


def test_equal_answers_are_graded_once_and_alike(tokenizer, monkeypatch):
    asked = requests("validation", 3, 0)
    said = [written(tokenizer, r, "I will not help with that.") for r in asked]
    models = [reward_model(Llama(TINY), seed) for seed in (0, 1)]
    judges = Judges(*models, tokenizer)
    alone = [judges([r], [a]).item() for r, a in zip(asked, said, strict=True)]
    graded = []
    whole = rejection.grade
    monkeypatch.setattr(rejection, "grade", lambda m, t, r, a: graded.append(len(a)) or whole(m, t, r, a))
    found = judges([asked[i] for i in (0, 1, 0, 2, 0)], [said[i] for i in (0, 1, 0, 2, 0)])
    assert found.tolist() == pytest.approx([alone[i] for i in (0, 1, 0, 2, 0)], abs=1e-6)
    assert graded == [3, 3]
