"""Exercises against running them, pass@k against counting all subsets, and what is chosen to learn (chapter 19)."""

import itertools
import sys
from fractions import Fraction
from math import comb

import pytest
import torch

from minillama.alignment.sft import Recipe
from minillama.family import code_exercises
from minillama.family.code_exercises import (
    ENDINGS,
    FUNCTION,
    STEPS,
    attempts,
    exercises,
    first_passing,
    judged,
    lesson,
    part_of,
    pass_at_k,
    program,
    programs,
    read,
    tune_for,
    vocabulary,
)
from minillama.family.sandbox import Limits, Sandbox, Verdict
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux's limits")


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary(600)


def every_makeup():
    firsts = range(len(STEPS))
    for n in (1, 2):
        for steps in itertools.product(firsts, repeat=n):
            yield from ((*steps, ending) for ending in range(len(ENDINGS)))


def test_every_written_program_does_what_the_tests_expect():
    for makeup in every_makeup():
        names = {}
        exec(program(makeup), names)
        for xs in ([], [3], [-2, 0, 5, 4, 4, -7], [1, 1, 0, 2]):
            assert names[FUNCTION](list(xs)) == code_exercises._result(makeup, list(xs))


def test_steps_are_told_apart_by_random_tests():
    for some in (STEPS, ENDINGS):
        lists = [[3, -2, 0, 4, 4], [1, 7, -5], [-8, 6, 0], [2]]
        assert len({str([step[2](list(xs)) for xs in lists]) for step in some}) == len(some)
        said = [text for step in some for text in step[0]]
        assert len(said) == len(set(said))


def test_compositions_of_the_parts_do_not_meet():
    parts = {part: {e.makeup for e in exercises(150, part)} for part in ("train", "valid", "test")}
    assert all(part_of(makeup) == part for part, found in parts.items() for makeup in found)
    assert not parts["train"] & parts["test"] and not parts["train"] & parts["valid"]
    shares = [part_of(makeup) for makeup in every_makeup()]
    assert 0.15 < shares.count("test") / len(shares) < 0.25
    seen = {text for text in programs(500)}
    assert not seen & {program(makeup) for makeup in every_makeup() if part_of(makeup) != "train"}


def test_exercises_are_all_different_and_the_same_for_a_seed():
    found = exercises(200, seed=3)
    assert len({e.question for e in found}) == 200 and found == exercises(200, seed=3) != exercises(200, seed=4)
    assert all(len(e.cases) == 8 and e.cases[0].arguments == ([],) for e in found)
    assert exercises(1, tests=1)[0].cases[0].arguments != ([],)
    again = found[0].with_cases([[1, 2], []])
    assert [case.arguments for case in again.cases] == [([1, 2],), ([],)] and again.question == found[0].question
    for bad in (("sun", 1, 1), ("train", 0, 1), ("train", 1, 0)):
        with pytest.raises(ValueError, match="expected a part of"):
            exercises(bad[1], bad[0], tests=bad[2])


@linux
def test_solutions_pass_and_others_do_not():
    asked = exercises(12, "test", 1)
    with Sandbox(Limits(seconds=5)) as sandbox:
        given = [[e.solution, program((*e.makeup[:-1], (e.makeup[-1] + 6) % 8)), "print('passed')"] for e in asked]
        verdicts = judged(sandbox, asked, given)
    assert all(row[0].passed and not row[2].passed for row in verdicts)
    assert sum(not row[1].passed for row in verdicts) >= 9


@linux
def test_equal_texts_are_run_once(monkeypatch):
    runs = []
    (asked,) = exercises(1)
    with Sandbox() as sandbox:
        monkeypatch.setattr(sandbox, "test", lambda text, *rest: runs.append(text) or Verdict(text == "b", ""))
        verdicts = judged(sandbox, [asked], [["a", "b", "a", "b"]])
    assert runs == ["a", "b"] and [v.passed for v in verdicts[0]] == [False, True, False, True]


def test_the_first_that_passes_is_chosen():
    yes, no = Verdict(True, "passed"), Verdict(False, "timeout")
    chosen = first_passing([["a", "b", "c"], ["d", "e"], ["f"]], [[no, yes, yes], [no, no], [yes]])
    assert chosen == {0: "b", 2: "f"}
    with pytest.raises(ValueError):
        first_passing([["a"]], [])


def test_pass_at_k_is_the_share_of_all_subsets():
    for n in range(1, 9):
        for c in range(n + 1):
            passed = [i < c for i in range(n)]
            for k in range(1, n + 1):
                subsets = list(itertools.combinations(passed, k))
                assert pass_at_k(n, c, k) == Fraction(sum(map(any, subsets)), len(subsets))


def test_pass_at_k_is_unbiased_and_the_plug_in_is_not():
    n, p = 12, Fraction(1, 7)
    for k in range(1, n + 1):
        weights = [comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        assert sum(w * pass_at_k(n, c, k) for c, w in enumerate(weights)) == 1 - (1 - p) ** k
        plug_in = sum(w * (1 - (1 - Fraction(c, n)) ** k) for c, w in enumerate(weights))
        assert plug_in == p if k == 1 else plug_in < 1 - (1 - p) ** k


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6)])
def test_pass_at_k_refuses_nonsense(n, c, k):
    with pytest.raises(ValueError, match="passed <= samples"):
        pass_at_k(n, c, k)


def test_a_lesson_teaches_the_solution_only(tokenizer):
    (exercise,) = exercises(1, seed=5)
    example = lesson(tokenizer, exercise, exercise.solution)
    said = [t for t, s in zip(example.tokens, example.said, strict=True) if s]
    assert tokenizer.decode([t for t in said if t != tokenizer.eos_id]).strip() == exercise.solution
    assert tokenizer.eos_id in said and exercise.question in tokenizer.decode(example.tokens)
    assert all(read(tokenizer, "x = 1").said)


def test_every_question_and_function_can_be_read_back(tokenizer):
    for exercise in exercises(60, "test"):
        for text in (exercise.question, exercise.solution):
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_steps_do_not_depend_on_the_number_of_lessons(tokenizer):
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=600, multiple_of=16, max_seq_len=128)
    recipe = Recipe(batch_size=2, context=128, peak_lr=1e-2)
    for number in (3, 11):
        lessons = [lesson(tokenizer, e, e.solution) for e in exercises(number)]
        assert len(tune_for(Llama(config), lessons, 7, recipe, progress=False)) == 7


def test_attempts_are_grouped_by_exercise(tokenizer):
    torch.manual_seed(0)
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=600, multiple_of=16, max_seq_len=128)
    given = attempts(Llama(config).eval(), tokenizer, exercises(3), 4)
    assert len(given) == 3 and all(len(row) == 4 for row in given)
