"""Every notebook of the book, read as a file: executed in order, normalised, accessible, in the book's anatomy.

Each check is a function from a notebook to a list of complaints. The second half of this file breaks a sound notebook
in one place at a time, to show that every check can fail.
"""

import copy
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minillama.figures import slider

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
MEGABYTES = 3

SECTIONS = [
    "A question",
    "Build it plainly",
    "Look at it",
    "The library's version",
    "An experiment",
    "Break it",
    "Summary",
    "Exercises",
    "Quiz",
    "Further reading",
]
BOX = ["You build", "You need", "Runs in", "In the paper"]

FENCED = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1`*[ \t]*$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}|:{3,})[ \t]*(\{[\w:-]+\})?(.*)$")
CODE_DIRECTIVES = {"{code}", "{code-block}", "{code-cell}", "{sourcecode}", "{eval-rst}", "{math}"}
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
TERM = re.compile(r"\{term\}`(?:[^`<]*<([^`>]+)>|([^`]+))`")
EQUATION = re.compile(r"\$\$\s*\(([\w:-]+)\)|^:label:\s*(eq[\w:-]+)", re.MULTILINE)
EQUATION_USED = re.compile(r"\{eq\}`(?:[^`<]*<([^`>]+)>|([^`]+))`")
EXERCISE = re.compile(r"^(`{3,}|:{3,})\{exercise\}([^\n]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"^(`{3,}|:{3,})\{solution\}([^\n]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|tmp|Users|mnt)/\w|\b[A-Za-z]:\\+(?:Users|Windows|Program)")
DATA_URI = re.compile(r"data:image/[^\"')\s]*")
PLACEHOLDER = re.compile(r"\b(?:TODO|FIXME|TBD|XXX+)\b|PLACEHOLDER|[Ll]orem ipsum")
FILLER = re.compile(r"\b(?:simply|obviously)\b", re.IGNORECASE)


def notebook_paths() -> list[Path]:
    paths = BOOK.rglob("*.ipynb")
    return sorted(p for p in paths if not {"assignments", ".ipynb_checkpoints"} & set(p.relative_to(BOOK).parts))


def is_chapter(path: Path) -> bool:
    return re.match(r"\d-", path.parent.name) is not None


def text_pages() -> list[Path]:
    return sorted(BOOK.rglob("*.md"))


def glossary_terms(page: str) -> set[str]:
    """The terms a `{glossary}` directive defines, in lower case, as Sphinx also finds them."""
    inside = re.search(r"^```\{glossary\}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = inside[1].splitlines() if inside else []
    return {line.strip().lower() for line in lines if line.strip() and not line[0].isspace() and line[0] != ":"}


def bibliography_keys(file: str) -> set[str]:
    return set(re.findall(r"^@\w+\{([^,\s]+),", file, re.MULTILINE))


TERMS = glossary_terms((BOOK / "appendix" / "glossary.md").read_text(encoding="utf-8"))
KEYS = bibliography_keys((BOOK / "references.bib").read_text(encoding="utf-8"))


# What the checks read ------------------------------------------------------------------------------------------------


def markdown(nb) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def prose(text: str) -> str:
    """Text without listings and `code`; what directives such as `{solution}` hold is prose."""
    kept, opened = [], []  # fences that are open, the innermost last: (marks, is a listing)
    for line in text.splitlines():
        fence = FENCE.match(line)
        listing = bool(opened) and opened[-1][1]
        if fence and opened and not fence[2] and not fence[3].strip() and fence[1].startswith(opened[-1][0]):
            opened.pop()
        elif fence and not listing:
            opened.append((fence[1], fence[1][0] != ":" and fence[2] in CODE_DIRECTIVES | {None}))
            kept.append("" if opened[-1][1] else line)
            continue
        kept.append("" if listing else line)
    return re.sub(r"(?<!\})`[^`\n]+`", "", "\n".join(kept))


def headings(nb) -> list[tuple[int, str]]:
    text = FENCED.sub("", markdown(nb))
    return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#{1,6})[ \t]+(.+)$", text, re.MULTILINE)]


def section(nb, title: str) -> list:
    """Cells from the one with this level-2 heading up to the one with the next; one cell may hold both."""
    cells, inside = [], False
    for cell in nb.cells:
        found = re.findall(r"^## +(.+?) *$", FENCED.sub("", cell.source), re.MULTILINE) if is_markdown(cell) else []
        names = [name.replace("’", "'") for name in found]
        if title in names or (inside and not names):
            cells.append(cell)
        inside = names[-1] == title if names else inside
    return cells


def is_markdown(cell) -> bool:
    return cell.cell_type == "markdown"


def code_cells(nb) -> list:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def mime_types(cell) -> set[str]:
    return {mime for output in cell.get("outputs", []) for mime in output.get("data", {})}


def html_outputs(cell) -> list[str]:
    return ["".join(o["data"]["text/html"]) for o in cell.get("outputs", []) if "text/html" in o.get("data", {})]


def is_slider(cell) -> bool:
    return any("data-frames=" in page for page in html_outputs(cell))


def is_picture(cell) -> bool:
    return any(mime.startswith("image/") for mime in mime_types(cell))


class Elements(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


# Checks of any notebook ----------------------------------------------------------------------------------------------


def format_is_valid(nb) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):  # doubled ids are reported below
            nbformat.validate(copy.deepcopy(nb), relax_add_props=False)
    except nbformat.ValidationError as error:
        yield f"not valid: {error.message}"
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        yield "older than format 4.5, which has cell ids"
    for ident, count in Counter(cell.get("id") for cell in nb.cells).items():
        if ident is None or count > 1:
            yield f"{count} cells with id {ident}"


def executed_in_order(nb) -> Iterator[str]:
    counts = [cell.execution_count for cell in code_cells(nb) if cell.source.strip()]
    if not counts:
        yield "has no code"
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}; run `make execute NB=...`"


def ran_without_complaint(nb) -> Iterator[str]:
    for cell in code_cells(nb):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"error output {output.ename}: {output.evalue}"
            if output.get("name") == "stderr":
                yield f"noise on stderr: {output.text[:80]!r}"


def names_no_machine(nb) -> Iterator[str]:
    for cell in nb.cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), *(str(v) for mime, v in data.items() if not mime.startswith("image/"))]
        for text in texts:
            for match in MACHINE_PATH.finditer(DATA_URI.sub("", text)):
                yield f"path of a machine: {text[max(0, match.start() - 20) : match.end() + 30]!r}"


def is_normalised(nb) -> Iterator[str]:
    if extra := set(nb.metadata) - {"kernelspec", "language_info"}:
        yield f"notebook metadata {sorted(extra)}"
    if "version" in nb.metadata.get("language_info", {}):
        yield "metadata names a version of Python"
    for cell in nb.cells:
        if extra := set(cell.metadata) - {"tags", "mystnb"}:
            yield f"cell metadata {sorted(extra)} in {cell.source[:40]!r}"
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "kernel is not python3"


def starts_with_colab(nb) -> Iterator[str]:
    cells = code_cells(nb)
    first = cells[0] if cells else new_code_cell()
    if "remove-cell" not in first.metadata.get("tags", []) or first.outputs:
        yield "first code cell lacks the tag remove-cell, or printed something"
    if "find_spec" not in first.source or '%pip install -q "minillama @ git+' not in first.source:
        yield "first code cell does not install minillama in Colab"


def figures_are_described(nb) -> Iterator[str]:
    for i, cell in enumerate(nb.cells):
        where = repr(cell.source[:50])
        if is_picture(cell):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if len(alt) < 20:
                yield f"no alt text of at least 20 characters: {where}"
        for page in html_outputs(cell):
            for tag, attributes in Elements(page).found:
                if tag == "img" and len(attributes.get("alt") or "") < 10:
                    yield f"frame without alt text: {where}"
                if attributes.get("type") == "range" and not attributes.get("aria-label"):
                    yield f"slider without aria-label: {where}"
        if is_picture(cell) or is_slider(cell):
            following = next((c for c in nb.cells[i + 1 :] if is_markdown(c) or is_picture(c) or is_slider(c)), None)
            if following is None or not is_markdown(following) or "What to look for" not in following.source:
                yield f"no 'What to look for' after the figure of {where}"
        if is_slider(cell) and "nbval-ignore-output" not in cell.metadata.get("tags", []):
            yield f"slider without the tag nbval-ignore-output: {where}"


def sliders_are_up_to_date(nb) -> Iterator[str]:
    """nbval does not compare the output of a slider; so that of an older version would stay unseen."""
    for cell in nb.cells:
        for page in html_outputs(cell):
            if "data-frames=" in page and slider.STYLE.partition("WIDTH")[0] not in page:
                yield f"made by an older frames_slider; run `make execute NB=...`: {cell.source[:50]!r}"


def images_have_alt_text(nb) -> Iterator[str]:
    text = prose(markdown(nb))
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text):
        if len(alt) < 10:
            yield f"image {target} has the alt text {alt!r}"
    for tag, attributes in Elements(text).found:
        if tag == "img" and not attributes.get("alt"):
            yield f"image {attributes.get('src')} has no alt text"
    for directive, body in re.findall(r"^[`:]{3,}\{(figure|image)\}(.*?)^[`:]{3,}$", text, re.MULTILINE | re.DOTALL):
        if ":alt:" not in body:
            yield f"{directive}{body.splitlines()[0]} has no alt text"


