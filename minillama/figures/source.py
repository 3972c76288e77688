"""Show the library's own source in a chapter, never a second copy of it.

Does: functions (decorated ones too), classes, methods and whole modules of minillama, under a line that says where
they stand; can leave out the docstrings where the chapter has explained them already.
Does not: show anything written in a notebook cell, which the reader sees anyway.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = Path(__file__).resolve().parents[1]


class SourceListing:
    """A listing that Jupyter and the book set with their own highlighting, light or dark."""

    def __init__(self, place: str, name: str, code: str):
        self.place = place
        self.name = name
        self.code = code

    def _repr_markdown_(self) -> str:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", self.code)), default=0))
        where = f"`{self.place}`" + (f" · `{self.name}`" if self.name else "")
        return f"{where}\n\n{fence}python\n{self.code}\n{fence}"

    def __repr__(self) -> str:
        return f"<source of {self.name or self.place}>"


def show_source(obj: Any, docstring: bool = True) -> SourceListing:
    """The source of something in the library, to be shown in the page.

    Args:
        obj: a function, class, method or module of `minillama`.
        docstring: False leaves the docstrings out.

    Returns:
        an object that a notebook displays as highlighted code under the file's name.

    Raises:
        ValueError: if `obj` has no source below the `minillama` package.
    """
    try:
        inner = inspect.unwrap(obj)  # torch.no_grad() and the like wrap a function of ours in one of theirs
        file = Path(inspect.getsourcefile(inner)).resolve()
        code = textwrap.dedent(inspect.getsource(inner)).rstrip()
        place = file.relative_to(_PACKAGE.parent).as_posix()
        file.relative_to(_PACKAGE)
    except (TypeError, OSError, ValueError) as error:
        raise ValueError(f"show_source needs a function, class or module of minillama, got {obj!r}") from error
    name = "" if isinstance(obj, ModuleType) else obj.__qualname__
    return SourceListing(place, name, code if docstring else without_docstrings(code))


def without_docstrings(code: str) -> str:
    """The same code without docstrings; one that is all a body has is kept, since the body needs a statement.

    Args:
        code: Python source that parses on its own.

    Returns:
        the source with the lines of each docstring, and one empty line after it, gone.
    """
    lines = code.splitlines()
    gone: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            continue
        if ast.get_docstring(node, clean=False) is None or len(node.body) < 2:
            continue
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno
        gone.update(range(first, last))
        if last < len(lines) and not lines[last].strip():
            gone.add(last)
    return "\n".join(line for i, line in enumerate(lines) if i not in gone)
