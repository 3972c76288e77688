"""Fine-tuning: what a loss counts, that packing changes nothing, and that a killed run goes on to the same weights."""

import random

import pytest
import torch
import torch.nn.functional as F

from minillama import data_path
from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.sampling import sample
from minillama.alignment.sft import Epochs, Example, Recipe, answer_loss, collate, example, fine_tune, pack, tune
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints
from minillama.pretraining.trainer import Trainer
from minillama.village.demonstrations import demonstrate
from minillama.village.requests import requests

SHAPE = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=50, multiple_of=16, max_seq_len=64)
BOOK = Tokenizer.from_file(data_path("tokenizer.model"))


def lively(seed: int = 0, config: ModelConfig = SHAPE) -> Llama:
    """A random float64 model with large weights, so that a token that sees too much moves the loss visibly."""
    model = Llama(config, seed).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(50.0 if "embed" in name else 8.0)
    return model


def made_up(rng: random.Random, longest: int = 20) -> Example:
    """A dialogue of random tokens with at least one that is said."""
    length = rng.randrange(2, longest + 1)
    asked = rng.randrange(1, length)
    return Example([1] + [rng.randrange(3, 50) for _ in range(length - 1)], [i >= asked for i in range(length)])


def in_rows(examples: list[Example], context: int) -> list[list[Example]]:
    return [[examples[i] for i in row] for row in pack(list(map(len, examples)), context)]


def silent(e: Example) -> Example:
    return Example(e.tokens, [False] * len(e))


def alone(model: Llama, e: Example) -> torch.Tensor:
    """The log-likelihood of what is said, token by token, each from a pass of its own."""
    lost = []
    for i in range(1, len(e)):
        if e.said[i]:
            logits = model(torch.tensor([list(e.tokens[:i])]))[0, -1]
            lost.append(torch.logsumexp(logits, 0) - logits[e.tokens[i]])
    return torch.stack(lost)


# Packing and the loss


@pytest.mark.parametrize("seed", range(30))
def test_nothing_around_an_example_changes_its_loss(seed):
    """Neighbours in a row, their order, padding and other rows: below 1e-9 in float64."""
    rng, model = random.Random(seed), lively(seed)
    examples = [made_up(rng) for _ in range(rng.randrange(2, 9))]
    rows = in_rows(examples, rng.randrange(20, 61))
    for row in rows:
        rng.shuffle(row)
    rng.shuffle(rows)
    with torch.no_grad():
        expected = {id(e): alone(model, e) for e in examples}
        for e in examples:
            others = [[x if x is e else silent(x) for x in row] for row in rows]
            assert abs(answer_loss(model, collate(others)) - expected[id(e)].mean()) < 1e-9
        together = answer_loss(model, collate(rows))
        assert abs(together - torch.cat(list(expected.values())).mean()) < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_nor_its_gradient(seed):
    rng, model = random.Random(seed), lively(seed)
    examples = [made_up(rng) for _ in range(5)]

    def gradient(loss):
        model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    packed = gradient(answer_loss(model, collate(in_rows(examples, 45))))
    apart = gradient(torch.cat([alone(model, e) for e in examples]).mean())
    assert (packed - apart).abs().max() < 1e-9 * max(1, apart.abs().max())


class Logits(torch.nn.Module):
    """A model whose logits are its parameters."""

    def __init__(self, rows):
        super().__init__()
        self.values = torch.nn.Parameter(torch.randn(*rows.tokens[:, 1:].shape, 50, dtype=torch.float64))

    def forward(self, tokens, documents=None):
        return self.values


def test_only_what_is_said_has_a_gradient():
    rng = random.Random(0)
    rows = collate(in_rows([made_up(rng) for _ in range(12)], 40))
    model = Logits(rows)
    answer_loss(model, rows).backward()
    moved = model.values.grad.abs().sum(-1) > 0
    assert torch.equal(moved, rows.said[:, 1:])  # no first token of a dialogue is said
    assert moved.any() and not moved.all()


