"""What the tests of the problem sets share: the sets, their tasks, and their libraries of wrong answers."""

import re
import runpy
from pathlib import Path

import grading
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "book" / "assignments"
SETS = sorted(path.parent.name for path in (COURSE / "source").glob("*/*.ipynb"))

SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS", re.DOTALL)


def source(name: str) -> NotebookNode:
    return nbformat.read(COURSE / "source" / name / f"{name}.ipynb", as_version=4)


def cells(notebook: NotebookNode, role: str) -> dict[str, NotebookNode]:
    """Cells of one role by grade id."""
    return {grading.marks(cell)["grade_id"]: cell for cell in notebook.cells if grading.role(cell) == role}


def wrong_answers(name: str) -> list[dict]:
    return runpy.run_path(str(ROOT / "tests" / "classroom" / "wrong" / f"{name}.py"))["WRONG"]


def wrong_code(wrong: dict, notebook: NotebookNode) -> str:
    """The code of a wrong answer: its own, or the right one with a change."""
    if "code" in wrong:
        return wrong["code"]
    code = cells(notebook, "answer")[wrong["task"]].source
    for old, new in wrong["change"]:
        assert old in code, f"{wrong['name']}: the right answer no longer contains {old!r}"
        code = code.replace(old, new)
    return code


def submission(notebook: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    """A copy of a notebook with some cells replaced, by grade id."""
    copied = nbformat.from_dict(notebook)
    for cell in copied.cells:
        cell.source = answers.get(grading.marks(cell).get("grade_id"), cell.source)
    return copied
