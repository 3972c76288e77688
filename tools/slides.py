"""Make one deck of slides for each part of the book, from its notebooks: `slides.py [_build/slides]`.

`slide_layout.py` chooses what is shown; here it becomes pages for reveal.js. Nothing is written twice: change the
notebook, make again.

Does: four pages that need no network and no server: scripts, fonts and formulas come from their own folder.
Does not: the appendix; anything live: for that, present the notebook itself.
Source: nbconvert's `SlidesExporter`; reveal.js as the package sphinx-revealjs ships it (MIT); MathJax as in the book.
"""

import importlib.util
import shutil
import sys
from functools import cache
from pathlib import Path

import nbformat
import yaml
from nbconvert import SlidesExporter
from nbformat.v4 import new_markdown_cell, new_notebook
from slide_layout import LABELLED, Chapter, Slide, markdown, plain
from traitlets.config import Config

from minillama.figures.markup import inline_code

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "tools" / "deck.html.j2"
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from offline import install_mathjax  # noqa: E402 (the book's own MathJax)


def parts() -> list[tuple[str, list[str]]]:
    """(caption, chapters) of the four parts, from the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found = [(part["caption"], [entry["file"] for entry in part["chapters"]]) for part in toc["parts"]]
    return [(caption, files) for caption, files in found if caption.startswith("Part ")]


@cache
def read(file: str):
    """The notebook of a chapter, `file` as in the table of contents."""
    return nbformat.read(ROOT / f"{file}.ipynb", as_version=4)


@cache
def equation_numbers() -> dict[str, str]:
    """ "4.2" for the label of the second equation of chapter 4; the book counts through, a deck by chapters."""
    chapters = [file for _, files in parts() for file in files]
    return {
        label: f"{number}.{i}"
        for number, file in enumerate(chapters, 1)
        for i, label in enumerate(LABELLED.findall(markdown(read(file))), 1)
    }


def chapter_slides(file: str) -> list[Slide]:
    """The slides of one chapter, in order."""
    return Chapter(read(file), equation_numbers()).lay_out()


def to_cells(slides: list[Slide]) -> list:
    """nbconvert's cells: the first slide stands beside what came before, the others below it."""
    cells = []
    for i, slide in enumerate(slides):
        kind = "subslide" if i else "slide"
        where = " · ".join(name for name in (slide.chapter, slide.section) if name and name != slide.heading)
        head = f'<p class="where">{inline_code(plain(where, {}))}</p>\n\n## {slide.heading}'
        group = [new_markdown_cell(head, metadata={"slideshow": {"slide_type": kind}}), *slide.cells]
        if notes := "\n\n".join(note for note in slide.notes if note):
            group.append(new_markdown_cell(notes, metadata={"slideshow": {"slide_type": "notes"}}))
        cells += group
    for cell in cells:
        cell.metadata.setdefault("slideshow", {"slide_type": "-"})
    return cells


def deck(caption: str, files: list[str]) -> str:
    """The HTML page of one part."""
    chapters = [chapter_slides(file) for file in files]
    front = Slide("", "", caption, notes=["Press S for these notes, ? for the keys, Esc for an overview."])
    titles = [slides[0].chapter.replace(".", r"\.", 1) for slides in chapters]  # "1." would begin a list
    front.add(new_markdown_cell("\n".join(f"- {title}" for title in titles)), len(files))
    cells = to_cells([front])
    for slides in chapters:
        cells += to_cells(slides)
    for i, cell in enumerate(cells):
        cell.id = f"slide-{i}"  # nbformat's own are random
    notebook = new_notebook(cells=cells, metadata={"title": f"Build Llama 2 from scratch, {caption}:"})
    exporter = SlidesExporter(
        config=Config({"CSSHTMLHeaderPreprocessor": {"style": "a11y-high-contrast-light"}}),
        raw_template=TEMPLATE.read_text(encoding="utf-8"),
        reveal_url_prefix="reveal",
        reveal_theme="white",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    page, _ = exporter.from_notebook_node(notebook)
    return page


def reveal_folder() -> Path:
    """Folder of the reveal.js that sphinx-revealjs installed.

    Raises:
        SystemExit: if it is not there.
    """
    found = importlib.util.find_spec("sphinx_revealjs")
    folder = Path(found.origin).parent / "_static" / "revealjs" if found and found.origin else None
    if folder is None or not (folder / "dist" / "reveal.js").is_file():
        sys.exit("make slides: reveal.js is not installed: pip install 'sphinx-revealjs>=3.2'")
    return folder


def copy_scripts(out: Path) -> None:
    """reveal.js with its licence, one theme and the speaker notes; MathJax with its fonts."""
    reveal = reveal_folder()
    for name in ("LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "plugin/notes/notes.js"):
        (out / "reveal" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(reveal / name, out / "reveal" / name)
    fonts = "dist/theme/fonts/source-sans-pro"
    shutil.copytree(reveal / fonts, out / "reveal" / fonts, dirs_exist_ok=True)
    install_mathjax(out / "mathjax")


def make(out: Path) -> list[Path]:
    """Write the four decks and what they need into `out`; return the decks' paths."""
    out.mkdir(parents=True, exist_ok=True)
    copy_scripts(out)
    written = []
    for number, (caption, files) in enumerate(parts(), 1):
        path = out / f"part-{number}.html"
        path.write_text(deck(caption, files), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build" / "slides"):
        print(path)