def test_a_first_token_that_is_marked_is_still_no_target():
    """Nothing comes before it in its own dialogue; without this, the end of a neighbour would predict it."""
    rows = collate([[Example([1, 5, 6], [True] * 3), Example([1, 7], [True] * 2)]])
    model = Logits(rows)
    answer_loss(model, rows).backward()
    assert (model.values.grad.abs().sum(-1) > 0).tolist() == [[True, True, False, True]]


def test_other_marks_are_another_loss():
    model, e = lively(), Example([1, 5, 6, 7, 8], [False, False, False, True, True])
    losses = set()
    for said in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 1]):
        losses.add(round(answer_loss(model, collate([[Example(e.tokens, list(map(bool, said)))]])).item(), 6))
    assert len(losses) == 5


def test_packing_keeps_every_example_once_and_wastes_little():
    for seed in range(50):
        rng = random.Random(seed)
        context = rng.randrange(20, 300)
        lengths = [rng.randrange(1, context + 1) for _ in range(rng.randrange(1, 120))]
        rows = pack(lengths, context)
        assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
        used = [sum(lengths[i] for i in row) for row in rows]
        assert max(used) <= context
        assert sum(2 * u <= context for u in used) <= 1  # two half-empty rows would have been one
        assert rows == pack(lengths, context)
    assert pack([], 10) == []


def test_rows_as_tensors():
    a, b, c = (Example([1, n, 2], [False, True, True]) for n in (5, 6, 7))
    rows = collate([[a, b], [c]])
    assert rows.tokens.tolist() == [[1, 5, 2, 1, 6, 2], [1, 7, 2, 0, 0, 0]]
    assert rows.documents.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, -1, -1, -1]]
    assert rows.said.tolist() == [[False, True, True] * 2, [False, True, True] + [False] * 3]
    assert [t.dtype for t in (rows.tokens, rows.said)] == [torch.int64, torch.bool]


def test_a_dialogue_longer_than_a_row_is_an_error():
    with pytest.raises(ValueError, match="41 tokens does not fit a row of 40; make rows longer"):
        pack([3, 41], 40)
    with pytest.raises(ValueError, match="does not fit a row of 10"):
        fine_tune(Llama(SHAPE), [made_up(random.Random(0)), Example([1] * 11, [True] * 11)], Recipe(context=10))


# Examples of the village


@pytest.mark.parametrize("request_", requests("train", 40, seed=2), ids=lambda r: r.family)
def test_the_answer_and_its_end_are_learnt_and_nothing_else(request_):
    answer = demonstrate(request_, 0)
    e = example(BOOK, request_, answer)
    prompt = encode_prompt(BOOK, messages(request_))
    assert e.tokens[: len(prompt)] == prompt and e.said == [False] * len(prompt) + [True] * (len(e) - len(prompt))
    assert e.tokens[-1] == BOOK.eos_id and BOOK.decode(e.tokens[len(prompt) :]).strip() == answer
    whole = example(BOOK, request_, answer, prompts_too=True)
    assert whole.tokens == e.tokens and all(whole.said)


# Epochs


def numbers(seed: int = 0, items=range(10), identity: str = "ten") -> Epochs:
    return Epochs(list(items), 4, 8, collate=list, identity=identity, seed=seed)


def test_an_epoch_has_every_item_once_in_an_order_of_its_own():
    batches = numbers()
    assert batches.per_epoch == 3
    epochs = [[next(batches) for _ in range(3)] for _ in range(4)]
    assert all([len(batch) for batch in epoch] == [4, 4, 2] for epoch in epochs)
    orders = [[i for batch in epoch for i in batch] for epoch in epochs]
    assert all(sorted(order) == list(range(10)) for order in orders) and len(set(map(tuple, orders))) == 4
    again, other = numbers(), numbers(seed=1)
    assert [next(again) for _ in range(12)] == [batch for epoch in epochs for batch in epoch]
    assert next(other) != epochs[0][0]


@pytest.mark.parametrize("done", range(8))
def test_epochs_go_on_where_their_state_was_taken(done):
    batches, later = numbers(), numbers()
    for _ in range(done):
        next(batches)
    later.load_state_dict(batches.state_dict())
    assert [next(later) for _ in range(7)] == [next(batches) for _ in range(7)]


