"""The whole way, once for each set: release, submissions, nbgrader's gradebook, CSV and feedback."""

import csv
import html
import re
import subprocess
import sys
import zipfile
from hashlib import sha256

import classroom
import nbformat
import pytest
from course import COURSE, HIDDEN, ROOT, SETS, SOLUTION, cells, grading, source, submission, wrong_answers, wrong_code

LIMITS = {"call_seconds": 60.0, "seconds": 600.0}


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    out = tmp_path_factory.mktemp("assignments")
    return out, classroom.assignments(out)


def lines_of(pattern: re.Pattern, notebook) -> set[str]:
    """Lines that only the instructor may have, without those that the visible part has too."""
    inside = {
        line.strip() for cell in notebook.cells for part in pattern.findall(cell.source) for line in part.split("\n")
    }
    outside = {line.strip() for cell in notebook.cells for line in pattern.sub("", cell.source).split("\n")}
    return {line for line in inside - outside if len(line) > 12}


@pytest.mark.parametrize("name", SETS)
def test_release_has_no_solution_and_no_hidden_test(name, released):
    text = (released[0] / "students" / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells)
    for pattern in (SOLUTION, HIDDEN):
        secret = lines_of(pattern, source(name))
        assert len(secret) > 10 and [line for line in secret if line in code] == []
    assert "BEGIN" not in text and "rubric" not in text
    assert [c.source for c in cells(notebook, "answer").values() if "raise NotImplementedError()" not in c.source] == []
    assert set(cells(notebook, "test")) == set(cells(source(name), "test"))


def test_bundles_are_complete_and_the_same_each_time(released, tmp_path):
    out, _ = released
    classroom.assignments(tmp_path)
    for name in ("students.zip", "teacher.zip"):
        assert sha256((out / name).read_bytes()).digest() == sha256((tmp_path / name).read_bytes()).digest(), name
    students = zipfile.ZipFile(out / "students.zip").namelist()
    assert students == [f"{name}.ipynb" for name in SETS]
    teacher = set(zipfile.ZipFile(out / "teacher.zip").namelist())
    for name in SETS:
        assert {f"assignments/source/{name}/{name}.ipynb", f"assignments/rubrics/{name}.md"} <= teacher


@pytest.mark.parametrize("name", SETS)
def test_right_empty_and_wrong_submissions(name, released, tmp_path):
    instructor = source(name)
    (written,) = cells(instructor, "written")
    right = submission(instructor, {written: "My answer."})
    wrong = {w["task"]: w for w in reversed(wrong_answers(name)) if "timed out" not in w["says"]}
    answers = {task: wrong_code(w, instructor) for task, w in wrong.items()}
    folder = tmp_path / "submissions"
    (folder / "bob").mkdir(parents=True)
    nbformat.write(right, folder / "alice.ipynb")
    nbformat.write(submission(right, answers), folder / "bob" / "my homework.ipynb")
    (folder / "carol.ipynb").write_bytes((released[0] / "students" / f"{name}.ipynb").read_bytes())
    (folder / "dora.ipynb").write_text("no notebook")
    classroom.grade(folder, tmp_path / "out", **LIMITS)
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    points = {test: cell.metadata.nbgrader.points for test, cell in cells(instructor, "test").items()}
    full = sum(points.values())
    assert [float(rows[s]["points"]) for s in ("alice", "carol", "dora")] == [full, 0, 0]
    assert {float(row["out_of"]) for row in rows.values()} == {full}
    assert (rows["alice"]["written"], rows["carol"]["written"]) == ("to mark", "0.0")
    assert "no notebook" in rows["dora"]["notes"] and {row["problem_set"] for row in rows.values()} == {name}
    expected = {
        test: 0.0 if message else points[test] for test, message in grading.try_answers(instructor, answers).items()
    }
    assert {test: float(rows["bob"][test]) for test in points} == expected
    page = html.unescape((tmp_path / "out" / "feedback" / "bob.html").read_text(encoding="utf-8"))
    plain = re.sub("<[^>]+>", "", page)
    assert [w["name"] for w in wrong.values() if w["says"] not in plain] == []
    assert [line for line in lines_of(HIDDEN, instructor) if line.startswith("check(") and line in plain] == []
    assert (tmp_path / "out" / "feedback" / "dora.html").is_file()