def headings_are_in_order(nb) -> Iterator[str]:
    levels = [level for level, _ in headings(nb)]
    if levels.count(1) != 1 or levels[0] != 1:
        yield f"{levels.count(1)} level-1 headings; there must be one, and first"
    for (above, _), (level, title) in zip(headings(nb), headings(nb)[1:], strict=False):
        if level > above + 1:
            yield f"heading {title!r} skips a level"


def citations_resolve(nb) -> Iterator[str]:
    for keys in CITATION.findall(markdown(nb)):
        for key in keys.split(","):
            if key.strip() not in KEYS:
                yield f"citation {key.strip()!r} is not in references.bib"


def terms_resolve(nb) -> Iterator[str]:
    for target, plain in TERM.findall(markdown(nb)):
        if (target or plain).strip().lower() not in TERMS:
            yield f"term {(target or plain)!r} is not in the glossary"


def prose_is_finished(nb) -> Iterator[str]:
    text = prose(markdown(nb))
    for match in [*FILLER.finditer(text), *PLACEHOLDER.finditer(text)]:
        yield f"{match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 20]!r}"


# Checks of a chapter -------------------------------------------------------------------------------------------------


def has_the_anatomy(nb) -> Iterator[str]:
    found = [title.replace("’", "'") for level, title in headings(nb) if level == 2]
    if found != SECTIONS:
        yield f"sections are {found}"


