"""The whole book as one PDF, tried on three of its pages."""

from pdf import make, parts, title_page
from pypdf import PdfReader
from test_book import PAGES

CHOSEN = [("", ["book/intro"]), ("Appendix", ["book/appendix/notation", "book/appendix/paper-map"])]


def test_parts_are_the_table_of_contents_less_the_library_s_page():
    assert [file for _, files in parts() for file in files] == [file for file in PAGES if file != "book/appendix/api"]


def test_book_has_numbers_an_outline_and_links_of_its_own(chromium, built_book, tmp_path):
    target = tmp_path / "book.pdf"
    sheets = make(chromium, str(built_book), str(target), CHOSEN)
    pdf = PdfReader(target)
    assert len(pdf.pages) == sheets >= 8
    texts = [sheet.extract_text() for sheet in pdf.pages]
    assert pdf.metadata.title in texts[0] and "no Llama weights" in texts[0]
    assert [text.split()[0] for text in texts[1:]] == [str(number) for number in range(2, sheets + 1)]

    start, its_sections, part, pages = pdf.outline
    assert (start.title, part.title) == (pdf.metadata.title, "Appendix") and len(its_sections) >= 3
    assert [item.title for item in pages if not isinstance(item, list)] == ["Notation", "Map of the paper"]
    for item in [start, part, *(item for item in pages if not isinstance(item, list))]:
        wanted = "Notation" if item is part else item.title
        assert wanted in texts[pdf.get_destination_page_number(item)]

    links = [note.get_object() for sheet in pdf.pages for note in sheet.get("/Annots", [])]
    assert not [link for link in links if "127.0.0.1" in link.get("/A", {}).get("/URI", "")]
    assert len([link for link in links if isinstance(link.get("/Dest"), list)]) >= 10
    assert not [link for link in links if isinstance(link.get("/Dest"), str)]


def test_title_page_is_one_sheet(chromium):
    page = chromium.new_page()
    assert len(title_page(page).pages) == 1
    page.close()
