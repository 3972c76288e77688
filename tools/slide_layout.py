"""What of a chapter stands on slides, and what the speaker reads (used by `slides.py`).

A slide shows what a class looks at (a claim, an equation, a few lines of code, an output, a figure, a question), and
its speaker notes hold the page's text that goes with it. The height of everything shown is estimated in lines of text,
so that what does not fit goes to the next slide.

Does: a slide for every heading, figure and *Predict first* of a chapter, its box, its summary, its quiz with the answer
as the next step; MyST's roles become words, since slides have neither a bibliography nor a glossary.
Does not: exercises and their solutions (the notes have the questions), listings and outputs that are long or wide,
most lists outside the summary; the page has them.
Source: the sections of a chapter, as `tests/test_notebooks.py` requires them.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from pybtex.database import parse_file
from pybtex.richtext import Text

from minillama.figures.markup import inline_code
from minillama.figures.quiz import Question

ROOT = Path(__file__).resolve().parents[1]

LINES = 13.8  # height of a slide below its heading, in lines of text
COLUMNS = 84  # characters of prose in a line
WORDS = 110  # of prose on one slide
LEAD_WORDS = 50  # of a paragraph that opens a slide
CODE_LINES, CODE_COLUMNS = 14, 96
OUTPUT_LINES, OUTPUT_COLUMNS = 18, 84
WITH_CODE = {"Build it plainly", "Break it"}  # elsewhere the notebook shows how it is measured, the slide only what

FENCE = re.compile(r"^(`{3,}|:{3,})(?:\{([\w-]+)\})?(.*)$")
LIST = re.compile(r"^(?:[-*]|\d+\.) ", re.MULTILINE)
LABELLED = re.compile(r"\$\$\s*\(([\w:-]+)\)")
SYMPTOM = re.compile(r"symptom|no error|how to find", re.IGNORECASE)
MATH = re.compile(r"\$[^$]+\$")


@dataclass
class Slide:
    """One slide: what is seen and what the speaker reads."""

    chapter: str
    section: str
    heading: str
    cells: list = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: float = 0.0
    words: int = 0

    def fits(self, lines: float, words: int = 0) -> bool:
        return not self.cells or (self.lines + lines <= LINES and self.words + words <= WORDS)

    def add(self, cell, lines: float, words: int = 0) -> None:
        self.cells.append(cell)
        self.lines += lines
        self.words += words


# What stands in a Markdown cell --------------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of each block: heading, equation, table, list, paragraph, or the name of a directive."""
    lines, i = text.splitlines(), 0
    while i < len(lines):
        line, start = lines[i], i
        fence = FENCE.match(line)
        i += 1
        if not line.strip() or line.strip() == "+++":
            continue
        if fence:
            while i < len(lines) and lines[i].rstrip() != fence[1]:
                i += 1
            i += 1
            yield fence[2] or "listing", "\n".join([fence[3].strip(), *lines[start + 1 : i - 1]])
        elif line.startswith("$$"):
            while lines[i - 1].count("$$") + (i - 1 > start) < 2:
                i += 1
            yield "equation", "\n".join(lines[start:i])
        elif line.startswith("#"):
            yield "heading", line
        else:
            kind = "table" if line.startswith("|") else "list" if LIST.match(line) else "paragraph"
            while i < len(lines) and lines[i].strip() and not lines[i].startswith(("$$", "#", "```", ":::")):
                if kind == "paragraph" and lines[i].startswith("|"):
                    break
                i += 1
            yield kind, "\n".join(lines[start:i])


def markdown(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def sentences(paragraph: str, ends: str = ".?!") -> list[str]:
    """The sentences of a paragraph, formulas and code kept whole; each ends with one of `ends`."""
    kept: list[str] = []

    def hide(match: re.Match) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    text = re.sub(r"\$[^$]+\$|`[^`]+`|\be\.g\.|\bi\.e\.|\bet al\.|\bvs\.", hide, " ".join(paragraph.split()))
    after = rf"(?:(?<=[{ends}])|(?<=[{ends}][*\")])|(?<=[{ends}]\*\*))"
    parts = re.split(rf"{after}\s+(?=[A-Z0-9*_(\"\x00])", text)
    return [re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], part) for part in parts]


def printed(output) -> list[str]:
    """The lines of an output that is text and nothing else."""
    data = output.get("data", {})
    text = output.get("text", "") if output.output_type == "stream" else data.get("text/plain", "")
    return text.rstrip().splitlines() if output.output_type == "stream" or set(data) == {"text/plain"} else []