def has_a_title_and_a_sentence(nb) -> Iterator[str]:
    opening = nb.cells[0].source if is_markdown(nb.cells[0]) else ""
    if not re.match(r"# \d+\. \S", opening):
        yield f"first cell must start with '# N. Title', got {opening[:40]!r}"
    elif not re.match(r"[*_]{0,2}\w.{30,}", opening.split("\n", 1)[-1].strip().replace("\n", " ")):
        yield "no sentence below the title"


def has_the_box(nb) -> Iterator[str]:
    text = markdown(nb)
    box = re.search(r"^(`{3,}|:{3,})\{admonition\} In this chapter\n(.*?)^\1", text, re.MULTILINE | re.DOTALL)
    if not box or text.find("## A question") < box.start():
        yield "no box 'In this chapter' before the first section"
        return
    if ":class: tip" not in box[2]:
        yield "the box lacks ':class: tip'"
    if (bold := re.findall(r"^- \*\*([^*]+)\*\*", box[2], re.MULTILINE)) != BOX:
        yield f"the box has the lines {bold}"
    if not re.search(r"\*\*Runs in\*\*.*\d.*(second|minute)", box[2]) or not re.search(r"\d ?[MG]i?B", box[2]):
        yield "the box does not say how many seconds and how much memory"


def asks_to_predict(nb) -> Iterator[str]:
    cells = nb.cells
    asked = [i for i, cell in enumerate(cells) if is_markdown(cell) and "*Predict first.*" in cell.source]
    if not asked:
        yield "no '*Predict first.*'"
    for i in asked:
        if not any(cell.cell_type == "code" for cell in cells[i + 1 : i + 3]):
            yield f"no cell answers the prediction in {cells[i].source[-60:]!r}"


