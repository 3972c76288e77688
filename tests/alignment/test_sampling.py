"""Sampling many answers: each belongs to its prompt, ends where it ends, and comes again with the same seed."""

import pytest

from minillama import data_path
from minillama.alignment.sampling import MAX_NEW_TOKENS, sample
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.demonstrations import QUALITIES, demonstrate
from minillama.village.requests import requests

BOOK = Tokenizer.from_file(data_path("tokenizer.model"))
SHAPE = ModelConfig(dim=32, n_layers=1, n_heads=4, vocab_size=BOOK.vocab_size, multiple_of=16, max_seq_len=128)
PROMPTS = [[1, *range(10, 10 + n)] for n in (30, 3, 17, 9, 4, 25, 3)]


@pytest.fixture(scope="module")
def model() -> Llama:
    """Random and large weights; EOS is likely, so that answers end at different places."""
    model = Llama(SHAPE).double().eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(50.0 if "embed" in name else 8.0)
    model.output.weight.data[BOOK.eos_id] *= 6
    return model


def test_greedy_answers_do_not_depend_on_their_batch(model):
    alone = [sample(model, BOOK, [p], temperature=0, max_new_tokens=20)[0] for p in PROMPTS]
    for size in (1, 2, 3, 100):
        assert sample(model, BOOK, PROMPTS, temperature=0, max_new_tokens=20, batch_size=size) == alone
    assert sample(model, BOOK, PROMPTS[::-1], temperature=0, max_new_tokens=20, batch_size=3) == alone[::-1]
    assert len({a.tokens for a in alone}) > 3


def test_the_same_seed_gives_the_same_answers(model):
    def draw(seed):
        return sample(model, BOOK, PROMPTS, max_new_tokens=15, seed=seed, batch_size=3)

    assert draw(1) == draw(1) != draw(2)
    repeated = sample(model, BOOK, [PROMPTS[0]] * 6, temperature=1.0, max_new_tokens=15)
    assert len({a.tokens for a in repeated}) > 1


def test_an_answer_ends_with_eos_or_is_marked(model):
    answers = sample(model, BOOK, PROMPTS * 20, max_new_tokens=6)
    assert {a.ended for a in answers} == {True, False}
    for a in answers:
        assert a.ended == (a.tokens[-1] == BOOK.eos_id) and BOOK.eos_id not in a.tokens[:-1]
        assert a.ended or len(a.tokens) == 6
        assert a.text == BOOK.decode(a.tokens).strip() and "</s>" not in a.text


def test_the_limit_leaves_room_for_every_demonstration():
    lengths = [len(BOOK.encode(demonstrate(r, 0, q))) for r in requests("train", 400) for q in QUALITIES]
    assert 0.5 * MAX_NEW_TOKENS < max(lengths) < MAX_NEW_TOKENS


def test_no_prompts_no_answers(model):
    assert sample(model, BOOK, []) == []