def joined(outputs: list) -> list:
    """The outputs, with what was printed in several pieces as one."""
    kept: list = []
    for output in outputs:
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1] = new_output("stream", text=kept[-1].text + output.text)
        else:
            kept.append(output)
    return kept


def small(lines: list[str], most: int, columns: int) -> bool:
    """Are there lines, at most so many, none of them too wide?"""
    return 0 < len(lines) <= most and max(map(len, lines)) <= columns


def word_count(text: str) -> int:
    return len(MATH.sub("x", text).split())


def opening(paragraph: str, limit: int) -> str:
    """As many whole sentences from the start as stay below `limit` words, at least one."""
    taken: list[str] = []
    for sentence in sentences(paragraph):
        if taken and word_count(" ".join([*taken, sentence])) > limit:
            break
        taken.append(sentence)
    return " ".join(taken)


@cache
def authors() -> dict[str, str]:
    """Each key of the bibliography as "Touvron et al. 2023"."""
    found = {}
    for key, entry in parse_file(str(ROOT / "book" / "references.bib")).entries.items():
        people = entry.persons.get("author", [])
        names = [str(Text.from_latex(" ".join(person.last_names))) for person in people] or [key]
        names = names if len(names) < 3 else [f"{names[0]} et al."]
        found[key] = f"{' and '.join(names)} {entry.fields.get('year', '')}".strip()
    return found


def plain(text: str, numbers: dict[str, str]) -> str:
    """MyST as Markdown: roles as words, links as their text, `numbers` of equations in the place of labels."""

    def cite(match: re.Match) -> str:
        who = [authors()[key.strip()] for key in match[2].split(",")]
        return "; ".join(who) if match[1] else f"({'; '.join(who)})"

    def equation(match: re.Match) -> str:
        shown, label = re.fullmatch(r"(?:(.*?)\s*<)?([\w:-]+)>?", match[1]).groups()
        return shown or f"({numbers[label]})"

    text = re.sub(r"\{cite(:t)?\}`([^`]+)`", cite, text)
    text = re.sub(r"\{eq\}`([^`]+)`", equation, text)
    text = re.sub(r"\{(?:term|doc|ref)\}`(?:([^`<]*?)\s*<[^`>]*>|([^`]+))`", lambda m: m[1] or m[2], text)
    text = re.sub(r"\{\w+(?::\w+)?\}`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"(?<!!)\[([^\]]+)\]\([^)\s]+\)", r"\1", text)


def _words(rows: list[str]) -> str:
    return re.sub(r"[|]|--+", " ", " ".join(rows))


