"""Problem sets: make what students and teachers get, and grade a folder of submissions.

    python tools/classroom.py assignments            # _build/assignments: the students' notebooks, the teacher's bundle
    python tools/classroom.py grade FOLDER           # FOLDER holds alice.ipynb, bob.ipynb or alice/any.ipynb, bob/...

Does: drives nbgrader (the extra `classroom`) for the release, the gradebook, the points and the pages of feedback; the
tests themselves run as `grading.py` says. Grading again into the same folder keeps marks given by hand.
Does not: collect submissions, mark the written question, send anything anywhere.
"""

import argparse
import csv
import html
import logging
import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # nbgrader calls alembic

import nbformat
from grading import Limits, OwnProcess, grade_notebook, marks, read_notebook, rebuild, role
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import CheckCellMetadata, GetGrades, LimitOutput, NbGraderPreprocessor, SaveAutoGrades
from sqlalchemy.exc import SAWarning
from traitlets import Float, Int
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
COURSE = ROOT / "book" / "assignments"
BUILT = ROOT / "_build" / "assignments"
MOMENT = (2026, 1, 1, 0, 0, 0)  # of every file in an archive, so that the same sources give the same bytes


# --- nbgrader -------------------------------------------------------------------------------------------------------


class SeparateTests(NbGraderPreprocessor):
    """Takes the place of nbgrader's `Execute`: the student's code in a process of its own, the tests in this one."""

    call_seconds = Float(Limits.call_seconds, help="limit of one cell or call").tag(config=True)
    seconds = Float(Limits.seconds, help="limit of one submission").tag(config=True)
    memory = Int(Limits.memory, help="bytes beyond what Python and torch take").tag(config=True)

    def preprocess(self, nb, resources):
        limits = Limits(call_seconds=self.call_seconds, seconds=self.seconds, memory=self.memory)
        grade_notebook(nb, OwnProcess(limits))
        return nb, resources


