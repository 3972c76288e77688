"""The built pages: all there, complete, described, and linked to places that exist.

`make test` builds the book first. The second half shows on small pages that each check can fail.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]


PAGES = toc_files()
CHAPTERS = [file for file in PAGES if re.fullmatch(r"book/\d-[\w-]+/\d\d-[\w-]+", file)]


class Page(HTMLParser):
    """What the checks need of a page."""

    VOID = {"img", "input", "br", "hr", "meta", "link", "source", "wbr"}

    def __init__(self, html: str):
        super().__init__()
        self.title = ""
        self.headings: list[str] = []
        self.images: list[dict] = []
        self.output_pictures = 0  # pictures made by cells, slider frames excepted
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.classes: dict[str, int] = {}
        self.sliders = self.quizzes = self.words = 0
        self._open: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        names = attributes.get("class", "").split()
        for name in names:
            self.classes[name] = self.classes.get(name, 0) + 1
        self.ids.update(value for name, value in attributes.items() if name in ("id", "name"))
        self.sliders += "data-frames" in attributes
        self.quizzes += "data-quiz" in attributes
        if tag == "img":
            self.images.append(attributes)
            inside = " ".join(classes for _, classes in self._open).split()
            self.output_pictures += "cell_output" in inside and "mlf-frame" not in inside
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag == "h1" and "article" in [name for name, _ in self._open]:
            self.headings.append("")
        if tag not in self.VOID:
            self._open.append((tag, attributes.get("class", "")))

    def handle_endtag(self, tag):
        while any(name == tag for name, _ in self._open):
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        names = [name for name, _ in self._open]
        if names and names[-1] == "title" and "svg" not in names:
            self.title += data
        if {"h1", "article"} <= set(names) and "headerlink" not in " ".join(classes for _, classes in self._open):
            self.headings[-1] += data
        if "article" in names and not {"script", "style"} & set(names):
            self.words += len(data.split())


@cache
def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def html_files(book: Path) -> list[Path]:
    return sorted(file for file in book.rglob("*.html") if "_static" not in file.parts)


def has_no_holes(page: Page) -> Iterator[str]:
    if not page.title.strip() or not any(heading.strip() for heading in page.headings):
        yield "no title"
    if len(page.headings) != 1:
        yield f"level-1 headings: {page.headings}"
    for name in ("problematic", "system-message"):
        if page.classes.get(name):
            yield f"{page.classes[name]} elements of class {name}: something was not understood"


def images_are_described(page: Page) -> Iterator[str]:
    """Without an alt text of its own, an output gets its file name as one, which tells nobody anything."""
    for image in page.images:
        alt = image.get("alt", "").strip()
        if not alt or alt == image.get("src") or re.search(r"\.(png|svg|jpe?g)$", alt):
            yield f"image {image.get('src', '')[:60]} has the alt text {alt!r}"


def links_lead_somewhere(file: Path) -> Iterator[str]:
    for link in read(file).links:
        if re.match(r"[a-z]+:|//", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (file.parent / path).resolve() if path else file
        if not target.is_file():
            yield f"{file.name}: no file for {link}"
        elif anchor and target.suffix == ".html" and anchor not in read(target).ids:
            yield f"{file.name}: no place for {link}"


def figures_in_notebook(path: Path) -> int:
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum(any(mime.startswith("image/") for mime in output.get("data", {})) for output in outputs)


def sliders_in_notebook(path: Path) -> int:
    cells = nbformat.read(path, as_version=4).cells
    pages = ["".join(o.get("data", {}).get("text/html", "")) for cell in cells for o in cell.get("outputs", [])]
    return sum(page.count("<figure") for page in pages if "data-frames=" in page)


@pytest.mark.parametrize("file", PAGES)
def test_page_is_built_from_the_present_source(built_book, file):
    page = built_book / f"{file}.html"
    sources = [ROOT / f"{file}{suffix}" for suffix in (".md", ".ipynb")]
    (source,) = [path for path in sources if path.is_file()]
    assert page.is_file(), f"{file} was not built"
    assert page.stat().st_mtime >= source.stat().st_mtime, f"{file} changed after the build; run `make html`"


@pytest.mark.parametrize("file", PAGES)
def test_page_is_whole(built_book, file):
    page = read(built_book / f"{file}.html")
    assert list(has_no_holes(page)) == []
    assert list(images_are_described(page)) == []
    assert page.words > 50


@pytest.mark.parametrize("file", CHAPTERS)
def test_chapter_shows_all_its_figures_and_its_quiz(built_book, file):
    page, notebook = read(built_book / f"{file}.html"), ROOT / f"{file}.ipynb"
    assert page.output_pictures == figures_in_notebook(notebook) > 0
    assert page.sliders == sliders_in_notebook(notebook)
    assert page.quizzes == 1
    assert page.classes.get("exercise", 0) == page.classes.get("solution", 0) >= 3
    assert page.words > 2000
    text = "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "markdown")
    assert page.classes.get("eqno", 0) >= len(re.findall(r"\$\$\s*\([\w:-]+\)", text)) > 0


@pytest.mark.parametrize("file", CHAPTERS)
def test_chapter_opens_in_colab_and_can_be_downloaded(built_book, file):
    links = read(built_book / f"{file}.html").links
    assert [link for link in links if link.startswith("https://colab.research.google.com/github/")]
    assert all(link.endswith(f"/{file}.ipynb") for link in links if "colab.research" in link)
    assert (built_book / "_sources" / f"{file}.ipynb").is_file()
    assert any(link.endswith(f"_sources/{file}.ipynb") for link in links)


@pytest.mark.parametrize("file", PAGES)
def test_links_inside_the_book_lead_somewhere(built_book, file):
    assert list(links_lead_somewhere(built_book / f"{file}.html")) == []


def test_the_book_is_not_empty(built_book):
    chapters = [read(built_book / f"{file}.html") for file in CHAPTERS]
    assert len(CHAPTERS) >= 7 and len(PAGES) >= 14
    assert sum(page.output_pictures + page.sliders for page in chapters) >= 3 * len(CHAPTERS)
    assert sum(page.sliders for page in chapters) >= 4


def test_search_knows_every_page(built_book):
    script = (built_book / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)\s*", script, re.DOTALL)[1])
    assert set(PAGES) <= set(index["docnames"])
    found = {word: index["terms"].get(word) for word in ("rotat", "token", "softmax")}
    assert all(pages is not None for pages in found.values()), found


def test_every_citation_is_in_the_list_of_references(built_book):
    references = read(built_book / "book/appendix/references.html")
    bibliography = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    assert references.classes["citation"] == len(re.findall(r"^@\w+\{", bibliography, re.MULTILINE)) > 20
    cited = [
        link for file in CHAPTERS for link in read(built_book / f"{file}.html").links if "references.html#" in link
    ]
    assert len(cited) >= 3 * len(CHAPTERS)
    assert {link.partition("#")[2] for link in cited} <= references.ids


def test_glossary_and_library_page_have_their_entries(built_book):
    terms = {name for name in read(built_book / "book/appendix/glossary.html").ids if name.startswith("term-")}
    assert len(terms) >= 60
    names = read(built_book / "book/appendix/api.html").ids
    assert {"minillama.model.rope.rotation_table", "minillama.model.generation.generate"} <= names


def test_the_front_page_leads_to_every_chapter(built_book):
    links = {link.split("#")[0] for link in read(built_book / "book/intro.html").links}
    assert {f"{file.removeprefix('book/')}.html" for file in CHAPTERS} <= links
    assert "book/intro.html" in (built_book / "index.html").read_text(encoding="utf-8")


# The checks can fail -------------------------------------------------------------------------------------------------

SOUND = """<html><head><title>T</title></head><body><article><h1 id="t">T<a class="headerlink" href="#t">#</a></h1>
<p>Words.</p><div class="cell_output"><img alt="A line that rises." src="a.png"></div>
<div class="cell_output"><figure data-frames="f"><div class="mlf-frame"><img alt="m = 1" src="data:,"></div></figure>
</div><div data-quiz="q"></div></article></body></html>"""


def test_a_sound_page_passes_and_is_counted():
    page = Page(SOUND)
    assert [*has_no_holes(page), *images_are_described(page)] == []
    assert (page.title, page.headings, page.output_pictures, page.sliders, page.quizzes) == ("T", ["T"], 1, 1, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<title>T</title>", "<title> </title>"),
        ("<p>", "<h1>Again</h1><p>"),
        ("<h1 id", "<h2 id"),
        ("<p>", '<p class="problematic">'),
        ("<p>", '<aside class="system-message">'),
    ],
)
def test_a_page_with_a_hole_is_seen(old, new):
    assert list(has_no_holes(Page(SOUND.replace(old, new))))


@pytest.mark.parametrize("alt", ["", " ", "a.png", "../_images/0123.png"])
def test_an_image_without_a_description_is_seen(alt):
    assert list(images_are_described(Page(SOUND.replace("A line that rises.", alt))))


@pytest.mark.parametrize(
    ("link", "problems"),
    [("b.html#t", 0), ("#t", 0), ("b.html#nowhere", 1), ("#nowhere", 1), ("c.html", 1), ("https://example.org/x", 0)],
)
def test_a_broken_link_is_seen(tmp_path, link, problems):
    (tmp_path / "b.html").write_text(SOUND)
    (tmp_path / "a.html").write_text(SOUND.replace("<p>", f'<p><a href="{link}">x</a>'))
    assert len(list(links_lead_somewhere(tmp_path / "a.html"))) == problems