def shows_and_proves_the_library(nb) -> Iterator[str]:
    cells = [cell for cell in section(nb, "The library's version") if cell.cell_type == "code"]
    if not any("show_source(" in cell.source for cell in cells):
        yield "'The library's version' does not show the source"
    if not any(re.search(r"\bassert\b", cell.source) for cell in cells):
        yield "'The library's version' has no cell that asserts equality"


def sections_have_what_they_promise(nb) -> Iterator[str]:
    for title in ("Build it plainly", "Look at it", "An experiment", "Break it"):
        if not any(cell.get("outputs") for cell in section(nb, title)):
            yield f"'{title}' computes nothing"
    if not any(is_picture(cell) or is_slider(cell) for cell in section(nb, "Look at it")):
        yield "'Look at it' has no figure"
    if not re.search(
        r"\b(find|found|symptom|detect|catch)",
        " ".join(c.source for c in section(nb, "Break it") if is_markdown(c)),
        re.I,
    ):
        yield "'Break it' does not say how to find the bug"
    summary = "\n".join(cell.source for cell in section(nb, "Summary"))
    if len(summary.split()) < 40:
        yield "the summary is shorter than 40 words"
    if not CITATION.search("\n".join(cell.source for cell in section(nb, "Further reading"))):
        yield "'Further reading' cites nothing"


def exercises_have_folded_solutions(nb) -> Iterator[str]:
    text = "\n\n".join(cell.source for cell in section(nb, "Exercises"))
    exercises, solutions = EXERCISE.findall(text), SOLUTION.findall(text)
    labels = []
    for _, title, body in exercises:
        label = re.search(r"^:label: *(\S+)", body, re.MULTILINE)
        labels.append(label[1] if label else None)
        if not re.search("★", title + body):
            yield f"exercise {labels[-1]} has no grade"
    if not 3 <= len(exercises) <= 5:
        yield f"{len(exercises)} exercises; a chapter has 3 to 5"
    if None in labels or len(set(labels)) < len(labels):
        yield f"exercise labels {labels}"
    if [target.strip() for _, target, _ in solutions] != labels:
        yield f"solutions {[t.strip() for _, t, _ in solutions]} for exercises {labels}"
    for _, target, body in solutions:
        if not re.search(r"^:class: *dropdown", body, re.MULTILINE):
            yield f"solution of {target.strip()} is not folded"


def has_a_quiz_of_three(nb) -> Iterator[str]:
    pages = [page for cell in section(nb, "Quiz") for page in html_outputs(cell) if "data-quiz=" in page]
    questions = sum(tag == "fieldset" for page in pages for tag, _ in Elements(page).found)
    if questions != 3:
        yield f"{questions} quiz questions; a chapter has 3"


ANY_NOTEBOOK = [
    format_is_valid,
    executed_in_order,
    ran_without_complaint,
    names_no_machine,
    is_normalised,
    starts_with_colab,
    figures_are_described,
    sliders_are_up_to_date,
    images_have_alt_text,
    headings_are_in_order,
    citations_resolve,
    terms_resolve,
    prose_is_finished,
]
ANY_CHAPTER = [
    has_the_anatomy,
    has_a_title_and_a_sentence,
    has_the_box,
    asks_to_predict,
    shows_and_proves_the_library,
    sections_have_what_they_promise,
    exercises_have_folded_solutions,
    has_a_quiz_of_three,
]
CASES = [(path, check) for path in notebook_paths() for check in ANY_NOTEBOOK + ANY_CHAPTER * is_chapter(path)]


@pytest.mark.parametrize(("path", "check"), CASES, ids=[f"{path.stem}-{check.__name__}" for path, check in CASES])
def test_notebook(path, check):
    assert list(check(nbformat.read(path, as_version=nbformat.NO_CONVERT))) == []


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_notebook_is_small_and_written_by_nbformat(path):
    assert path.stat().st_size < MEGABYTES * 1_000_000
    json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [p for p in notebook_paths() if is_chapter(p)], ids=lambda path: path.stem)
def test_title_has_the_number_of_the_file(path):
    title = headings(nbformat.read(path, as_version=4))[0][1]
    assert int(title.split(".")[0]) == int(path.stem.split("-")[0])


@pytest.mark.parametrize("path", text_pages(), ids=lambda path: path.relative_to(BOOK).as_posix())
def test_text_page(path):
    page = new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
    for check in (images_have_alt_text, headings_are_in_order, citations_resolve, terms_resolve, prose_is_finished):
        assert list(check(page)) == []


