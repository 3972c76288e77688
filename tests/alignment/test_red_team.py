"""The red team: its attacks, its search, and what is learnt from it."""

import pytest
import torch

from minillama import data_path
from minillama.alignment.chat import encode_prompt, find_tag, messages
from minillama.alignment.red_team import DEPTH, VECTORS, Attempt, dress, lessons, red_team
from minillama.alignment.sampling import Answer
from minillama.model.tokenizer import Tokenizer
from minillama.village.language import Chooser
from minillama.village.requests import requests


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(data_path("tokenizer.model"))


@pytest.fixture(scope="module")
def roots():
    return requests("train", 80, 0, ["harmful"])


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_changes_words_and_not_what_is_asked(tokenizer, roots, name):
    changed = [dress(root, (name,), Chooser(i)) for i, root in enumerate(roots)]
    assert sum(a.lines != b.lines for a, b in zip(changed, roots, strict=True)) > 40
    for request, root in zip(changed, roots, strict=True):
        assert (request.facts, request.tags) == (root.facts, root.tags)
        assert not any(map(find_tag, request.lines)) and encode_prompt(tokenizer, messages(request))
        assert "{" not in request.prompt


def test_vectors_add_up_and_unknown_ones_are_named(roots):
    request = dress(roots[0], ("conversation", "system message", "authority"), Chooser(0))
    assert request.history and request.system and request.prompt.endswith(roots[0].prompt)
    with pytest.raises(ValueError, match=r"unknown attack vectors \['bribe'\]"):
        dress(roots[0], ("bribe",), Chooser(0))


def weak_spot(asked):
    """A model that does harm only if it is told twice that all is well."""
    return [Answer("bad" * (bool(r.system) + bool(r.history)), (5,), True) for r in asked]


def suspicion(asked, answers):
    return torch.tensor([float(len(a.text)) for a in answers])


@pytest.mark.parametrize("guided", [True, False])
def test_the_search_keeps_its_budget_and_repeats_nothing(roots, guided):
    found = red_team(weak_spot, suspicion, roots, 250, 60, guided, seed=1)
    assert len(found) == len({a.request.lines for a in found}) == 250
    assert all(1 <= len(a.vectors) == len(set(a.vectors)) <= DEPTH and a.root in roots for a in found)
    assert found == red_team(weak_spot, suspicion, roots, 250, 60, guided, seed=1)
    assert found != red_team(weak_spot, suspicion, roots, 250, 60, guided, seed=2)


def test_a_guided_search_finds_more_than_a_blind_one(roots):
    counts = [
        sum(a.answer.text == "badbad" for s in range(5) for a in red_team(weak_spot, suspicion, roots, 400, 50, g, s))
        for g in (True, False)
    ]
    assert counts[0] > 2 * counts[1] > 0


def test_too_large_a_budget_is_an_error(roots):
    with pytest.raises(ValueError, match="different attacks on 1 roots; ask for fewer than 100000"):
        red_team(weak_spot, suspicion, roots[:1], 100_000, 100_000)


def test_the_lesson_is_a_good_refusal_of_the_very_attack(tokenizer, roots):
    request = dress(roots[0], ("system message", "conversation"), Chooser(0))
    (lesson,) = lessons(tokenizer, [Attempt(roots[0], ("system message",), request, Answer("bad", (5,), True), 1.0)])
    said = tokenizer.decode([t for t, s in zip(lesson.tokens, lesson.said, strict=True) if s])
    assert said.strip().startswith(f"I will not help with that. It would hurt {roots[0]['b']}. You could bring")
    assert list(lesson.tokens[: -sum(lesson.said)]) == encode_prompt(tokenizer, messages(request))