def test_misbehaving_submissions_do_not_stop_the_others(tmp_path):
    name = SETS[0]
    right = source(name)
    folder = tmp_path / "in"
    folder.mkdir()
    hanging = submission(right, {"encode": "while True: pass"})
    tampered = submission(
        right, dict.fromkeys(cells(right, "answer"), "pass") | dict.fromkeys(cells(right, "test"), "pass")
    )
    for cell in tampered.cells:
        if grading.role(cell) == "test":
            cell.metadata.nbgrader.update(points=1000, locked=False)
    tampered.cells.append(grading.new_code_cell("25.0"))
    script = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    nbformat.write(hanging, folder / "a hanging.ipynb")
    nbformat.write(tampered, folder / "b=1+1.ipynb")
    nbformat.write(submission(right, {"written": script}), folder / "c.ipynb")
    (folder / "d").mkdir()
    rows = classroom.grade(folder, tmp_path / "out", **LIMITS | {"call_seconds": 15.0})
    assert [row["student"] for row in rows] == ["a-hanging", "b-1-1", "c", "d"]
    assert [row["points"] for row in rows] == [19, 0, 25, 0]
    assert "test-spell was changed and is restored" in rows[1]["notes"] and "0 notebooks" in rows[3]["notes"]
    assert "timed out" in (tmp_path / "out" / "feedback" / "a-hanging.html").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "feedback" / "c.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page and not re.search(r"<img[^>]*onerror", page)


def test_marks_by_hand_stay_when_a_folder_is_graded_again(tmp_path):
    name = SETS[0]
    (tmp_path / "in").mkdir()
    nbformat.write(submission(source(name), {"written": "Mine."}), tmp_path / "in" / "alice.ipynb")
    (row,) = classroom.grade(tmp_path / "in", tmp_path / "out", **LIMITS)
    assert row["written"] == "to mark"
    with classroom.Gradebook(f"sqlite:///{tmp_path / 'out' / 'course' / 'gradebook.db'}", "minillama") as gradebook:
        mark = gradebook.find_grade("written", name, name, "alice")
        mark.manual_score, mark.needs_manual_grade = 4, False
        gradebook.db.commit()
    (row,) = classroom.grade(tmp_path / "in", tmp_path / "out", **LIMITS)
    assert row["written"] == 4 and row["points"] == 25


def test_nbgrader_s_own_commands_use_the_same_settings(tmp_path):
    """A teacher who works with the formgrader gets the same separation of tests and answers."""
    course, name = classroom.Course(tmp_path / "course"), SETS[0]
    course.release(name)
    target = tmp_path / "course" / "submitted" / "alice" / name / f"{name}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(submission(source(name), {"spell": "import os; os._exit(0)"}), target)
    command = [sys.executable, "-m", "nbgrader", "autograde", name, "--create"]
    subprocess.run(command, cwd=tmp_path / "course", check=True, capture_output=True)
    scores = course.scores(name, "alice")
    assert scores["test-spell"] == (0, 2) and scores["test-merge"] == (3, 3)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    assert classroom.main(["grade", str(tmp_path)]) == 2
    assert "holds no submission" in capsys.readouterr().err
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "x.ipynb")
    assert classroom.main(["grade", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "name it with --set" in capsys.readouterr().err
    assert classroom.main(["grade", str(tmp_path), "--set", "99", "--out", str(tmp_path / "out")]) == 2
    assert "no problem set '99'" in capsys.readouterr().err


def test_make_has_both_commands():
    makefile = (ROOT / "Makefile").read_text()
    assert "tools/classroom.py assignments" in makefile and 'tools/classroom.py grade "$(FOLDER)"' in makefile
    assert (COURSE / "README.md").is_file()