def label_problems(texts: dict[str, str]) -> Iterator[str]:
    """Labels of equations and exercises: one definition each in the whole book, and none used that is not defined."""
    defined = Counter()
    for text in texts.values():
        defined.update(a or b for a, b in EQUATION.findall(text))
        defined.update(re.findall(r"^:label: *(\S+)", "".join(body for _, _, body in EXERCISE.findall(text)), re.M))
    for label, count in defined.items():
        if count > 1:
            yield f"label {label} is defined {count} times"
    for name, text in texts.items():
        for target, plain in EQUATION_USED.findall(text):
            if (target or plain) not in defined:
                yield f"{name} refers to the equation {target or plain}, which no page defines"


def test_equations_and_exercises_are_labelled_once_and_references_to_them_resolve():
    texts = {path.stem: markdown(nbformat.read(path, as_version=4)) for path in notebook_paths()}
    texts |= {path.stem: path.read_text(encoding="utf-8") for path in text_pages()}
    assert list(label_problems(texts)) == []


def test_there_are_notebooks():
    assert [path for path in notebook_paths() if is_chapter(path)]


# The checks can fail -------------------------------------------------------------------------------------------------

SLIDER = f'<figure data-frames="f"><style>{slider.STYLE}</style>' + (
    '<input type="range" aria-label="m"><img alt="A line at m = 1." src="data:,"></figure>'
)
QUIZ = '<div data-quiz="q"><fieldset></fieldset><fieldset></fieldset><fieldset></fieldset></div>'
EXERCISES = "## Exercises\n" + "".join(
    f"\n````{{exercise}} {'★' * n} Number {n}\n:label: ex-{n}\n\nWhy?\n````\n"
    f"\n````{{solution}} ex-{n}\n:class: dropdown\n\nBecause of this:\n\n```python\n# simply code\n```\n````\n"
    for n in (1, 2, 3)
)


def sound_chapter():
    """The smallest chapter with nothing to complain about."""

    def page(data):
        return [new_output("execute_result", data={**data, "text/plain": "x"}, execution_count=0)]

    printed = [new_output("stream", name="stdout", text="0.0001\n")]
    colab = "import importlib.util\n\nif importlib.util.find_spec('minillama') is None:\n    " + (
        '%pip install -q "minillama @ git+https://example.org/book"'
    )
    figure = {"mystnb": {"image": {"alt": "A rising line with one dip in the middle."}}}
    cells = [
        new_markdown_cell(
            "# 9. A chapter\n\n*A sentence that is long enough to be remembered by a reader.*\n\n"
            ":::{admonition} In this chapter\n:class: tip\n- **You build** it.\n- **You need** nothing.\n"
            "- **Runs in** 3 seconds and 0.3 GB.\n- **In the paper** {cite}`touvron2023llama2`.\n:::"
        ),
        new_code_cell(colab, metadata={"tags": ["remove-cell"]}),
        new_markdown_cell("## A question\n\nWhy {term}`attention`?\n\n```python\n# simply code\n```\n"),
        new_markdown_cell("## Build it plainly\n\n$$ a $$ (eq-a)\n\n*Predict first.* What is {eq}`eq-a`?"),
        new_code_cell("print(1)", outputs=printed),
        new_markdown_cell("## Look at it\n\n### Closely"),
        new_code_cell("plot()", metadata=figure, outputs=page({"image/png": "/tmp/x"})),
        new_markdown_cell("**What to look for.** The dip.\n\n![A tall wide picture](picture.svg)"),
        new_code_cell("slide()", metadata={"tags": ["nbval-ignore-output"]}, outputs=page({"text/html": SLIDER})),
        new_markdown_cell("**What to look for.** It moves.\n\n## The library's version"),
        new_code_cell("show_source(f)\nassert f(1) == g(1)", outputs=printed),
        new_markdown_cell("## An experiment"),
        new_code_cell("print(2)", outputs=printed),
        new_markdown_cell("## Break it\n\nHow to find it: look."),
        new_code_cell("print(3)", outputs=printed),
        new_markdown_cell("## Summary\n\n" + "word " * 50),
        new_markdown_cell(EXERCISES),
        new_markdown_cell("## Quiz"),
        new_code_cell("quiz([])", outputs=page({"text/html": QUIZ})),
        new_markdown_cell("## Further reading\n\n{cite}`touvron2023llama2`"),
    ]
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def replacing(old, new):
    def change(nb):
        cells = [cell for cell in nb.cells if old in cell.source]
        assert cells, f"nothing to break: {old!r}"
        for cell in cells:
            cell.source = cell.source.replace(old, new)

    return change


