"""Functions of Python's standard library as a corpus of code (chapter 19).

Every Python comes with nine megabytes of good source text. A tiny model cannot make use of comments, layout and doc
strings, so each function is written anew from its syntax tree: one statement a line, quotes of one kind.

Does: a list of files that does not depend on where Python is installed; parts to train, validate and test on, which are
    whole files and depend on the file's name alone; functions and methods; lines to take out.
Does not: run any of the code; find near copies between the parts (exact ones are dropped).
Source: the library of the running Python, Python Software Foundation licence version 2. It differs between versions
    of Python, and so does what is measured on it. Fried et al. 2023 take out single lines.
"""

import ast
import hashlib
import random
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minillama.pretraining.corpus import exact_duplicates

PARTS = ("train", "valid", "test")
# no ordinary source text, generated, or left out by some installations
NOT_CODE = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "tkinter", "ensurepip"}
    | {"turtledemo", "turtle.py", "pydoc_data", "__phello__", "_sysconfigdata", "_aix_support.py", "antigravity.py"}
)
LONGEST_LINE = 100  # characters; a longer one is a table or a message, and its function is left out


def code_files(root: Path | None = None) -> list[str]:
    """Names of the library's source files, sorted, relative to its folder and with forward slashes.

    Args:
        root: the folder; None for the running Python's.

    Raises:
        FileNotFoundError: if there are none, as in a Python that keeps its library in a zip file.
    """
    root = library_folder() if root is None else root
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    names = sorted(f.as_posix() for f in files if not NOT_CODE & set(f.parts) and "_sysconfigdata" not in f.name)
    if not names:
        raise FileNotFoundError(f"{root}: no source files of the standard library; use a Python that has its source")
    return names


def library_folder() -> Path:
    """Where the running Python keeps its standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def part_of(name: str) -> str:
    """The part of a file, by the hash of its name: of twenty, two are for testing and one for validation."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 20
    return "test" if number < 2 else "valid" if number == 2 else "train"


def functions(source: str) -> Iterator[str]:
    """The functions and methods of a source text in canonical form, outer ones only.

    Args:
        source: a Python file's text; nothing comes of one that the running Python cannot parse.

    Yields:
        The text of `ast.unparse`, without doc strings and comments, ending without a line feed; none with a line of
        more than 100 characters.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in _outermost(tree):
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(inner):
                inner.body = inner.body[1:] or [ast.Pass()]
        text = ast.unparse(node)
        if max(map(len, text.split("\n"))) <= LONGEST_LINE and text.isprintable() | text.isascii():
            yield text


def _outermost(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            yield from _outermost(node)


def code_corpus(root: Path | None = None) -> dict[str, list[str]]:
    """The functions of each part; one that stands in several places is kept in the first of them.

    Args:
        root: see `code_files`.

    Returns:
        part to functions, in the order of the files; those to train on come first when copies are dropped.
    """
    root = library_folder() if root is None else root
    found = []
    for name in sorted(code_files(root), key=lambda name: (PARTS.index(part_of(name)), name)):
        text = (root / name).read_text(encoding="utf-8", errors="replace")
        found += [(part_of(name), function) for function in functions(text)]
    copies = exact_duplicates(text for _, text in found)
    kept = [pair for number, pair in enumerate(found) if number not in copies]
    return {part: [text for p, text in kept if p == part] for part in PARTS}


@dataclass(frozen=True)
class Hole:
    """A text in three parts, of which the middle is to be found: `text` is their sum."""

    prefix: str
    middle: str
    suffix: str

    @property
    def text(self) -> str:
        """The whole, as it was."""
        return self.prefix + self.middle + self.suffix


def line_holes(texts: Iterable[str], number: int, seed: int = 0, before: int = 1, after: int = 1) -> list[Hole]:
    """Single lines that are not blank, taken out of functions, at most one of each function.

    The middle is a whole line with its indentation and without its line feed, with which the suffix begins.

    Args:
        texts: functions.
        number: of holes; fewer if there are not so many functions that are long enough.
        seed: which functions and lines.
        before, after: least number of lines on either side.

    Raises:
        ValueError: if no function is long enough.
    """
    dice, holes = random.Random(seed), []
    texts = [text for text in texts if _places(text, before, after)]
    if not texts:
        raise ValueError(f"no function has {before} lines before and {after} behind a line; pass longer ones")
    for text in dice.sample(texts, min(number, len(texts))):
        lines, place = text.split("\n"), dice.choice(_places(text, before, after))
        prefix = "".join(f"{line}\n" for line in lines[:place])
        holes.append(Hole(prefix, lines[place], text[len(prefix) + len(lines[place]) :]))
    return holes


def _places(text: str, before: int, after: int) -> list[int]:
    """Numbers of the lines that may be taken out: not blank, and with enough lines on both sides."""
    lines = text.split("\n")
    return [place for place in range(before, len(lines) - after) if lines[place].strip()]


def parses(text: str) -> bool:
    """Whether a text is Python, as far as the grammar goes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
