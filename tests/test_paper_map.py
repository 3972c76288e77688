"""The map of the paper leaves no point out and claims nothing that is not there: all that it names exists.

Each check takes the text of the map and gives a list of complaints, so that the tests below can also hand it a map
with a planted mistake and see the check fail.
"""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "book" / "appendix" / "paper-map.md"
IDS = [f"S{number:02d}" for number in range(1, 43)]
NOTHING = "–"
TEXT = MAP.read_text(encoding="utf-8")


def rows(text: str) -> list[dict[str, str]]:
    """Every row of every table, as column name to cell."""
    found, header = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if header is None:
            header = cells
        elif not set(line) <= set("|- "):
            found.append(dict(zip(header, cells, strict=True)))
    return found


@cache
def page_text(page: Path) -> str:
    """What a reader can search for: Markdown, code and printed results."""
    pieces = []
    for cell in nbformat.read(page, as_version=4).cells:
        pieces.append(cell.source)
        for output in cell.get("outputs", []):
            pieces += [output.get("text", ""), output.get("data", {}).get("text/html", "")]
    return " ".join(" ".join(pieces).split()).replace("{term}", "").replace("`", "")


def every_point_once(text: str) -> list[str]:
    found = [row["Id"] for row in rows(text) if "Id" in row]
    return [] if found == IDS else [f"ids out of order, missing or doubled: {sorted(set(found) ^ set(IDS)) or found}"]


def covered_rows_exist(text: str) -> list[str]:
    complaints = []
    for row in rows(text):
        if row["Status"] != "covered":
            continue
        name = " ".join(list(row.values())[:2])[:60]
        link = re.fullmatch(r"\[(\d+)\]\(\.\./([\w./-]+)\)", row["Chapter"])
        page = ROOT / "book" / link[2] if link else None
        if page is None or not page.is_file() or not page.name.startswith(f"{int(link[1]):02d}-"):
            complaints.append(f"{name}: no chapter {row['Chapter']}")
        elif "Look for" in row and row["Look for"] not in page_text(page):
            complaints.append(f"{name}: {page.name} does not say {row['Look for']!r}")
        if row["Module"] != NOTHING and not (ROOT / "minillama" / f"{row['Module'].strip('`')}.py").is_file():
            complaints.append(f"{name}: no module {row['Module']}")
        file, _, function = row["Test"].strip("`").partition("::")
        if not file.startswith("tests/") or not (ROOT / file).is_file():
            complaints.append(f"{name}: no test file {file}")
        elif function and not re.search(rf"^def {function}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE):
            complaints.append(f"{name}: no {function} in {file}")
    return complaints


def every_row_is_covered(text: str) -> list[str]:
    return [
        f"{' '.join(list(row.values())[:2])[:60]}: status {row['Status']!r}, expected 'covered'"
        for row in rows(text)
        if row["Status"] != "covered"
    ]


CHECKS = [every_point_once, covered_rows_exist, every_row_is_covered]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_map(check):
    assert check(TEXT) == []


def test_every_chapter_of_the_contents_is_on_the_map():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    chapters = re.findall(r"file: book/(\d-[\w-]+/\d\d-[\w-]+)", contents)
    missing = [chapter for chapter in chapters if f"(../{chapter}.ipynb)" not in TEXT]
    assert chapters and missing == []


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (every_point_once, "| S17 |", "| S18 |"),
        (every_point_once, "| S42 |", "| S43 |"),
        (covered_rows_exist, "01-meet-llama-2.ipynb) |", "01-meet-llama-3.ipynb) |"),
        (covered_rows_exist, "| 18 July 2023 |", "| 18 July 2022 |"),
        (covered_rows_exist, "`model/rope`", "`model/ropes`"),
        (covered_rows_exist, "`tests/test_notebooks.py`", "`tests/test_notes.py`"),
        (covered_rows_exist, "::test_kv_cache_bytes", "::test_kv_cash_bytes"),
        (every_row_is_covered, "| covered |", "| planned |"),
        (covered_rows_exist, "[19](../4-family/", "[18](../4-family/"),
    ],
)
def test_each_check_finds_a_planted_mistake(check, right, wrong):
    assert right in TEXT
    assert set(check(TEXT.replace(right, wrong, 1))) > set(check(TEXT))