def cell_with(nb, text):
    return next(cell for cell in nb.cells if text in cell.source)


def output_of(nb, text):
    return cell_with(nb, text).outputs[0]


BREAKS = [
    (format_is_valid, lambda nb: nb.cells[1].update(id=nb.cells[0].id)),
    (format_is_valid, lambda nb: nb.cells[1].update(source=3)),
    (format_is_valid, lambda nb: nb.update(nbformat_minor=4)),
    (executed_in_order, lambda nb: cell_with(nb, "plot()").update(execution_count=7)),
    (executed_in_order, lambda nb: cell_with(nb, "plot()").update(execution_count=None)),
    (executed_in_order, lambda nb: nb.update(cells=[c for c in nb.cells if is_markdown(c)])),
    (
        ran_without_complaint,
        lambda nb: cell_with(nb, "plot()").outputs.append(new_output("error", ename="E", evalue="", traceback=[])),
    ),
    (ran_without_complaint, lambda nb: output_of(nb, "print(1)").update(name="stderr")),
    (names_no_machine, lambda nb: output_of(nb, "print(1)").update(text="saved to /home/me/x")),
    (names_no_machine, lambda nb: output_of(nb, "slide()").data.update({"text/html": "<p>/tmp/abc</p>"})),
    (names_no_machine, replacing("plot()", "plot('C:\\\\Users\\\\me')")),
    (is_normalised, lambda nb: nb.metadata.update(widgets={})),
    (is_normalised, lambda nb: nb.metadata.update(jupytext={})),
    (is_normalised, lambda nb: nb.metadata.update(language_info={"name": "python", "version": "3.11.2"})),
    (is_normalised, lambda nb: nb.cells[1].metadata.update(execution={"iopub.status.busy": "2026"})),
    (is_normalised, lambda nb: nb.metadata.kernelspec.update(name="my-env")),
    (starts_with_colab, replacing("%pip install", "!pip install")),
    (starts_with_colab, lambda nb: nb.cells[1].metadata.pop("tags")),
    (figures_are_described, lambda nb: cell_with(nb, "plot()").metadata.pop("mystnb")),
    (figures_are_described, replacing("**What to look for.** The dip.", "A dip.")),
    (figures_are_described, replacing("**What to look for.** It moves.", "It moves.")),
    (figures_are_described, lambda nb: output_of(nb, "slide()").data.update({"text/html": SLIDER.replace("alt", "x")})),
    (
        figures_are_described,
        lambda nb: output_of(nb, "slide()").data.update({"text/html": SLIDER.replace("aria", "x")}),
    ),
    (figures_are_described, lambda nb: cell_with(nb, "slide()").metadata.pop("tags")),
    (
        sliders_are_up_to_date,
        lambda nb: output_of(nb, "slide()").data.update({"text/html": SLIDER.replace("margin", "border")}),
    ),
    (images_have_alt_text, replacing("A tall wide picture", "")),
    (images_have_alt_text, replacing("Why {term}", '<img src="x.png"> Why {term}')),
    (images_have_alt_text, replacing("Why {term}", "```{figure} x.png\n:width: 3\n```\nWhy {term}")),
    (headings_are_in_order, replacing("### Closely", "#### Closely")),
    (headings_are_in_order, replacing("## Summary", "# Summary")),
    (citations_resolve, replacing("touvron2023llama2", "nobody1900")),
    (terms_resolve, replacing("`attention`", "`phlogiston`")),
    (terms_resolve, replacing("`attention`", "`attention <phlogiston>`")),
    (prose_is_finished, replacing("How to find it", "Simply find it")),
    (prose_is_finished, replacing("Because of this", "Obviously")),
    (prose_is_finished, replacing("3 seconds", "RUNTIME_PLACEHOLDER")),
    (has_the_anatomy, replacing("## An experiment", "### An experiment")),
    (has_the_anatomy, replacing("## A question", "## A question\n\n## Another")),
    (has_a_title_and_a_sentence, replacing("# 9. A chapter", "# A chapter")),
    (has_a_title_and_a_sentence, replacing("*A sentence that is long enough to be remembered by a reader.*", "")),
    (has_the_box, replacing("{admonition} In this chapter", "{note}")),
    (has_the_box, replacing("- **Runs in** 3 seconds and 0.3 GB.\n", "")),
    (has_the_box, replacing("3 seconds", "a while")),
    (has_the_box, replacing(" and 0.3 GB", "")),
    (asks_to_predict, replacing("*Predict first.*", "Guess.")),
    (asks_to_predict, lambda nb: nb.cells.append(new_markdown_cell("*Predict first.* What?"))),
    (shows_and_proves_the_library, replacing("show_source(f)", "f")),
    (shows_and_proves_the_library, replacing("assert f(1) == g(1)", "")),
    (sections_have_what_they_promise, lambda nb: cell_with(nb, "print(2)").update(outputs=[])),
    (sections_have_what_they_promise, replacing("How to find it: look.", "")),
    (sections_have_what_they_promise, replacing("word " * 20, "")),
    (sections_have_what_they_promise, replacing("## Further reading\n\n{cite}", "## Further reading\n\n{term}")),
    (exercises_have_folded_solutions, replacing("★★★ Number", "Number")),
    (exercises_have_folded_solutions, replacing(":label: ex-2\n", "")),
    (exercises_have_folded_solutions, replacing(":label: ex-2\n", ":label: ex-1\n")),
    (exercises_have_folded_solutions, replacing("{solution} ex-2\n:class: dropdown", "{solution} ex-2\n")),
    (exercises_have_folded_solutions, replacing("{solution} ex-3", "{solution} ex-2")),
    (exercises_have_folded_solutions, replacing("{exercise}", "{note}")),
    (
        has_a_quiz_of_three,
        lambda nb: output_of(nb, "quiz(").data.update({"text/html": QUIZ.replace("fieldset", "p", 2)}),
    ),
    (has_a_quiz_of_three, lambda nb: cell_with(nb, "quiz(").update(outputs=[])),
]


