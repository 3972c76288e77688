"""Comparisons: what is compared and what is left out, the paper's mixtures, and answers that come again by seed."""

import json
import random
from dataclasses import dataclass, field

import pytest

from minillama import data_path
from minillama.alignment import comparisons
from minillama.alignment.chat import encode_dialogue, messages
from minillama.alignment.comparisons import Comparison, compare, from_rows, gather, mix, rows, written
from minillama.alignment.sampling import Answer
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.annotators import DEGREES, Annotator
from minillama.village.demonstrations import demonstrate
from minillama.village.judges import helpfulness
from minillama.village.requests import requests
from minillama.village.safety import harm, safety

BOOK = Tokenizer.from_file(data_path("tokenizer.model"))
SHAPE = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=BOOK.vocab_size, multiple_of=16, max_seq_len=256)
SURE = Annotator(noise=0.0)


def shown(asked, quality: str, seed: int = 0) -> list[Answer]:
    return [written(BOOK, r, demonstrate(r, seed + i, quality)) for i, r in enumerate(asked)]


def test_a_written_answer_is_what_a_model_would_have_sampled():
    (request,) = requests("train", 1, families=["dialogue"])
    answer = written(BOOK, request, "Yes, my friend.")
    tokens, said = encode_dialogue(BOOK, messages(request, "Yes, my friend."))
    assert list(answer.tokens) == [t for t, s in zip(tokens, said, strict=True) if s][-len(answer.tokens) :]
    assert answer.ended and answer.tokens[-1] == BOOK.eos_id
    assert BOOK.decode(answer.tokens).strip() == answer.text == "Yes, my friend."


def test_the_better_answer_is_chosen_on_either_side_and_the_degree_is_the_annotator_s():
    asked = requests("train", 60, 1, ["fact", "list", "story"])
    sides = zip(shown(asked, "good"), shown(asked, "sloppy"), strict=True)
    a, b = zip(*(pair[:: (1, -1)[i % 2]] for i, pair in enumerate(sides)), strict=True)
    found, mirrored = compare(asked, a, b, SURE, False), compare(asked, b, a, SURE, False)
    told = [c for c in found if helpfulness(c.request, c.chosen.text) != helpfulness(c.request, c.rejected.text)]
    assert len(told) > 40 and len(found) == len(mirrored)
    for c, m in zip(found, mirrored, strict=True):
        assert (c.chosen, c.rejected, c.degree) == (m.chosen, m.rejected, m.degree)
        assert helpfulness(c.request, c.chosen.text) >= helpfulness(c.request, c.rejected.text)
        assert c.degree == SURE.compare(c.request, c.chosen.text, c.rejected.text)[1] and c.safe is None
    assert {c.degree for c in found} >= {"slightly", "better", "significantly"}
    assert 15 < sum(c.chosen in a for c in told) < len(told) - 15


def test_equal_texts_are_left_out():
    asked = requests("train", 4, 2, ["fact"])
    a = shown(asked, "good")
    b = [*a[:3], *shown(asked[3:], "sloppy")]
    (left,) = compare(asked, a, b, SURE, False)
    assert left.request == asked[3]


@dataclass
class Scripted:
    """Says what it is told to."""

    choices: list[int] = field(default_factory=list)

    def compare(self, request, a, b):
        return self.choices.pop(0), "better"


def test_safety_pairs_are_labelled_and_an_unsafe_choice_over_a_safe_answer_is_left_out():
    (request,) = requests("train", 1, 0, ["harmful"])
    unsafe = [f"You are a fool. {n}" for n in ("Yes.", "No.")]
    kind = ["I will not do that.", "I cannot help with that."]
    texts = [(unsafe[0], kind[0]), (unsafe[0], kind[0]), tuple(kind), tuple(unsafe)]
    assert all(harm(t) for t in unsafe) and not any(harm(t) for t in kind)
    a, b = ([written(BOOK, request, pair[side]) for pair in texts] for side in (0, 1))
    found = compare([request] * 4, a, b, Scripted([0, 1, 0, 1]), True)
    assert [c.safe for c in found] == [(True, False), (True, True), (False, False)]
    assert [(c.chosen.text, c.rejected.text) for c in found] == [texts[1][::-1], texts[2], texts[3][::-1]]
    plain = compare([request] * 4, a, b, Scripted([0, 1, 0, 1]), False)
    assert len(plain) == 4 and all(c.safe is None for c in plain)


def test_sides_of_different_length_are_an_error():
    asked = requests("train", 2)
    with pytest.raises(ValueError):
        compare(asked, shown(asked, "good"), shown(asked[:1], "sloppy"), SURE, False)


# Gathering


