"""Every problem set: sound metadata, right answers that pass, wrong answers that fail where and as they should."""

import ast
import re

import pytest
from course import COURSE, HIDDEN, SETS, SOLUTION, cells, grading, source, wrong_answers, wrong_code
from test_reading_order import library, notebook_forward_imports

WRONG = [(name, wrong) for name in SETS for wrong in wrong_answers(name)]


def complaints(notebook) -> list[str]:
    """What is wrong with the cells of a problem set."""
    found = []
    marked = [cell for cell in notebook.cells if grading.marks(cell)]
    names = [grading.marks(cell).get("grade_id", "") for cell in marked]
    found += [f"{name}: two cells of that name" for name in sorted({n for n in names if names.count(n) > 1})]
    for cell, name in zip(marked, names, strict=True):
        mark, role = grading.marks(cell), grading.role(cell)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            found.append(f"{name!r}: a grade id is made of small letters, digits and hyphens")
        if mark.get("schema_version") != 3:
            found.append(f"{name}: the metadata should be of schema version 3")
        if mark.get("locked") != (role in ("test", "given")):
            found.append(f"{name}: tests and given cells are locked, answers are not")
        if bool(mark.get("grade")) != (mark.get("points", 0) > 0):
            found.append(f"{name}: graded cells have points, others have none")
        for begin, end in (("### BEGIN SOLUTION", "### END SOLUTION"), ("### BEGIN HIDDEN", "### END HIDDEN")):
            order = re.findall(f"{begin}|{end}", cell.source)
            if order != [begin, end] * (len(order) // 2):
                found.append(f"{name}: {begin} and {end} are not in pairs")
        if ("BEGIN SOLUTION" in cell.source) != (role in ("answer", "written")):
            found.append(f"{name}: answers, and only answers, have a solution to remove")
        if "BEGIN HIDDEN" in cell.source and role != "test":
            found.append(f"{name}: hidden tests stand in a test cell")
        if role == "answer" and not re.search(r"^def \w+.*?\n {4}\"\"\"", cell.source, re.M | re.S):
            found.append(f"{name}: a task is a function with a docstring that stays in the release")
    for cell in notebook.cells:
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count):
            found.append(f"{cell.id}: a source has no outputs")
        if grading.role(cell) == "own" and "nbgrader" in cell.metadata:
            found.append(f"{cell.id}: has metadata of nbgrader and no grade id")
    return found


@pytest.mark.parametrize("name", SETS)
def test_metadata(name):
    assert complaints(source(name)) == []


@pytest.mark.parametrize("name", SETS)
def test_head_says_chapters_hours_and_points(name):
    notebook = source(name)
    head = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    by_tests = sum(grading.marks(cell)["points"] for cell in cells(notebook, "test").values())
    by_hand = sum(grading.marks(cell)["points"] for cell in cells(notebook, "written").values())
    assert re.search(r"^\*Chapters? .*hours", head, re.M)
    assert f"{by_tests} points by tests, {by_hand} by hand" in head
    titles = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert sum(int(n) for n in re.findall(r"^## Task \d+\..*\((\d+) points", titles, re.M)) == by_tests + by_hand
    assert 4 <= len(cells(notebook, "answer")) <= 6 and len(cells(notebook, "written")) == 1