def _table_lines(rows: list[str]) -> float:
    return sum(1.4 * -(-len(row) // 105) for row in rows) - 1.0  # the rule takes no line


def _readable(rows: list[str]) -> bool:
    return _table_lines(rows) <= LINES and word_count(_words(rows)) <= WORDS


# From a chapter to slides --------------------------------------------------------------------------------------------


class Chapter:
    """Reads a notebook from top to bottom and lays out its slides."""

    def __init__(self, notebook, numbers: dict[str, str]):
        self.cells = [cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", [])]
        self.title = re.search(r"^# (.*)$", markdown(notebook), re.MULTILINE)[1]
        self.numbers = numbers
        self.section = ""
        self.slides: list[Slide] = []
        self.exercises: list[str] = []
        self.last = ""  # the paragraph before the present block, if it is not shown yet
        self.waiting: list[str] = []  # notes that have no slide yet

    @property
    def slide(self) -> Slide:
        return self.slides[-1]

    def open(self, heading: str) -> Slide:
        """A new slide; the one before it goes if nothing is to be seen on it, and leaves its notes."""
        if self.slides and not self.slide.cells:
            self.waiting += self.slides.pop().notes
        self.slides.append(Slide(self.title, self.section, heading, notes=self.waiting))
        self.waiting = []
        return self.slide

    def place(self, cell, lines: float, words: int = 0) -> None:
        """Put a cell on the present slide or, if it is full, on the next one of the same heading."""
        if not self.slide.fits(lines, words):
            self.open(self.slide.heading)
        self.slide.add(cell, lines, words)

    def text(self, source: str, tags: list[str] | None = None) -> None:
        lines = sum(-(-len(line) // COLUMNS) for line in source.splitlines() if line.strip()) + 0.4
        self.place(new_markdown_cell(source, metadata={"tags": tags or []}), lines, word_count(source))

    def note(self, source: str) -> None:
        self.slide.notes.append(source)

    def lay_out(self) -> list[Slide]:
        for cell in self.cells:
            if cell.cell_type == "markdown":
                for kind, text in blocks(cell.source):
                    self.block(kind, plain(text, self.numbers) if kind != "equation" else text)
            elif "quiz(" in cell.source and self.section == "Quiz":
                self.quiz(cell.source)
            elif cell.cell_type == "code":
                self.code(cell)
        if self.slides and not self.slide.cells:
            self.slides.pop()
        return self.slides

    def block(self, kind: str, text: str) -> None:
        if kind == "heading":
            self.heading(text)
        elif self.section == "Further reading" or kind in ("solution", "listing"):
            return
        elif kind == "admonition":
            self.box(text)
        elif kind == "exercise":
            self.exercises.append(re.sub(r"^:\w+:.*\n", "", text, flags=re.MULTILINE).strip())
        elif kind == "equation":
            self.equation(text)
        elif kind == "table":
            self.table(text)
        elif kind == "list":
            self.list(text)
        else:
            before, asked, question = text.partition("*Predict first.*")
            if before.strip():
                self.paragraph(before.strip())
            if asked:
                self.predict(question)

    def heading(self, text: str) -> None:
        marks, name = text.split(" ", 1)
        if self.section == "Exercises" and self.exercises:
            self.homework()
        if marks == "##":
            self.section = name
        self.last = ""
        self.open(name)

    def box(self, text: str) -> None:
        """What is built and what is needed is shown; time, memory and sections of the paper are for the speaker."""
        items = [" ".join(item.split()) for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]
        shown = [item for item in items if item.startswith(("**You build**", "**You need**"))]
        self.text("\n".join(f"- {opening(item, 60)}" for item in shown))
        self.note("\n\n".join(items))

    def paragraph(self, text: str) -> None:
        """The sentence that opens a slide, a symptom and what a chapter wants remembered are seen; the rest is read."""
        memorable = not self.section and re.fullmatch(r"\*{1,2}[^*].*\*{1,2}", text, re.DOTALL)
        symptom = self.section == "Break it" and SYMPTOM.search(text)
        look = text.startswith("**What to look for.**")
        if memorable or (symptom and not look) or (not self.slide.cells and not look):
            shown = text if memorable else opening(text, WORDS - 15 if symptom else LEAD_WORDS)
            self.text(" ".join(shown.split()))
            if len(shown.split()) < len(text.split()):
                self.note(text)
            self.last = ""
        else:
            self.note(text)
            self.last = "" if look else text

    def equation(self, text: str) -> None:
        label = LABELLED.search(text)
        body = re.match(r"\$\$(.*?)\$\$", text, re.DOTALL)[1].strip()
        rows = max(1, body.count(r"\\") + 1 - 2 * body.count("matrix}"))
        lines = 1.2 * rows + 0.7 + 0.7 * bool(re.search(r"\\(frac|sum|binom|int|prod)", body))
        if self.last and word_count(last := sentences(self.last, ".?!:")[-1]) <= 30:
            if not self.slide.fits(lines + 2, word_count(last)):
                self.open(self.slide.heading)
            self.text(last)
        self.last = ""
        tag = rf" \tag{{{self.numbers[label[1]]}}}" if label else ""
        self.place(new_markdown_cell(f"$$\n{body}{tag}\n$$"), lines)

    def table(self, text: str) -> None:
        """All of it, in as many pieces as it takes for a class to read them; each has the head of the table."""
        head, rule, *rows = text.splitlines()
        pieces = [[head, rule]]
        for row in rows:
            if len(pieces[-1]) > 2 and not _readable([*pieces[-1], row]):
                pieces.append([head, rule])
            pieces[-1].append(row)
        for piece in pieces:
            self.place(new_markdown_cell("\n".join(piece)), _table_lines(piece), word_count(_words(piece)))

    def list(self, text: str) -> None:
        """The summary's is shown, all of it; another one only where it opens a slide, a sentence of each item."""
        items = [" ".join(item.split()) for item in re.split(LIST, text)[1:]]
        if self.section == "Summary" and self.slide.heading == "Summary":
            for item in items:
                self.text(f"- {item}")
        elif self.slide.cells:
            self.note(text)
        else:
            for item in items:
                self.text(f"- {opening(item, LEAD_WORDS // 2)}")
            self.note(text)

    def predict(self, text: str) -> None:
        """A slide of its own, and what follows on a new one, so that nobody sees the answer too early."""
        heading = self.slide.heading
        question = " ".join(text.split())
        shown = opening(question, WORDS)
        self.open("Predict first")
        self.text(shown, ["ask"])
        self.note("Let everybody write down a guess before you go on.")
        if len(shown) < len(question):
            self.note(question)
        self.last = ""
        self.open(heading)

    def code(self, cell) -> None:
        """Short code where the chapter builds something, short printed results and every figure."""
        self.last = ""
        lines, outputs = cell.source.splitlines(), joined(cell.outputs)
        plots = "plt." in cell.source or "hide-input" in cell.metadata.get("tags", [])
        if self.section in WITH_CODE and not plots and small(lines, CODE_LINES, CODE_COLUMNS):
            height = 0.65 * len(lines) + 0.8
            rows = [printed(output) for output in outputs]
            together = height + sum(0.72 * len(r) + 0.5 for r in rows if small(r, OUTPUT_LINES, OUTPUT_COLUMNS))
            if together <= LINES and not self.slide.fits(together):
                self.open(self.slide.heading)
            self.place(new_code_cell(cell.source), height)
        for output in outputs:
            self.output(output, cell)

    def output(self, output, cell) -> None:
        data = output.get("data", {})
        page = "".join(data.get("text/html", ""))
        if "image/png" in data:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            source = "".join(data["image/png"]).replace("\n", "")
            self.figure(f'<img alt="{inline_code(alt)}" src="data:image/png;base64,{source}">', "picture")
        elif "data-frames=" in page:
            self.figure(page, "slider")
        elif page.count("<tr") and page.count("<tr") <= 9:
            self.place(new_code_cell("", outputs=[output]), 1.2 * page.count("<tr") + 0.5)
        elif small(rows := printed(output), OUTPUT_LINES, OUTPUT_COLUMNS):
            shown = new_output("stream", text="\n".join(rows))
            self.place(new_code_cell("", outputs=[shown]), 0.72 * len(rows) + 0.5)

    def figure(self, page: str, kind: str) -> None:
        """A picture or a slider, below a lead of three lines at most; otherwise on a slide of its own."""
        if self.slide.lines > 3.5 or any(cell.cell_type == "code" for cell in self.slide.cells):
            self.open(self.slide.heading)
        beside = " beside-lead" if self.slide.cells else ""
        self.place(new_markdown_cell(f'<div class="{kind}{beside}">{page}</div>'), LINES - self.slide.lines)

    def quiz(self, source: str) -> None:
        """One slide a question; the right answer is the next step."""
        for number, call in enumerate(
            (
                n
                for n in ast.walk(ast.parse(source))
                if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Question"
            ),
            1,
        ):
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            question = Question(*map(ast.literal_eval, call.args), **named)
            options = "".join(f"<li>{inline_code(option)}</li>" for option in question.options)
            self.open(f"Quiz {number}")
            asked = f'<p>{inline_code(question.text)}</p>\n<ol type="A">{options}</ol>'
            self.slide.add(new_markdown_cell(asked), 8, word_count(re.sub(r"<[^>]+>", " ", asked)))
            letter, reply = "ABCDEFGH"[question.answer], question.feedback[question.answer]
            answer = new_markdown_cell(f"<p><strong>{letter}.</strong> {inline_code(reply)}</p>")
            answer.metadata.slideshow = {"slide_type": "fragment"}
            self.slide.add(answer, 3, word_count(reply))
            self.note("\n".join(f"- {'ABCDEFGH'[i]}: {text}" for i, text in enumerate(question.feedback)))

    def homework(self) -> None:
        """How many exercises there are and how hard; their text is for the speaker."""
        stars = [len(re.match(r"★*", text)[0]) for text in self.exercises]
        self.open("Homework")
        marks = ", ".join(f"{i} {'★' * count}".strip() for i, count in enumerate(stars, 1))
        self.text(f"Exercises of the chapter: {marks}.\n\nTheir solutions are folded on the page: try first.")
        self.note("\n\n".join(f"{i}. {text}" for i, text in enumerate(self.exercises, 1)))
        self.exercises = []
