"""Questions about told facts are answerable from the story alone, and are scored as a plain rule would."""

import re

import pytest
import torch

from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.ngram import NGram
from minillama.village.binding import ASKED, Probe, answers, probes, report
from minillama.village.stories import tell

STORIES = [tell(10**9 + seed) for seed in range(60)]
PROBES = [p for story in STORIES for p in probes(story)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([s.text for s in STORIES], 600)


def test_a_story_answers_its_questions():
    for story in STORIES:
        for p in probes(story):
            assert story.text.startswith(p.prefix + p.answer)
            assert p.options.count(p.answer) == 1 and p.distance >= 1
            if p.kind != "how many":  # a sum need not have been said
                assert re.search(rf"\b{p.answer.split()[-1]}\b", p.prefix)
    assert {p.kind for p in PROBES} == set(ASKED)


def test_a_told_place_is_asked_for_with_its_distance():
    story = next(s for s in STORIES if any(p.kind == "where" and p.distance > 2 for p in probes(s)))
    p = next(p for p in probes(story) if p.kind == "where" and p.distance > 2)
    sentences = re.split(r"(?<=[.!?])\"? ", p.prefix)
    assert p.answer.split()[-1] in sentences[-1 - p.distance]
    assert all(p.answer.split()[-1] not in s for s in sentences[-p.distance :])


def test_answers_equal_a_plain_search_over_the_options(tokenizer):
    model = Llama(ModelConfig(dim=32, n_layers=1, n_heads=2, vocab_size=600, multiple_of=8, max_seq_len=512))
    model.init_weights(0)
    questions = PROBES[:25]
    for question, got in zip(questions, answers(model, tokenizer, questions), strict=True):
        row = tokenizer.encode(question.prefix, bos=True)
        paths = {tuple(tokenizer.encode(question.prefix + o, bos=True)[len(row) :]): o for o in question.options}
        done: list[int] = []
        while tuple(done) not in paths:  # walk down the tree of options, always the likeliest way
            with torch.inference_mode():
                logits = model(torch.tensor([row + done]))[0, -1]
            done.append(max({p[len(done)] for p in paths if list(p[: len(done)]) == done}, key=lambda t: logits[t]))
        assert got == (paths[tuple(done)] == question.answer)


def test_an_ngram_that_has_read_the_story_answers_and_another_does_not(tokenizer):
    prefix, options = "Tom lost the key in the barn. He wept. Tom found the key", (" in the barn", " at the mill")
    question = Probe("where", prefix, options, options[0], 2)
    for text, right in (("found the key in the barn", True), ("found the key at the mill", False)):
        model = NGram(5, 600).train([tokenizer.encode(f"Tom {text}.", bos=True, eos=True)])
        assert answers(model, tokenizer, [question]) == [right]


def test_a_question_that_is_too_long_is_refused(tokenizer):
    model = Llama(ModelConfig(dim=32, n_layers=1, n_heads=2, vocab_size=600, multiple_of=8, max_seq_len=16))
    with pytest.raises(ValueError, match="the model reads 16"):
        answers(model, tokenizer, PROBES[:1])


def test_report_counts_what_the_reader_says():
    good = [s.body for s in STORIES[:10]]
    assert report(good).consistent == report(good).read == 1 and report(good).problems == 0
    wrong = "Mara had a red kite. Tom gave the kite to Mara."
    r = report([*good[:2], wrong, "Flub wub."])
    assert r.texts == 4 and r.consistent == 0.5 and 0 < r.problems < 1 and r.read < 1
    with pytest.raises(ValueError, match="at least one text"):
        report([])