class ForStudents(NbGraderPreprocessor):
    """In the feedback: no code of hidden tests (what they found is in the output), and no HTML of a student's."""

    REGION = re.compile(r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", re.DOTALL)

    def preprocess_cell(self, cell, resources, index):
        cell.source = self.REGION.sub("# (tests that are not shown)", cell.source)
        if role(cell) == "written":
            cell.source = re.sub(r"<(?=[A-Za-z/!?])", "< ", cell.source.replace("&", "&amp;"))  # no tag, no entity
        return cell, resources


def configure(config: Config) -> Config:
    """The settings of the course; `nbgrader_config.py` gives the same to nbgrader's own commands."""
    config.CourseDirectory.course_id = "minillama"
    config.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
    config.ClearSolutions.text_stub = "*Your answer, in place of this line.*"
    config.Autograde.autograde_preprocessors = [SeparateTests, LimitOutput, SaveAutoGrades, CheckCellMetadata]
    config.GenerateFeedback.preprocessors = [GetGrades, ForStudents, CSSHTMLHeaderPreprocessor]
    return config


class Course:
    """An nbgrader course in a folder: a copy of the sources, a gradebook, and what nbgrader makes from them."""

    def __init__(self, folder: Path, **limits: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(COURSE / "source", folder / "source", dirs_exist_ok=True, ignore=_no_checkpoints)
        shutil.copy(COURSE / "nbgrader_config.py", folder)
        self.folder = folder
        config = configure(Config())
        config.CourseDirectory.root = str(folder)
        config.CourseDirectory.db_url = self.gradebook = f"sqlite:///{folder / 'gradebook.db'}"
        for name, value in limits.items():
            config.SeparateTests[name] = value
        self.api = NbGraderAPI(CourseDirectory(config=config), config=config)
        warnings.filterwarnings("ignore", "Object of type <Submitted", SAWarning)  # nbgrader's own, at each submission
        logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # nbgrader's steps; failures come as results

    def _do(self, result: dict, what: str) -> None:
        if not result["success"]:
            last = str(result.get("error") or result.get("log") or "").strip().splitlines()[-1:]
            raise RuntimeError(f"nbgrader could not {what}: {''.join(last)}")

    def release(self, name: str) -> Path:
        self._do(self.api.generate_assignment(name, force=True, create=True), f"make the release of {name}")
        return self.folder / "release" / name / f"{name}.ipynb"

    def autograde(self, name: str, student: str) -> None:
        self._do(self.api.autograde(name, student, force=True, create=True), f"grade {student}")

    def feedback(self, name: str, student: str) -> Path:
        self._do(self.api.generate_feedback(name, student, force=True), f"write the feedback for {student}")
        return self.folder / "feedback" / student / name / f"{name}.html"

    def scores(self, name: str, student: str) -> dict[str, tuple[float | None, float]]:
        """Points and their maximum for each graded cell; None for what waits for a mark by hand."""
        with Gradebook(self.gradebook, "minillama") as gradebook:
            try:
                notebook = gradebook.find_submission_notebook(name, name, student)
            except MissingEntry:
                return {}
            return {
                grade.cell.name: (
                    grade.score if {grade.manual_score, grade.auto_score} != {None} else None,
                    grade.max_score,
                )
                for grade in notebook.grades
            }


def _no_checkpoints(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == ".ipynb_checkpoints"]


# --- release --------------------------------------------------------------------------------------------------------


def problem_sets() -> list[str]:
    return sorted(path.parent.name for path in (COURSE / "source").glob("*/*.ipynb") if path.stem == path.parent.name)


def archive(target: Path, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, path in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name, MOMENT), path.read_bytes(), zipfile.ZIP_DEFLATED)


def assignments(out: Path = BUILT, names: list[str] | None = None) -> list[Path]:
    """Writes the students' notebooks, an archive of them, and an archive for teachers; returns what it wrote."""
    out.mkdir(parents=True, exist_ok=True)
    names = names or problem_sets()
    released = []
    with tempfile.TemporaryDirectory() as folder:
        course = Course(Path(folder))
        for name in names:
            target = out / "students" / f"{name}.ipynb"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(course.release(name), target)
            released.append(target)
    archive(out / "students.zip", {path.name: path for path in released})
    teacher = [path for path in COURSE.glob("*.*") if path.suffix in (".md", ".py")]
    teacher += [path for name in names for path in (COURSE / "source" / name).glob("*.*")]
    teacher += [COURSE / "rubrics" / f"{name}.md" for name in names]
    archive(out / "teacher.zip", {f"assignments/{path.relative_to(COURSE)}": path for path in teacher})
    return [*released, out / "students.zip", out / "teacher.zip"]


# --- grading --------------------------------------------------------------------------------------------------------


def find_submissions(folder: Path) -> dict[str, list[Path]]:
    """Notebooks by student: the name of a file, or of a sub-folder with one notebook in it."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.suffix == ".ipynb" and path.is_file():
            found.setdefault(path.stem, []).append(path)
        elif path.is_dir():
            inside = [p for p in sorted(path.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
            found.setdefault(path.name, []).extend(p for p in inside if not p.is_symlink())
    if not found:
        raise ValueError(f"{folder} holds no submission; put alice.ipynb or alice/anything.ipynb there")
    return found


def which_set(paths: list[Path]) -> str:
    """The problem set that most cells of the first readable notebooks belong to."""
    sources = {name: read_notebook(COURSE / "source" / name / f"{name}.ipynb") for name in problem_sets()}
    known = {name: {marks(c)["grade_id"] for c in source.cells if marks(c)} for name, source in sources.items()}
    for path in paths:
        try:
            cells = {marks(cell).get("grade_id") for cell in read_notebook(path).cells}
        except (ValueError, OSError):
            continue
        best = max(known, key=lambda name: len(known[name] & cells))
        if known[best] & cells:
            return best
    raise ValueError("none of the notebooks belongs to a problem set; name it with --set")


def identifier(name: str) -> str:
    """A student's name as nbgrader and the file system take it."""
    return re.sub(r"[^\w.@-]", "-", name).strip(".") or "unnamed"


def grade(folder: Path, out: Path, name: str | None = None, **limits: float) -> list[dict]:
    """Grades every submission in `folder`; writes `grades.csv` and `feedback/` into `out`, and returns the rows."""
    found = find_submissions(folder)
    name = name or which_set([path for paths in found.values() for path in paths])
    if name not in problem_sets():
        raise ValueError(f"no problem set '{name}'; there are {', '.join(problem_sets())}")
    course = Course(out / "course", **limits)
    base = read_notebook(course.release(name))
    source = read_notebook(COURSE / "source" / name / f"{name}.ipynb")
    highest = {marks(c)["grade_id"]: float(marks(c)["points"]) for c in source.cells if marks(c).get("grade")}
    written = {marks(c)["grade_id"] for c in source.cells if marks(c).get("grade") and marks(c).get("solution")}
    (out / "feedback").mkdir(exist_ok=True)
    rows, used = [], set()
    for student, paths in found.items():
        student = identifier(student)
        notes, scores = [], {}
        try:
            if student in used:
                raise ValueError(f"two submissions are named {student}; only the first was graded")
            if len(paths) != 1:
                raise ValueError(f"{len(paths)} notebooks; there should be one")
            submission, notes = rebuild(base, read_notebook(paths[0]))
            target = course.folder / "submitted" / student / name / f"{name}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(submission, target)
            course.autograde(name, student)
            scores = course.scores(name, student)
            shutil.copy(course.feedback(name, student), out / "feedback" / f"{student}.html")
        except Exception as error:  # whatever one submission does, the others are graded
            notes.append(f"not graded: {error}")
            if student not in used:
                page = f"<!DOCTYPE html><meta charset='utf-8'><title>{name}</title><p>{html.escape(notes[-1])}</p>"
                (out / "feedback" / f"{student}.html").write_text(page, encoding="utf-8")
        used.add(student)
        tests = {test: scores.get(test, (0.0, 0.0))[0] for test in highest if test not in written}
        by_hand = [scores.get(test, (0.0, 0.0))[0] for test in written]
        row = {"student": student, "problem_set": name, "points": sum(tests.values())}
        row["out_of"] = sum(points for test, points in highest.items() if test not in written)
        row["written"] = "to mark" if None in by_hand else sum(by_hand)
        row["written_out_of"] = sum(highest[test] for test in written)
        rows.append(row | tests | {"notes": "; ".join(notes)})
        print(
            f"{student:20} {row['points']:g} of {row['out_of']:g}, written: {row['written']}. {'; '.join(notes)[:60]}"
        )
        write_grades(out / "grades.csv", rows)
    return rows


def write_grades(path: Path, rows: list[dict]) -> None:
    """The rows as CSV; a text that a spreadsheet would take for a formula gets a quote in front."""
    partial = path.with_suffix(".tmp")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"'{v}" if isinstance(v, str) and v[:1] in tuple("=+-@") else v for k, v in row.items()}
            )
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("assignments", help="the students' notebooks and the teacher's bundle, into _build/assignments")
    marking = commands.add_parser("grade", help="a folder of submissions into a CSV and pages of feedback")
    marking.add_argument("folder", type=Path, help="alice.ipynb, bob.ipynb, or alice/any.ipynb, bob/any.ipynb")
    marking.add_argument("--out", type=Path, help="default: _build/graded/FOLDER'S NAME")
    marking.add_argument("--set", dest="name", help="the problem set; default: what the first notebook is")
    marking.add_argument("--call-seconds", type=float, default=Limits.call_seconds, help="limit of one cell or call")
    marking.add_argument("--seconds", type=float, default=Limits.seconds, help="limit of one submission")
    marking.add_argument("--memory", type=float, default=Limits.memory / 2**30, help="GiB beyond Python and torch")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "assignments":
            for path in assignments():
                print(path.relative_to(ROOT))
            return 0
        out = chosen.out or ROOT / "_build" / "graded" / chosen.folder.resolve().name
        limits = {"call_seconds": chosen.call_seconds, "seconds": chosen.seconds, "memory": int(chosen.memory * 2**30)}
        grade(chosen.folder, out, chosen.name, **limits)
        print(f"\n{out / 'grades.csv'}\n{out / 'feedback'}")
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"classroom: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
