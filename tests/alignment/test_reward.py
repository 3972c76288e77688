"""Reward models: scores that depend on nothing else, losses against plain loops, and a preference that is learnt."""

import math
import random
from dataclasses import replace

import pytest
import torch

from minillama import data_path
from minillama.alignment.comparisons import Comparison, written
from minillama.alignment.reward import (
    MARGINS,
    Pairs,
    accuracy_by_degree,
    differences,
    grade,
    pairs,
    ranking_loss,
    reward_loss,
    reward_model,
    safety_loss,
    scores,
    sequence,
    train_reward_model,
)
from minillama.alignment.sft import Recipe
from minillama.model.checkpoints import load_safetensors, save_safetensors
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.trainer import Trainer
from minillama.village.annotators import DEGREES
from minillama.village.demonstrations import demonstrate
from minillama.village.requests import requests

SHAPE = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=50, multiple_of=16, max_seq_len=64)
BOOK = Tokenizer.from_file(data_path("tokenizer.model"))
TINY = replace(SHAPE, vocab_size=BOOK.vocab_size, max_seq_len=256)


def lively(seed: int = 0, config: ModelConfig = SHAPE) -> Llama:
    """A random float64 reward model with large weights, so that a token that sees too much moves the score visibly."""
    model = reward_model(Llama(config, seed).double().eval(), seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(50.0 if "embed" in name else 8.0)
    return model


def made_up(rng: random.Random, longest: int = 20) -> list[int]:
    return [rng.randrange(1, 50) for _ in range(rng.randrange(1, longest + 1))]


def some(number: int, seed: int = 0, safe: bool = False) -> list[Comparison]:
    """Comparisons of two demonstrations, with degrees (and labels) by lot."""
    rng, found = random.Random(seed), []
    for i, request in enumerate(requests("train", number, seed)):
        sides = [written(BOOK, request, demonstrate(request, i, quality)) for quality in ("good", "sloppy")]
        labels = (rng.random() < 0.7, rng.random() < 0.4) if safe else None
        found.append(Comparison(request, *sides, rng.choice(DEGREES), labels))
    return found


# Scores


@pytest.mark.parametrize("seed", range(30))
def test_a_score_depends_on_its_text_alone(seed):
    """Rows, neighbours, order, padding and batch: below 1e-9 in float64."""
    rng, model = random.Random(seed), lively(seed)
    texts = [made_up(rng) for _ in range(rng.randrange(2, 12))]
    with torch.no_grad():
        alone = torch.stack([model(torch.tensor([text]))[0, -1, 0] for text in texts])
        for context in (20, rng.randrange(21, 64), 64):
            assert (scores(model, texts, context) - alone).abs().max() < 1e-9
        order = rng.sample(range(len(texts)), len(texts))
        assert (scores(model, [texts[i] for i in order], 64) - alone[order]).abs().max() < 1e-9
        assert (scores(model, texts[:1], 64) - alone[:1]).abs().max() < 1e-9
    assert alone.std() > 1e-3


def test_a_score_is_read_at_the_last_token_and_every_token_counts():
    model, text = lively(), [5, 9, 3, 7]
    value = scores(model, [text], 64)
    assert torch.equal(value, model(torch.tensor([text]))[:, -1, 0])
    for i in range(len(text)):
        changed = [*text[:i], text[i] + 1, *text[i + 1 :]]
        assert (scores(model, [changed], 64) - value).abs() > 1e-4


def test_grading_in_batches_of_any_size_gives_the_same():
    model, comparisons = lively(config=TINY), some(7)
    asked, given = [c.request for c in comparisons], [c.chosen for c in comparisons]
    whole = grade(model, BOOK, asked, given)
    for size in (1, 3, 7, 100):
        assert (grade(model, BOOK, asked, given, batch_size=size) - whole).abs().max() < 1e-9
    rejected = grade(model, BOOK, asked, [c.rejected for c in comparisons])
    assert (differences(model, BOOK, comparisons) - (whole - rejected)).abs().max() < 1e-12
    assert not whole.requires_grad and grade(model, BOOK, [], []).shape == (0,)


def test_errors_of_grading():
    comparisons = some(3)
    asked, given = [c.request for c in comparisons], [c.chosen for c in comparisons]
    with pytest.raises(ValueError, match="got 2 to 3"):
        grade(lively(config=TINY), BOOK, asked, given[:2], batch_size=2)
    with pytest.raises(ValueError, match="does not fit a row of 10; make rows longer"):
        scores(lively(), [[1] * 11], context=10)


# The model


def test_a_reward_model_has_the_chat_model_s_body_and_a_head_of_its_own():
    chat = Llama(SHAPE, 3)
    before = {name: weight.clone() for name, weight in chat.state_dict().items()}
    model = reward_model(chat, seed=1)
    body, head = dict(model.state_dict()), model.output.weight
    assert body.pop("output.weight").shape == (1, SHAPE.dim)
    assert set(body) == set(before) - {"output.weight"}
    for name, weight in body.items():
        assert torch.equal(weight, before[name])
        assert weight.data_ptr() != chat.state_dict()[name].data_ptr()
    assert 0 < head.std() < 2 / SHAPE.dim and head.std() > 0.5 / SHAPE.dim
    assert torch.equal(reward_model(chat, 1).output.weight, head) and not torch.equal(
        reward_model(chat, 2).output.weight, head
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(weight, before[name]) for name, weight in chat.state_dict().items())
    assert model.config.n_outputs == 1 and chat.config.n_outputs is None
    assert reward_model(chat.double()).output.weight.dtype == torch.float64


def test_a_reward_model_can_be_saved_and_loaded(tmp_path):
    model = reward_model(Llama(TINY, 0))
    save_safetensors(model, tmp_path / "reward.safetensors")
    again = load_safetensors(tmp_path / "reward.safetensors")
    assert again.config == model.config
    assert torch.equal(differences(again, BOOK, some(5)), differences(model, BOOK, some(5)))


def test_the_prompt_and_the_answer_as_it_was_sampled_are_read():
    (c,) = some(1)
    cut = replace(c.chosen, tokens=c.chosen.tokens[:3], ended=False)
    read = sequence(BOOK, c.request, cut)
    assert read[-3:] == list(c.chosen.tokens[:3]) and BOOK.eos_id not in read[-3:]
    assert sequence(BOOK, c.request, c.chosen)[-1] == BOOK.eos_id
    assert c.request.prompt in BOOK.decode(read)


# The losses


def test_margins_of_table_27():
    expected = {"none": (0, 0, 0, 0), "small": (0, 1 / 3, 2 / 3, 1), "large": (0, 1, 2, 3)}
    for name, values in expected.items():
        by_degree = [replace(c, degree=d) for c, d in zip(some(4), DEGREES, strict=True)]
        assert pairs(BOOK, by_degree, name).margins.tolist() == pytest.approx(values)
        assert MARGINS[name] == pytest.approx(values)
    with pytest.raises(KeyError):
        pairs(BOOK, some(1), "medium")


def test_pairs_are_chosen_then_rejected_with_their_labels():
    comparisons = [*some(2, 0, safe=True), *some(1, 1)]
    batch = pairs(BOOK, comparisons)
    assert batch.sequences[:3] == [sequence(BOOK, c.request, c.chosen) for c in comparisons]
    assert batch.sequences[3:] == [sequence(BOOK, c.request, c.rejected) for c in comparisons]
    for i, c in enumerate(comparisons[:2]):
        assert (batch.safe[i], batch.safe[3 + i]) == (float(c.safe[0]), float(c.safe[1]))
    assert batch.safe[2].isnan() and batch.safe[5].isnan()


@pytest.mark.parametrize("seed", range(10))
def test_the_losses_equal_plain_loops(seed):
    rng, n = random.Random(seed), 7
    chosen, rejected = ([rng.gauss(0, 3) for _ in range(n)] for _ in range(2))
    margins = [rng.choice(MARGINS["large"]) for _ in range(n)]
    labels = [rng.choice((0.0, 1.0, math.nan)) for _ in range(2 * n - 1)] + [1.0]
    plain = sum(math.log(1 + math.exp(-(c - r - m))) for c, r, m in zip(chosen, rejected, margins, strict=True)) / n
    got = ranking_loss(*(torch.tensor(x, dtype=torch.float64) for x in (chosen, rejected, margins)))
    assert got.item() == pytest.approx(plain, abs=1e-12)
    counted = [(v, y) for v, y in zip(chosen + rejected, labels, strict=True) if not math.isnan(y)]
    plain = -sum(math.log(1 / (1 + math.exp(-v if y else v))) for v, y in counted) / len(counted)
    got = safety_loss(torch.tensor(chosen + rejected, dtype=torch.float64), torch.tensor(labels))
    assert got.item() == pytest.approx(plain, abs=1e-12)


def test_a_wrong_order_by_hundreds_costs_hundreds_and_not_infinity():
    loss = ranking_loss(torch.tensor([-300.0]), torch.tensor([300.0]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(601.0)


@pytest.mark.parametrize("margin", [0.0, 1 / 3, 3.0])
def test_the_gradient_is_how_surely_the_pair_is_ordered_wrongly(margin):
    """d loss / d gap = -(1 - sigmoid(gap - m)), also by finite differences."""
    for gap in (-4.0, -0.5, 0.0, 1.0, 6.0):
        chosen = torch.tensor([gap], dtype=torch.float64, requires_grad=True)
        rejected, m = torch.zeros(1, dtype=torch.float64), torch.tensor([margin], dtype=torch.float64)
        ranking_loss(chosen, rejected, m).backward()
        expected = -(1 - 1 / (1 + math.exp(-(gap - margin))))
        assert chosen.grad.item() == pytest.approx(expected, abs=1e-12)
        h = 1e-5
        up, down = (ranking_loss(torch.tensor([gap + s * h], dtype=torch.float64), rejected, m) for s in (1, -1))
        assert ((up - down) / (2 * h)).item() == pytest.approx(expected, abs=1e-8)


def test_a_constant_on_all_scores_is_seen_by_the_safety_loss_alone():
    values, safe = torch.randn(8, dtype=torch.float64), torch.tensor([1.0, 1, 0, 1, 0, 0, 1, 0])
    margins = torch.rand(4, dtype=torch.float64)

    def both(v):
        return ranking_loss(v[:4], v[4:], margins).item(), safety_loss(v, safe).item()

    for constant in (-5.0, 2.0):
        assert both(values)[0] == pytest.approx(both(values + constant)[0], abs=1e-12)
        assert abs(both(values)[1] - both(values + constant)[1]) > 0.1


def test_only_labelled_answers_have_a_safety_loss():
    values = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    safety_loss(values, torch.tensor([1.0, math.nan, 0.0])).backward()
    assert values.grad[1] == 0 and values.grad[0] < 0 < values.grad[2]
    values.grad = None
    none = safety_loss(values, torch.full((3,), math.nan))
    none.backward()
    assert none == 0 and torch.equal(values.grad, torch.zeros(3))


def test_the_whole_loss_is_their_sum_and_does_not_depend_on_the_order_of_the_batch():
    model, comparisons = lively(config=TINY), some(9, safe=True)
    batch = pairs(BOOK, comparisons, "large")
    with torch.no_grad():
        values = scores(model, batch.sequences)
        ranked, labelled = ranking_loss(*values.chunk(2), batch.margins), safety_loss(values, batch.safe)
        assert reward_loss(model, batch) == pytest.approx(ranked.item(), abs=1e-12)
        assert reward_loss(model, batch, 0.5) == pytest.approx((ranked + 0.5 * labelled).item(), abs=1e-12)
        order = random.Random(0).sample(comparisons, 9)
        for other, context in ((order, 256), (comparisons, max(map(len, batch.sequences)))):
            again = reward_loss(model, pairs(BOOK, other, "large"), 0.5, context)
            assert abs(again - reward_loss(model, batch, 0.5)) < 1e-9
        parts = [reward_loss(model, pairs(BOOK, [c], "large")) for c in comparisons]
        assert abs(sum(parts) / 9 - reward_loss(model, batch)) < 1e-9


def test_pairs_move_to_a_device_as_a_whole():
    batch = pairs(BOOK, some(2, safe=True)).to("meta")
    assert isinstance(batch, Pairs) and batch.margins.is_meta and batch.safe.is_meta


# Training


def longer_is_better(number: int, seed: int) -> list[Comparison]:
    rng, found = random.Random(seed), []
    for request in requests("train", number, seed, ["list", "fact"]):
        short = rng.randrange(1, 8)
        sides = [written(BOOK, request, " ".join(["Yes."] * n)) for n in (short + rng.randrange(2, 8), short)]
        found.append(Comparison(request, *sides, "better"))
    return found


def test_a_preference_is_learnt():
    model = reward_model(Llama(replace(TINY, n_layers=1), 0))
    held_out = longer_is_better(100, 10**6)
    before = (differences(model, BOOK, held_out) > 0).double().mean()
    losses = train_reward_model(
        model, BOOK, longer_is_better(400, 0), Recipe(epochs=1, batch_size=16, peak_lr=1e-2), progress=False
    )
    gaps = differences(model, BOOK, held_out)
    right, of = accuracy_by_degree(gaps, held_out)["better"]
    assert before < 0.8 and right / of > 0.9 and of == 100
    assert len(losses) == 25 and sum(losses[-5:]) / 5 < 0.7 * losses[0]


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    comparisons, recipe = some(30, safe=True), Recipe(epochs=2, batch_size=5, peak_lr=3e-3)

    def train(model, folder=None, **changes):
        more = dict(recipe=recipe, safety_weight=0.5, progress=False) | changes
        return train_reward_model(model, BOOK, comparisons, folder=folder, **more)

    straight, resumed = reward_model(Llama(TINY, 0)), reward_model(Llama(TINY, 5))
    losses, whole = train(straight), Trainer.train
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", lambda self, progress: whole(self, 7, progress))
        assert train(reward_model(Llama(TINY, 0)), tmp_path) == losses[:7]
    assert train(resumed, tmp_path) == losses[7:] and len(losses) == 12
    for name, weight in straight.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])
    for change in (dict(margin="large"), dict(safety_weight=0.0)):
        with pytest.raises(ValueError, match="other items"):
            train(resumed, tmp_path, **change)


def test_accuracy_by_degree_counts():
    comparisons = [replace(c, degree=d) for c, d in zip(some(5), (*DEGREES, "better"), strict=True)]
    found = accuracy_by_degree(torch.tensor([1.0, -1.0, 2.0, 0.5, 0.0]), comparisons)
    assert list(found) == ["significantly", "better", "slightly", "negligibly", "all"]
    assert found == {"significantly": (1, 1), "better": (1, 2), "slightly": (0, 1), "negligibly": (1, 1), "all": (3, 5)}
    with pytest.raises(ValueError):
        accuracy_by_degree(torch.zeros(3), comparisons)