@pytest.mark.parametrize("check", ANY_NOTEBOOK + ANY_CHAPTER, ids=lambda check: check.__name__)
def test_a_sound_chapter_passes(check):
    assert list(check(sound_chapter())) == []


@pytest.mark.parametrize(
    ("check", "change"), BREAKS, ids=[f"{i}-{check.__name__}" for i, (check, _) in enumerate(BREAKS)]
)
def test_check_sees_what_is_wrong(check, change):
    nb = sound_chapter()
    change(nb)
    assert list(check(nb))


def test_every_check_has_been_seen_to_fail():
    assert {check for check, _ in BREAKS} == set(ANY_NOTEBOOK + ANY_CHAPTER)


def test_prose_is_what_stands_outside_listings():
    nested = "a\n````{solution} x\nb `c`\n```python\nd\n```\ne\n````\nf\n"
    text = nested + "```\ng\n```\n:::{tip}\nh\n:::\n```{math}\ni\n```\nj {term}`k`"
    assert re.findall(r"\b[a-z]\b", prose(text)) == list("axbefhjk")


@pytest.mark.parametrize(
    "text",
    [
        "$$ a $$ (eq-a)\n\n$$ b $$ (eq-a)",
        "see {eq}`eq-b`",
        "see {eq}`this one <eq-b>`",
        "```{exercise} ★\n:label: ex\nWhy?\n```\n\n```{exercise} ★\n:label: ex\nHow?\n```\n",
    ],
)
def test_label_check_sees_what_is_wrong(text):
    assert list(label_problems({"page": text}))
    assert not list(label_problems({"page": "$$ a $$ (eq-a)", "other": "see {eq}`eq-a` and {eq}`that <eq-a>`"}))


def test_glossary_and_bibliography_are_read():
    assert glossary_terms("# G\n\n```{glossary}\n:sorted:\n\nBPE\nbyte pairs\n  Text.\n```\n") == {"bpe", "byte pairs"}
    assert bibliography_keys("@misc{a1,\n  title={x}}\n@book{b2,") == {"a1", "b2"}
    assert "attention" in TERMS and "touvron2023llama2" in KEYS