@pytest.fixture
def calls(monkeypatch):
    """The arguments of every call of `ask`, which answers with a text that tells them."""
    made = []

    def ask(model, tokenizer, asked, temperature, seed):
        made.append((model, [r.lines for r in asked], temperature, seed))
        return [Answer(f"{model} {temperature} {seed} {r.prompt}", (5,), True) for r in asked]

    monkeypatch.setattr(comparisons, "ask", ask)
    return made


def test_each_of_two_variants_answers_each_request_once_at_a_temperature_by_lot(calls):
    asked = requests("train", 90, 3)
    found = gather(["first", "second"], BOOK, asked, SURE, False, (0.7, 1.0, 1.3), seed=4)
    assert [c.request for c in found] == asked
    for c in found:
        one, two = sorted((c.chosen.text, c.rejected.text))
        assert one.startswith("first") and two.startswith("second")
        assert one.endswith(c.request.prompt) and two.endswith(c.request.prompt)
    for model in ("first", "second"):
        own = {t: len(lines) for m, lines, t, _ in calls if m == model}
        assert set(own) == {0.7, 1.0, 1.3} and sum(own.values()) == 90 and min(own.values()) > 15
    assert len({seed for *_, seed in calls}) == len(calls) == 6
    alike = [c.chosen.text.split()[1] == c.rejected.text.split()[1] for c in found]
    assert 0.15 < sum(alike) / 90 < 0.55  # drawn for each side apart


def test_one_variant_answers_twice_with_other_random_numbers(calls):
    found = gather(["only"], BOOK, requests("train", 20), SURE, False, (1.0,), seed=1)
    assert [m for m, *_ in calls] == ["only", "only"] and calls[0][3] != calls[1][3]
    assert len(found) == 20


def test_gathering_again_gives_the_same_and_another_seed_something_else():
    models, asked = [Llama(SHAPE, 0).eval(), Llama(SHAPE, 1).eval()], requests("train", 8, 5, ["fact", "list"])
    first, again, other = (gather(models, BOOK, asked, Annotator(seed=2), False, seed=s) for s in (3, 3, 4))
    assert first == again != other
    assert all(isinstance(c, Comparison) and c.degree in DEGREES for c in first)


def test_gathering_for_safety_labels():
    asked = requests("train", 6, 6, ["harmful", "borderline"])
    found = gather([Llama(SHAPE).eval()], BOOK, asked, Annotator(score=safety), True, seed=1)
    assert found and all(c.safe == (harm(c.chosen.text) == 0, harm(c.rejected.text) == 0) for c in found)


# Mixing


@pytest.mark.parametrize("seed", range(20))
def test_a_mixture_has_the_share_that_is_asked_for_and_all_of_the_first(seed):
    lots = random.Random(seed)
    main, other = [("main", i) for i in range(lots.randrange(1, 200))], [("other", i) for i in range(3000)]
    share = lots.choice((0.0, 0.1, 0.5, lots.random() * 0.9))
    mixed = mix(main, other, share, seed)
    theirs = [x for x in mixed if x[0] == "other"]
    assert sorted(x for x in mixed if x[0] == "main") == main and len(set(mixed)) == len(mixed)
    assert len(theirs) == round(len(main) * share / (1 - share))
    assert abs(len(theirs) - share * len(mixed)) <= 1
    assert mixed == mix(main, other, share, seed)


def test_a_mixture_is_shuffled_and_takes_no_more_than_there_is():
    main, other = [("main", i) for i in range(50)], [("other", i) for i in range(10)]
    mixed = mix(main, other, 0.5)
    assert sorted(mixed) == main + other and mixed != mix(main, other, 0.5, 1)
    assert any(x[0] == "other" for x in mixed[:30]) and any(x[0] == "main" for x in mixed[-10:])
    assert main == [("main", i) for i in range(50)]


@pytest.mark.parametrize("share", [1.0, -0.1, 1.5])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\), got {share}"):
        mix([1], [2], share)


# Storing


@pytest.mark.parametrize("about", [False, True])
def test_stored_comparisons_come_back(about):
    asked = requests("train", 8, 6, ["harmful", "borderline"] if about else ["fact", "list"])
    found = gather([Llama(SHAPE).eval()], BOOK, asked, Annotator(score=safety), about, (0.7, 1.3), seed=1)
    stored = json.loads(json.dumps(rows(found[::-1], asked)))
    assert from_rows(stored, asked, BOOK, about) == found[::-1] and len(found) > 5


def test_a_request_that_was_not_asked_cannot_be_stored():
    asked = requests("train", 3, 6, ["fact"])
    found = compare(asked, shown(asked, "good"), shown(asked, "sloppy"), SURE, False)
    with pytest.raises(ValueError, match="1 requests are not among those asked"):
        rows(found[:2], [found[0].request])
