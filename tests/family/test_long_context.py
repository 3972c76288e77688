"""Rescaled rotations against the equation, and texts whose values can be followed by hand (chapter 19)."""

import math

import numpy as np
import pytest
import torch

from minillama.alignment.sft import Recipe
from minillama.family.long_context import (
    NAMES,
    VALUES,
    VOCABULARY,
    Rescaled,
    beginner,
    documents,
    key_documents,
    learn,
    rescaled,
    retrieved,
    value_loss,
    value_losses,
    written,
)
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

TINY = ModelConfig(
    dim=16, n_layers=2, n_heads=2, n_kv_heads=1, vocab_size=VOCABULARY, multiple_of=16, rope_theta=30, max_seq_len=16
)


def dice(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("theta", "scale"), [(None, 1.0), (3000.0, 1.0), (None, 0.25), (100.0, 0.5)])
def test_rotations_are_those_of_the_equation(theta, scale):
    table = rescaled(Llama(TINY).double(), theta, scale).rotations(3, 40)
    for row, m in enumerate(range(3, 43)):
        for j in range(4):
            angle = m * scale * (theta or 30.0) ** (-2 * j / 8)
            assert abs(table[row, j].item() - complex(math.cos(angle), math.sin(angle))) < 1e-12


def test_an_unchanged_model_gives_the_same_numbers():
    model, tokens = Llama(TINY, 3), documents(2, 20, dice())
    assert (rescaled(model)(tokens) == model(tokens)).all()


def test_a_new_base_works_although_the_old_table_is_kept():
    model, tokens = Llama(TINY, 3).double(), documents(1, 8, dice())
    old = model(tokens)
    fresh = Llama(ModelConfig(**{**vars(TINY), "rope_theta": 3000.0}), 3).double()
    assert torch.allclose(rescaled(model, 3000.0)(tokens), fresh(tokens), atol=1e-12)
    assert not torch.allclose(rescaled(model, 3000.0)(tokens), old)


def test_squeezed_positions_four_times_the_length_are_those_of_training():
    long, short = rescaled(Llama(TINY), scale=0.25).rotations(0, 64), Llama(TINY).rotations(0, 16)
    assert torch.allclose(long[::4], short, atol=1e-6)


def test_a_copy_shares_no_weights_and_the_old_model_stays():
    model = Llama(TINY, 1)
    copy = rescaled(model, 100.0)
    with torch.no_grad():
        copy.output.weight.zero_()
    assert model.output.weight.abs().sum() > 0 and model.config.rope_theta == 30 and type(model) is Llama
    assert copy.training == model.training and not rescaled(model.eval()).training


def test_cached_generation_sees_the_scaled_positions():
    model, tokens = rescaled(Llama(TINY, 1).double(), 100.0, 0.25), documents(1, 8, dice())
    cache = model.new_cache(1, 16)
    parts = torch.cat([model(tokens[:, :5], cache), model(tokens[:, 5:], cache)], 1)
    assert torch.allclose(parts, model(tokens), atol=1e-10)


@pytest.mark.parametrize("scale", [0, -1.0])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match="above 0"):
        Rescaled(TINY, scale)


def follow(tokens):
    """Values as a reader keeps them; returns for each line whether what is read is what was assigned last."""
    known, right = {}, []
    for name, value in zip(tokens[::2], tokens[1::2], strict=True):
        key = name % NAMES
        assert (value - 2 * NAMES) // VALUES == key  # a value of this name
        if name < NAMES:
            right.append(known.setdefault(key, value) == value)
        known[key] = value
    return right


def test_texts_read_what_was_assigned_last():
    texts = documents(50, 60, dice(1)).tolist()
    assert all(all(follow(text)) for text in texts)
    assigned = [name >= NAMES for text in texts for name in text[::2]]
    assert 0.3 < np.mean(assigned) < 0.37
    assert all(0 <= t < VOCABULARY for text in texts for t in text)
    # many names are not those of the start, and values change
    assert {name % NAMES for text in texts for name in text[::2]} == set(range(NAMES))


@pytest.mark.parametrize("overwritten", [False, True])
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_key_is_assigned_at_its_depth_and_read_at_the_end(depth, overwritten):
    several = 0
    for text in key_documents(40, 21, depth, dice(2), overwritten).tolist():
        assert all(follow(text))
        key, places = text[-2], [i for i, name in enumerate(text[:-2:2]) if name % NAMES == text[-2]]
        assert key < NAMES and places[-1] == round(depth * 19)
        assert all(text[2 * place] == key + NAMES for place in places) and text[2 * places[-1] + 1] == text[-1]
        several += len(places) == 2
    assert several > 30 if overwritten and depth else several == 0


def test_the_same_dice_give_the_same_texts():
    assert documents(3, 9, dice(4)).equal(documents(3, 9, dice(4)))
    assert not documents(3, 9, dice(4)).equal(documents(3, 9, dice(5)))


def test_wrong_sizes_are_refused():
    for call in (lambda: documents(0, 3, dice()), lambda: documents(1, 0, dice())):
        with pytest.raises(ValueError, match="at least one text"):
            call()
    for lines, depth in ((1, 0.5), (5, 1.1), (5, -0.1)):
        with pytest.raises(ValueError, match="a key needs 2 lines"):
            key_documents(1, lines, depth, dice())
    with pytest.raises(ValueError, match="18 tokens, the recipe a context of 16"):
        learn(Llama(TINY), documents(2, 9, dice()), Recipe(context=16))


def test_a_text_is_written_for_people():
    ids = torch.tensor([3 + NAMES, 2 * NAMES + 3 * VALUES + 5, 3, 2 * NAMES + 3 * VALUES + 5, 12])
    assert written(ids) == "a03=5 a03:5 a12:"


def test_only_values_that_are_read_have_a_loss():
    model, tokens = Llama(TINY, 2).double(), documents(4, 12, dice(3))
    losses = value_losses(model, tokens)
    logs = model(tokens).log_softmax(-1)
    expected = []
    for row in range(4):
        for line in range(12):
            if tokens[row, 2 * line] < NAMES:
                want = -logs[row, 2 * line, tokens[row, 2 * line + 1]]
                assert torch.allclose(losses[row, line], want)
                expected.append(want)
            else:
                assert losses[row, line].isnan()
    loss = value_loss(model, tokens)
    assert torch.allclose(loss, torch.stack(expected).mean())
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_retrieval_compares_the_last_value():
    tokens = key_documents(6, 5, 0.5, dice(6))

    model = Llama(TINY, 4)
    logits = model(tokens[:, :-1])[:, -1]
    best = logits.argmax(-1)
    changed = tokens.clone()
    changed[::2, -1] = best[::2]
    changed[1::2, -1] = (best[1::2] + 1) % VOCABULARY
    assert retrieved(model, changed, batch_size=4).tolist() == [True, False] * 3


def test_a_beginner_learns():
    model = beginner(TINY, 0)
    assert 0.09 < model.output.weight.std() < 0.11 and model.norm.weight.eq(1).all()
    texts = documents(1, 8, dice()).repeat(200, 1)
    losses = learn(model, texts, Recipe(epochs=1, batch_size=4, peak_lr=1e-2, context=16), progress=False)
    assert len(losses) == 50 and losses[-1] < 0.5 < losses[0]
