"""A chapter on paper: the whole text, nothing of the window around it, nothing cut off or cut in two."""

import io
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page
from pypdf import PdfReader
from test_book import ROOT

CHAPTERS = [
    "book/1-model/04-rope",
    "book/1-model/05-attention",
    "book/3-alignment/15-ppo",
    "book/4-family/21-quantization",
]
TEXT_WIDTH = round((210 - 2 * 16) / 25.4 * 96)  # A4 less the margins of book.css, in CSS pixels

CUT_OFF = """() => [...document.querySelectorAll("article pre, article table, article div.math, article img")]
  .filter(box => box.scrollWidth > Math.max(box.clientWidth, 1) + 1
    || box.getBoundingClientRect().right > innerWidth + 1)
  .map(box => box.tagName + ": " + box.textContent.trim().slice(0, 60))"""


def squeezed(text: str) -> str:
    """Without white space: a PDF keeps no spaces at the end of a line, and wraps where the page ends."""
    return re.sub(r"\s+", "", text)


def stands_in(line: str, text: str) -> bool:
    """Whether a line of code was printed, whole or in two parts with the end of a page between them."""
    return any(line[:cut] in text and line[cut:] in text for cut in range(len(line)))


def printed(page: Page) -> PdfReader:
    return PdfReader(io.BytesIO(page.pdf(format="A4", print_background=True)))


def shown_code(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    hidden = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
    return [c.source for c in cells if c.cell_type == "code" and not hidden & set(c.metadata.get("tags", []))]


@pytest.mark.parametrize("file", CHAPTERS)
def test_chapter_on_paper(open_page, file):
    page = open_page(f"{file}.html")
    pdf = printed(page)
    assert 15 <= len(pdf.pages) <= 60
    assert {round(float(sheet.mediabox.width)) for sheet in pdf.pages} == {596}
    texts = [sheet.extract_text() for sheet in pdf.pages]
    assert [text.split()[0] for text in texts] == [str(number) for number in range(1, len(texts) + 1)]

    text = squeezed("".join(re.sub(r"^\s*\d+", "", text) for text in texts))
    code = shown_code(ROOT / f"{file}.ipynb")
    lines = [line for source in code for line in source.split("\n")]
    for line in [*sorted(lines, key=len)[-5:], code[-1].split("\n")[-1]]:
        assert stands_in(squeezed(line), text), line
    solution = page.locator(".solution > section").last.inner_text().split("\n")[0]
    assert squeezed(solution)[:30] in text
    assert "Answers:1" in text
    assert not [words for words in ("PartI:Themodel", "Searchthisbook", "Skiptomain", "Showcodecell") if words in text]

    pictures = page.locator("article img[src*='_images/'][src$='.png'], article img[src^='data:image/png']").count()
    assert sum(len(sheet.images) for sheet in pdf.pages) == pictures  # one cut in two would stand on two pages


@pytest.mark.parametrize("file", CHAPTERS)
def test_nothing_is_cut_off_at_the_edge(open_page, file):
    page = open_page(f"{file}.html", viewport={"width": TEXT_WIDTH, "height": 900})
    page.emulate_media(media="print")
    assert page.evaluate(CUT_OFF) == []
    page.add_style_tag(content="article pre { white-space: pre !important; }")
    assert page.evaluate(CUT_OFF) != []  # the check sees what does not wrap


def test_every_frame_of_a_slider_is_printed(open_page):
    page = open_page("book/1-model/05-attention.html")
    page.emulate_media(media="print")
    frames = page.locator("figure.mlf").first.locator(".mlf-frame")
    assert frames.count() >= 3 and all(frame.is_visible() for frame in frames.all())


def test_dark_mode_is_printed_on_white_paper(open_page):
    page = open_page("book/1-model/04-rope.html", color_scheme="dark")
    page.evaluate("""() => addEventListener("beforeprint", () => {
      window.paper = getComputedStyle(document.body).backgroundColor + " " + document.documentElement.dataset.theme;
    })""")
    page.pdf()
    assert page.evaluate("window.paper") == "rgb(255, 255, 255) light"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_addresses_of_links_are_printed_unless_they_are_the_text(open_page):
    page = open_page("book/appendix/references.html")
    page.evaluate("""() => document.querySelector("article p").insertAdjacentHTML(
      "beforeend", '<a id="x" class="external" href="https://example.org/x">elsewhere</a>')""")
    text = squeezed("".join(sheet.extract_text() for sheet in printed(page).pages))
    assert "elsewhere(https://example.org/x)" in text
    assert text.count("https://arxiv.org/abs/2307.09288") == 1