@pytest.mark.parametrize("name", SETS)
def test_only_what_its_chapters_taught(name):
    notebook = source(name)
    head = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    last = int(re.findall(r"\d+", re.search(r"^\*Chapters? ([\d, andto]+)", head, re.M)[1])[-1])
    code = "\n".join(grading.without_magics(cell.source) for cell in notebook.cells if cell.cell_type == "code")
    assert list(notebook_forward_imports(last, code, library())) == []
    modules = {node.module or "" for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    modules |= {
        alias.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for alias in node.names
    }
    outside = {module.split(".")[0] for module in modules} - {"minillama", "torch", "numpy", "matplotlib"}
    assert outside <= {"ast", "collections", "dataclasses", "importlib", "itertools", "json", "math", "random", "re"}


def test_all_sets_have_the_same_helper():
    helpers = {
        re.search(r"^def check\(.*", cells(source(name), "given")["setup"].source, re.M | re.S)[0] for name in SETS
    }
    assert len(helpers) == 1


@pytest.mark.parametrize("name", SETS)
def test_the_rubric_has_points_and_marked_samples(name):
    rubric = (COURSE / "rubrics" / f"{name}.md").read_text(encoding="utf-8")
    (written,) = cells(source(name), "written").values()
    most = grading.marks(written)["points"]
    points = [int(n) for n in re.findall(r"^\| .* \| (\d+) \|$", rubric.split("## Sample")[0], re.M)]
    assert sum(points) == most
    samples = [int(n) for n in re.findall(rf"^## Sample .*: (\d+) of {most}$", rubric, re.M)]
    assert len(samples) >= 3 and max(samples) == most and min(samples) <= most / 2


@pytest.mark.parametrize("name", SETS)
def test_right_answers_pass(name):
    assert {test: message for test, message in grading.try_answers(source(name), {}).items() if message} == {}


@pytest.mark.parametrize("name", SETS)
def test_each_test_cell_notices_that_the_answer_is_missing(name):
    notebook = source(name)
    empty = {
        task: SOLUTION.sub("raise NotImplementedError()", c.source) for task, c in cells(notebook, "answer").items()
    }
    found = grading.try_answers(notebook, empty)
    assert {test for test, message in found.items() if not message} == set()


@pytest.mark.parametrize(("name", "wrong"), WRONG, ids=[f"{name}-{w['task']}-{w['name']}" for name, w in WRONG])
def test_wrong_answer_fails_the_intended_test_with_a_helpful_message(name, wrong):
    notebook = source(name)
    found = grading.try_answers(notebook, {wrong["task"]: wrong_code(wrong, notebook)}, seconds=2)
    failed = {test: message for test, message in found.items() if message}
    assert next(iter(failed), None) == wrong["fails"], failed
    assert wrong["says"] in failed[wrong["fails"]]
    others = {test for test in failed if wrong["task"] not in test}
    assert not others, "a wrong answer costs the points of its own task only"


@pytest.mark.parametrize("name", SETS)
def test_every_task_has_four_wrong_answers_and_every_test_cell_catches_one(name):
    notebook, wrongs = source(name), wrong_answers(name)
    tasks = [wrong["task"] for wrong in wrongs]
    assert set(tasks) == set(cells(notebook, "answer"))
    assert min(tasks.count(task) for task in set(tasks)) >= 4
    assert {wrong["fails"] for wrong in wrongs} == set(cells(notebook, "test"))
    assert len({(wrong["task"], wrong["name"]) for wrong in wrongs}) == len(wrongs)


# The checks can fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "change", "expected"),
    [
        ("spell", lambda cell: cell.metadata.nbgrader.update(grade_id="merge"), "two cells of that name"),
        ("spell", lambda cell: cell.update(source=cell.source.replace("### END SOLUTION", "")), "not in pairs"),
        ("spell", lambda cell: cell.update(source="def spell(text): pass"), "have a solution to remove"),
        ("spell", lambda cell: cell.metadata.nbgrader.update(locked=True), "are locked"),
        ("test-spell", lambda cell: cell.metadata.nbgrader.update(points=0), "graded cells have points"),
        ("test-spell", lambda cell: cell.metadata.nbgrader.update(schema_version=1), "schema version 3"),
        ("test-spell", lambda cell: cell.update(execution_count=1), "no outputs"),
        ("test-spell-more", lambda cell: cell.metadata.nbgrader.update(grade=False, points=0), "stand in a test cell"),
    ],
)
def test_bad_metadata_is_seen(task, change, expected):
    notebook = source("01-tokenizer")
    change(next(cell for cell in notebook.cells if grading.marks(cell).get("grade_id") == task))
    assert any(expected in complaint for complaint in complaints(notebook)), complaints(notebook)


def test_hidden_tests_are_in_every_set():
    assert all(any(HIDDEN.search(cell.source) for cell in cells(source(name), "test").values()) for name in SETS)
