"""The page for instructors: its plans add up, cover the book, and agree with the chapters and the problem sets."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from test_book import CHAPTERS
from test_reading_order import library, notebook_forward_imports

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "book" / "appendix" / "instructors.md"
PAGE = FILE.read_text(encoding="utf-8")
SOURCE = ROOT / "book" / "assignments" / "source"
SETS = {int(path.name[:2]): path for path in sorted(SOURCE.iterdir()) if path.is_dir()}
CAPSTONE = max(SETS)
HOURS_A_CHAPTER, HOURS_A_SESSION = 1.5, 1.5  # at home; in class
VAGUE = {"understand", "know", "learn", "appreciate", "be", "see", "grasp", "realise", "familiarise", "discuss"}


@dataclass
class Week:
    """One row of a plan."""

    sessions: list[str]
    sets: dict[int, float]
    in_class: float
    at_home: float

    @property
    def chapters(self) -> set[int]:
        return {int(number) for session in self.sessions for number in re.findall(r"[Cc]hapter (\d+)", session)}

    @property
    def n_sessions(self) -> int:
        return len(self.sessions) + sum("two sessions" in session for session in self.sessions)


def section(heading: str, page: str = PAGE) -> str:
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]


def plan(text: str) -> tuple[list[Week], tuple[float, float]]:
    """The weeks of a plan's table and the two numbers of its last row."""
    weeks = []
    for row in re.findall(r"^\| \d+ \|(.*)\|$", text, re.MULTILINE):
        sessions, sets, in_class, at_home = (cell.strip() for cell in row.split("|"))
        hours = {int(number): float(hours) for number, hours in re.findall(r"Set (\d+): (\d+) h", sets)}
        weeks.append(Week([s.strip() for s in sessions.split(";")], hours, float(in_class), float(at_home)))
    sums = re.search(r"^\| \*\*Sum\*\* \| \| \| \*\*([\d.]+)\*\* \| \*\*([\d.]+)\*\* \|$", text, re.MULTILINE)
    return weeks, (float(sums[1]), float(sums[2]))


def wrong_sums(text: str) -> list[str]:
    """What does not add up in a plan."""
    weeks, sums = plan(text)
    wrong = []
    for number, week in enumerate(weeks, 1):
        if week.in_class != HOURS_A_SESSION * week.n_sessions:
            wrong.append(f"week {number}: {week.n_sessions} sessions in {week.in_class} h")
        if week.at_home != HOURS_A_CHAPTER * len(week.chapters) + sum(week.sets.values()):
            wrong.append(f"week {number}: {week.at_home} h at home")
    if sums != (sum(week.in_class for week in weeks), sum(week.at_home for week in weeks)):
        wrong.append(f"the last row says {sums}")
    if float(re.search(r"^Together (\d+) hours", text, re.MULTILINE)[1]) != sum(sums):
        wrong.append("'Together ... hours'")
    return wrong


def head(number: int) -> str:
    cells = nbformat.read(SETS[number] / f"{SETS[number].name}.ipynb", as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "markdown")


def hours(number: int) -> float:
    """The upper end of what the head of a set says."""
    return float(re.search(r"About (?:\d+ to )?(\d+) hours", head(number))[1])


def chapters_of(number: int) -> set[int]:
    first, last = re.search(r"Chapters? (\d+)(?:(?: and| to) (\d+))?\.", head(number)).groups()
    return set(range(int(first), int(last or first) + 1))


def box(file: str) -> str:
    text = "\n".join(
        c.source for c in nbformat.read(ROOT / f"{file}.ipynb", as_version=4).cells if c.cell_type != "code"
    )
    return re.search(r"\{admonition\} In this chapter\n(.*?)^(?:`{3,}|:{3,})$", text, re.MULTILINE | re.DOTALL)[1]


PLANS = {name: section(name) for name in ("Fourteen weeks", "Six weeks")}
ALL = set(range(1, len(CHAPTERS) + 1))


@pytest.mark.parametrize(("name", "weeks"), [("Fourteen weeks", 14), ("Six weeks", 6)])
def test_hours_add_up(name, weeks):
    assert len(plan(PLANS[name])[0]) == weeks
    assert wrong_sums(PLANS[name]) == []


@pytest.mark.parametrize(("old", "new"), [("| 3 | 7 |", "| 3 | 6 |"), ("| 3 | 3 |", "| 4 | 3 |"), ("**42**", "**43**")])
def test_a_wrong_sum_is_seen(old, new):
    assert wrong_sums(PLANS["Fourteen weeks"].replace(old, new, 1))


def test_the_long_plan_has_every_chapter_and_every_set():
    weeks, _ = plan(PLANS["Fourteen weeks"])
    assert set().union(*(week.chapters for week in weeks)) == ALL
    assert {number for week in weeks for number in week.sets} == set(SETS) == set(range(1, 9))


def test_the_short_plan_says_what_it_leaves_out():
    weeks, _ = plan(PLANS["Six weeks"])
    left_out = re.search(
        r"\*\*Left out:\*\* chapters ([\d, and]+), and with them sets ([\d, and]+),", PLANS["Six weeks"]
    )
    chapters, sets = ({int(number) for number in re.findall(r"\d+", text)} for text in left_out.groups())
    taught = set().union(*(week.chapters for week in weeks))
    assert taught | chapters == ALL and not taught & chapters
    given = {number for week in weeks for number in week.sets}
    assert given | sets == set(SETS) and not given & sets
    assert all(chapters_of(number) & chapters for number in sets)