def test_other_items_and_another_seed_are_refused():
    state = numbers().state_dict()
    for other in (numbers(seed=1), numbers(identity="eleven")):
        with pytest.raises(ValueError, match="other items or with another seed"):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="at least 1, got 0 and 4"):
        numbers(items=[])


# Runs

RECIPE = Recipe(epochs=3, batch_size=2, peak_lr=3e-3, context=40)


def some_examples(number: int = 18) -> list[Example]:
    rng = random.Random(5)
    return [made_up(rng) for _ in range(number)]


def same_weights(a: Llama, b: Llama) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("killed_after", [1, 4, 7])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch, killed_after):
    whole = Llama(SHAPE)
    losses = fine_tune(whole, some_examples(), RECIPE, progress=False)
    assert len(losses) == 9 and not same_weights(whole, Llama(SHAPE))

    def killed(self, until=None, progress=True, _train=Trainer.train):
        _train(self, until=killed_after, progress=False)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(Llama(SHAPE), some_examples(), RECIPE, tmp_path, progress=False)
    monkeypatch.undo()
    parts = Llama(SHAPE)
    rest = fine_tune(parts, some_examples(), RECIPE, tmp_path, progress=False)
    assert rest == losses[killed_after:] and same_weights(parts, whole)
    assert fine_tune(again := Llama(SHAPE), some_examples(), RECIPE, tmp_path, progress=False) == []
    assert same_weights(again, whole)  # a finished run is only loaded
    with pytest.raises(ValueError, match="learnt from other items"):
        fine_tune(Llama(SHAPE), some_examples(17), RECIPE, tmp_path, progress=False)


def test_a_run_without_a_folder_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fine_tune(Llama(SHAPE), some_examples(), RECIPE, progress=False)
    assert not list(tmp_path.rglob("*")) and not checkpoints(tmp_path)


def test_the_order_of_the_examples_is_the_seeds():
    runs = [fine_tune(Llama(SHAPE), some_examples(), Recipe(3, 2, 3e-3, context=40, seed=s), progress=False)
            for s in (0, 0, 1)]  # fmt: skip
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("epochs, steps", [(1, 3), (2.5, 8), (0.1, 1)])
def test_steps_are_epochs_of_rows(epochs, steps):
    model = Llama(SHAPE)
    assert len(fine_tune(model, some_examples(), Recipe(epochs, 2, context=40), progress=False)) == steps
    assert not model.training


class Number(float):
    def to(self, device) -> "Number":
        return self


def test_any_loss_of_any_batch_can_be_tuned():
    def loss(model, number):
        return 0 * model(torch.tensor([[1, 2]])).mean() + number

    batches = Epochs([Number(n) for n in range(6)], 1, 256, collate=lambda one: one[0], identity="numbers")
    seen = tune(Llama(SHAPE), batches, Recipe(epochs=2, batch_size=1), loss, progress=False)
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6)) and seen[:6] != seen[6:]


def test_a_small_model_learns_answers_by_heart_and_stops():
    """The whole way, from requests to sampled answers: the prompt's ids and the training ids fit together."""
    asked = requests("train", 12, seed=3, families=["fact", "list"])
    told = {r.lines: demonstrate(r, 0) for r in asked}
    config = ModelConfig(dim=64, n_layers=2, n_heads=4, vocab_size=BOOK.vocab_size, multiple_of=16, max_seq_len=160)
    model = Llama(config)
    recipe = Recipe(epochs=60, batch_size=4, peak_lr=1e-2, context=128)
    losses = fine_tune(model, [example(BOOK, r, told[r.lines]) for r in asked], recipe, progress=False)
    assert losses[0] > 7 and losses[-1] < 0.1
    answers = sample(model, BOOK, [encode_prompt(BOOK, messages(r)) for r in asked], temperature=0)
    right = [a.ended and a.text == told[r.lines] for a, r in zip(answers, asked, strict=True)]
    assert sum(right) >= 11
    rows = collate([[example(BOOK, r, told[r.lines])] for r in asked])
    assert F.cross_entropy(model(rows.tokens[:, :-1])[:, 0], rows.tokens[:, 1]) > 1  # prompts were not learnt
