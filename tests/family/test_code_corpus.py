"""The corpus of code: files by rule, parts by name, functions in canonical form, lines to take out."""

import ast
import random

import pytest

from minillama.family.code_corpus import (
    LONGEST_LINE,
    PARTS,
    code_corpus,
    code_files,
    functions,
    line_holes,
    parses,
    part_of,
)

SOURCE = '''
import os

class A:
    """Doc."""

    @property
    def name(self):   # a comment
        """Doc
        of two lines."""
        return "x"    +   'y'

    async def wait(self):
        """Only a doc string."""

def outer(a, *, b = 1):
    def inner():
        "doc"
        return b
    return inner

if os.name:
    def hidden(): return 1
'''


@pytest.fixture(scope="module")
def corpus():
    return code_corpus()


def test_functions_are_canonical_and_outermost():
    assert list(functions(SOURCE)) == [
        "@property\ndef name(self):\n    return 'x' + 'y'",
        "async def wait(self):\n    pass",
        "def outer(a, *, b=1):\n\n    def inner():\n        return b\n    return inner",
        "def hidden():\n    return 1",
    ]


def test_canonical_text_is_a_fixed_point():
    for text in functions(SOURCE):
        assert list(functions(text)) == [text] and parses(text)


@pytest.mark.parametrize("source", ["def f(:\n    pass", "print 'python 2'", "x = '\0'", ""])
def test_what_cannot_be_read_gives_nothing(source):
    assert list(functions(source)) == []


def test_long_lines_and_strange_characters_leave_a_function_out():
    assert list(functions(f"def f():\n    return '{'x' * LONGEST_LINE}'")) == []
    assert list(functions("def f():\n    return 'é'")) == []


def test_files_depend_on_names_alone(tmp_path):
    names = ["b.py", "a/c.py", "test/x.py", "a/tests/y.py", "idlelib/z.py", "site-packages/q.py", "a/data.txt"]
    for name in [*names, "_sysconfigdata__linux.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def f():\n    pass")
    assert code_files(tmp_path) == ["a/c.py", "b.py"]
    with pytest.raises(FileNotFoundError, match="no source files"):
        code_files(tmp_path / "nowhere")


def test_parts_are_fixed_and_of_the_right_size():
    assert [part_of(name) for name in ("abc.py", "ast.py", "json/decoder.py", "tarfile.py")] == [
        "train", "test", "train", "valid",
    ]  # fmt: skip
    parts = [part_of(f"{i}.py") for i in range(4000)]
    shares = [parts.count(part) / len(parts) for part in PARTS]
    assert shares == pytest.approx([0.85, 0.05, 0.10], abs=0.015)


def test_the_library_gives_a_corpus_on_every_python(corpus):
    assert 150 <= len(code_files()) <= 1000
    assert tuple(corpus) == PARTS
    assert len(corpus["train"]) > 4000 and len(corpus["valid"]) > 100 and len(corpus["test"]) > 300
    assert 1e6 < sum(map(len, corpus["train"])) < 1e7


def test_every_function_parses_is_short_in_width_and_stands_once(corpus):
    texts = [text for part in PARTS for text in corpus[part]]
    assert len({" ".join(text.casefold().split()) for text in texts}) == len(texts)
    for text in random.Random(0).sample(texts, 300):
        (node,) = ast.parse(text).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.unparse(node) == text and max(map(len, text.split("\n"))) <= LONGEST_LINE and text.isascii()


def test_lines_are_whole_and_their_surroundings_are_kept(corpus):
    holes = line_holes(corpus["test"], 200, seed=3)
    assert len(holes) == 200 and holes == line_holes(corpus["test"], 200, seed=3)
    assert holes != line_holes(corpus["test"], 200, seed=4)
    assert len({hole.text for hole in holes}) == 200
    for hole in holes:
        assert hole.text in corpus["test"] and hole.middle.strip() and "\n" not in hole.middle
        assert hole.prefix.endswith("\n") and hole.prefix.count("\n") >= 1
        assert hole.suffix.startswith("\n") and hole.suffix.count("\n") >= 1


def test_lines_need_functions_that_are_long_enough():
    with pytest.raises(ValueError, match="no function has 1 lines before and 1 behind"):
        line_holes(["def f():\n    pass"], 3)
    text = "def f():\n    a\n    b\n    c\n    d"
    assert line_holes([text], 3, before=2, after=2)[0].middle == "    b"
    assert {line_holes([text], 1, seed=seed)[0].middle.strip() for seed in range(30)} == {"a", "b", "c"}


def test_grammar_is_judged_without_running_anything():
    assert parses("def f():\n    raise SystemExit") and not parses("def f(:") and not parses("x = '\0'")