@pytest.mark.parametrize("name", PLANS)
def test_chapters_come_in_order_and_after_what_they_need(name):
    taught: set[int] = set()
    for week in plan(PLANS[name])[0]:
        for chapter in sorted(week.chapters):
            needed = {
                int(n)
                for n in re.findall(r"/?(\d\d)-[\w-]+\.ipynb", re.search(r"You need.*", box(CHAPTERS[chapter - 1]))[0])
            }
            assert needed <= taught, f"chapter {chapter} needs {needed - taught}"
            assert chapter > max(taught, default=0)
            taught.add(chapter)


@pytest.mark.parametrize("name", PLANS)
def test_sets_take_the_hours_that_their_heads_say_and_come_after_their_chapters(name):
    weeks, _ = plan(PLANS[name])
    for number in {number for week in weeks for number in week.sets}:
        assert sum(week.sets.get(number, 0) for week in weeks) == hours(number), f"set {number}"
        first = next(i for i, week in enumerate(weeks) if number in week.sets)
        taught = set().union(*(week.chapters for week in weeks[: first + 1]))
        assert number == CAPSTONE or chapters_of(number) <= taught, f"set {number} in week {first + 1}"


def test_the_capstone_needs_no_later_chapter_than_the_page_says():
    last = int(re.search(r"the capstone needs nothing beyond chapter (\d+)", PAGE)[1])
    cells = nbformat.read(SETS[CAPSTONE] / f"{SETS[CAPSTONE].name}.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    code = re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)
    assert "minillama.alignment" in code and list(notebook_forward_imports(last, code, library())) == []


@pytest.mark.parametrize("file", CHAPTERS)
def test_every_chapter_has_objectives_that_can_be_examined(file):
    part = section("What students can do afterwards")
    found = re.search(rf"^\{{doc\}}`\.\./{file.removeprefix('book/')}`\n\n((?:- .*\n)+)", part, re.MULTILINE)
    assert found, f"no objectives for {file}"
    objectives = re.findall(r"^- (\w+)", found[1], re.MULTILINE)
    assert 2 <= len(objectives) <= 3
    assert not VAGUE & {verb.lower() for verb in objectives} and all(verb.islower() for verb in objectives)


def test_a_session_lasts_as_long_as_the_page_says():
    rows = re.findall(r"^\| (\d+) \|", section("A session of 90 minutes"), re.MULTILINE)
    assert len(rows) >= 6 and sum(map(int, rows)) == 90


def test_costs_are_those_of_the_boxes():
    costs = section("Costs and machines")
    found = [
        re.search(r"Runs in\*\* about (\d+) seconds and ([\d.]+) ([GM])B", box(file)).groups() for file in CHAPTERS
    ]
    minutes = sum(int(seconds) for seconds, _, _ in found) / 60
    most = max(float(size) / (1 if unit == "G" else 1000) for _, size, unit in found)
    assert abs(float(re.search(r"about (\d+) minutes on one", costs)[1]) - minutes) <= 2
    assert f"one needs is {most:g} GB" in costs


def test_links_and_paths_lead_somewhere():
    documents = re.findall(r"\{doc\}`([^`]+)`", PAGE)
    missing = [name for name in documents if not list(FILE.parent.glob(f"{name}.*"))]
    paths = re.findall(r"github\.com/[\w-]+/[\w.-]+/(?:blob|tree)/main/([^)\s]+)", PAGE)
    paths += re.findall(r"(?<![\w/.])((?:book|tests|tools)/[\w./-]*[\w/])", re.sub(r"https?://\S+", "", PAGE))
    assert len(documents) > 22 and len(paths) > 5
    assert missing + [path for path in paths if not (ROOT / path).exists()] == []


def test_sets_that_the_page_names_by_file_exist():
    named = set(re.findall(r"\b(0\d-[a-z][\w-]+)", PAGE)) - {Path(file).name for file in CHAPTERS}
    assert named and all(any(path.name.startswith(name) for path in SETS.values()) for name in named), named


def workflows() -> list[dict]:
    blocks = re.findall(r"^   ```yaml\n(.*?)^   ```", PAGE, re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(re.sub(r"^   ", "", block, flags=re.MULTILINE)) for block in blocks]


def test_workflows_can_be_pasted():
    check, grade = workflows()
    for workflow in (check, grade):
        (job,) = workflow["jobs"].values()
        assert workflow["permissions"] == {"contents": "read"} and job["timeout-minutes"]
        assert all("run" in step or "uses" in step for step in job["steps"])
    for step in grade["jobs"]["grade"]["steps"]:
        assert ("secrets." in str(step.get("env", ""))) == ("gh classroom" in step.get("run", "")), (
            "who knows the token"
        )
        assert "${{" not in step.get("run", ""), "an input pasted into a shell command can be a command"
    assert grade["jobs"]["grade"]["steps"][0]["with"] == {"persist-credentials": False}


@pytest.mark.parametrize(("answer", "status"), [("2", 0), ("3", 1)])
def test_the_check_that_students_get_says_which_test_stops(tmp_path, answer, status):
    test = new_code_cell("assert answer == 2, 'two was expected'")
    test.metadata.nbgrader = {"grade_id": "test-two"}
    cells = [new_code_cell(f"answer = {answer}"), test]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "01-tokenizer.ipynb")
    script = workflows()[0]["jobs"]["check"]["steps"][-1]["run"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env={"PATH": path, "HOME": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    assert ("test-two" in done.stdout and "two was expected" in done.stdout) == bool(status)
