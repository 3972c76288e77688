"""Print the built book into one PDF: `pdf.py _build/html _build/book.pdf`.

Each page of the table of contents is printed by Chromium with the book's own style sheet for paper; the prints are
joined behind a title page, with one row of page numbers and an outline of parts, pages and their sections.

Does: links from one page of the book to another lead to its place in the PDF, or to the first sheet of that page.
Does not: print the library's page (hundreds of sheets, made from docstrings) or the index; keep the tags that a
screen reader would use, for which the web page is better; set type as TeX would.
"""

import io
import sys
import threading
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from chromium import MATH_IS_SET, launch
from playwright.sync_api import Browser, Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject, TextStringObject
from serve import open_server

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {"book/appendix/api"}
TITLE_PAGE = """<html lang="en"><style>
@page {{ margin: 25mm }} body {{ font: 12pt/1.5 sans-serif; text-align: center; padding-top: 60mm }}
h1 {{ font-size: 30pt; line-height: 1.2 }} footer {{ margin-top: 60mm; font-size: 9pt }}</style>
<h1>{title}</h1><p>{author}, {year}</p><footer>{footer}</footer></html>"""

Place = tuple[int, float, float]  # sheet, left and top


def parts() -> Iterator[tuple[str, list[str]]]:
    """Each part's caption with its pages, in reading order; the start page stands before the first part."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    yield "", [toc["root"]]
    for part in toc["parts"]:
        yield part["caption"], [entry["file"] for entry in part["chapters"] if entry["file"] not in LEFT_OUT]


def title_page(page: Page) -> PdfReader:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    title, author, year = (escape(config[key]) for key in ("title", "author", "copyright"))
    page.set_content(TITLE_PAGE.format(title=title, author=author, year=year, footer=config["html"]["extra_footer"]))
    return PdfReader(io.BytesIO(page.pdf(format="A4")))


def printed(page: Page, address: str, sheets_before: int) -> PdfReader:
    """A page of the book on A4, its sheets numbered from `sheets_before + 1`."""
    page.goto(address)
    page.wait_for_function(MATH_IS_SET)
    page.add_style_tag(content=f"html {{ counter-reset: page {sheets_before}; }}")
    return PdfReader(io.BytesIO(page.pdf(format="A4", print_background=True, outline=True, tagged=True)))


def places(reader: PdfReader, sheets_before: int) -> dict[str, Place]:
    """Where a print's named places are in the whole book; the empty name is its first sheet."""
    found = {"": (sheets_before, 0.0, float(reader.pages[0].mediabox.top))}
    for name, target in reader.named_destinations.items():
        sheet = reader.get_destination_page_number(target)
        if sheet is not None and sheet >= 0 and name.strip("/"):
            found[unquote(name.strip("/"))] = (sheets_before + sheet, float(target.left or 0), float(target.top or 0))
    return found


def join_links(writer: PdfWriter, spans: dict[str, range], known: dict[str, dict[str, Place]], site: str) -> None:
    """Let links inside the book lead to a sheet, where they were names within a print or addresses on localhost."""
    for file, span in spans.items():
        for number in span:
            for reference in writer.pages[number].get("/Annots", []):
                link = reference.get_object()
                uri = link.get("/A", {}).get("/URI", "")
                if "/Dest" in link:
                    path, name = file, str(link["/Dest"]).strip("/")
                elif uri.startswith(site):
                    address = urlsplit(uri)
                    path, name = address.path.strip("/").removesuffix(".html"), address.fragment
                    if path not in known:  # a page that is not printed: the link would lead to a server that is gone
                        del link["/A"]
                        continue
                else:
                    continue
                sheet, left, top = known[path].get(unquote(name), known[path][""])
                link.pop("/A", None)
                target = [
                    writer.pages[sheet].indirect_reference,
                    NameObject("/XYZ"),
                    FloatObject(left),
                    FloatObject(top),
                ]
                link[NameObject("/Dest")] = ArrayObject([*target, NullObject()])


def make(browser: Browser, html: str, target: str, chosen: Iterable[tuple[str, list[str]]]) -> int:
    """Print the chosen parts of the book in folder `html` into the file `target`, and say how many sheets it has."""
    server = open_server(html, 8600)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_port}"
    writer, spans, known = PdfWriter(), {}, {}
    page = browser.new_page()
    writer.append(title_page(page))
    for caption, files in chosen:
        part = None
        for file in files:
            start = len(writer.pages)
            print_ = printed(page, f"{site}/{file}.html", start)
            writer.append(print_, import_outline=False)
            spans[file], known[file] = range(start, len(writer.pages)), places(print_, start)
            if caption and part is None:
                part = writer.add_outline_item(title=caption, page_number=start, bold=True)
            title, *rest = print_.outline  # the page's title, then the list of its sections
            chapter = writer.add_outline_item(title=title.title, page_number=start, parent=part, is_open=False)
            for section in rest[0] if rest else []:
                if not isinstance(section, list) and section.title != "Contents":
                    sheet = start + print_.get_destination_page_number(section)
                    writer.add_outline_item(title=section.title, page_number=sheet, parent=chapter)
    page.close()
    server.shutdown()
    join_links(writer, spans, known, site)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    writer.root_object[NameObject("/Lang")] = TextStringObject("en")
    writer.page_mode = "/UseOutlines"
    writer.compress_identical_objects()
    writer.write(target)
    return len(writer.pages)


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        print(f"{sys.argv[2]}: {make(chromium, sys.argv[1], sys.argv[2], parts())} sheets")
        chromium.close()
