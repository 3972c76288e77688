"""Programs of the village: valid, repeatable, and such that each line is needed."""

import ast
import random

from minillama.family.programs import STEPS, program, programs

SOME = list(programs(500))


def test_programs_are_valid_and_different():
    assert len(set(SOME)) == 500
    for text in SOME:
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef)
        assert STEPS[0] + 1 <= len(function.body) <= STEPS[1] + 1


def test_each_name_is_made_once_and_used_by_the_next_line():
    for text in SOME:
        (function,) = ast.parse(text).body
        made = [line.targets[0].id for line in function.body[:-1]]
        assert len(set(made)) == len(made)
        for name, line in zip(made, function.body[1:], strict=True):
            assert name in {node.id for node in ast.walk(line) if isinstance(node, ast.Name)}


def test_seeds_decide():
    assert list(programs(5, 3)) == list(programs(5, 3)) != list(programs(5, 4))
    assert program(random.Random(1)) == program(random.Random(1))
