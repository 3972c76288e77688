"""The slides: made from the chapters, whole, not overfull, and with everything they need in their own folder."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import slide_layout
import slides
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_book import CHAPTERS, figures_in_notebook, sliders_in_notebook

ROOT = Path(__file__).resolve().parents[1]
WORDS, LINES = 140, 32  # of one slide as a reader counts them: prose (headings and quiz included); code and output


class Section:
    """What is on one slide, read from the page and not from the program that made it."""

    def __init__(self):
        self.where = self.heading = self.text = self.notes = self.fragment = ""
        self.printed: list[str] = []
        self.images: list[dict] = []
        self.sliders = self.asks = 0

    @property
    def words(self) -> int:
        return len(re.sub(r"\$\$.*?\$\$|\$[^$]+\$", "x", self.text, flags=re.DOTALL).split())

    @property
    def lines(self) -> int:
        return sum(text.strip("\n").count("\n") + 1 for text in self.printed)


class Deck(HTMLParser):
    """Slides of a deck, one list for each that stands across, and every address that the page names."""

    def __init__(self, page: str):
        super().__init__()
        self.across: list[list[Section]] = []
        self.addresses: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.addresses += [
            attributes[name] for name in ("src", "href", "srcset", "data", "poster") if name in attributes
        ]
        if tag == "section":
            if any(name == "section" for name, _ in self._open):
                self.across[-1].append(Section())
            else:
                self.across.append([])
        elif self.across and self.across[-1]:
            slide = self.across[-1][-1]
            slide.sliders += "data-frames" in attributes
            slide.asks += "celltag_ask" in attributes.get("class", "")
            if tag == "img" and not self._in("mlf-frame"):
                slide.images.append(attributes)
            if tag == "img" and self._in("mlf-frame"):
                assert attributes["alt"], "a frame of a slider has lost its alt text"
            if tag == "pre" and not self._in("notes"):
                slide.printed.append("")
        if tag not in ("img", "input", "br", "hr", "meta", "link"):
            self._open.append((tag, attributes.get("class", "")))

    def handle_endtag(self, tag):
        while any(name == tag for name, _ in self._open):
            if self._open.pop()[0] == tag:
                break

    def _in(self, name: str) -> bool:
        return any(name == tag or name in classes.split() for tag, classes in self._open)

    def handle_data(self, data):
        if not self.across or not self.across[-1] or self._in("style") or self._in("script"):
            return
        slide = self.across[-1][-1]
        if self._in("notes"):
            slide.notes += data
        elif self._in("pre"):
            slide.printed[-1] += data
        elif self._in("where"):
            slide.where += data
        elif not self._in("mlf"):
            slide.text += data
            slide.heading += data if self._in("h2") else ""
            slide.fragment += data if self._in("fragment") else ""

    @property
    def slides(self) -> list[Section]:
        return [slide for below in self.across for slide in below]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Path]:
    return slides.make(tmp_path_factory.mktemp("slides"))


@pytest.fixture(scope="module")
def decks(made) -> list[Deck]:
    return [Deck(path.read_text(encoding="utf-8")) for path in made]


@pytest.fixture(scope="module")
def by_chapter(decks) -> dict[str, list[Section]]:
    below = [chapter for deck in decks for chapter in deck.across[1:]]
    return dict(zip(CHAPTERS, below, strict=True))


def notebook(file: str):
    return nbformat.read(ROOT / f"{file}.ipynb", as_version=4)


def words_of(text: str) -> str:
    """Only letters and digits, to compare texts across markup."""
    return " ".join(re.findall(r"\w+", html.unescape(text)))


# The decks -----------------------------------------------------------------------------------------------------------


def test_there_is_a_deck_for_each_part_with_its_chapters_in_order(made, decks):
    assert [path.name for path in made] == [f"part-{i}.html" for i in (1, 2, 3, 4)]
    captions = [caption for caption, _ in slides.parts()]
    assert [deck.across[0][0].heading for deck in decks] == captions and len(captions) == 4
    titles = [re.search(r"^# (.*)$", slides.markdown(notebook(file)), re.MULTILINE)[1] for file in CHAPTERS]
    assert [chapter[0].heading for deck in decks for chapter in deck.across[1:]] == titles


def test_the_decks_need_no_network_and_nothing_outside_their_folder(made, decks):
    for path, deck in zip(made, decks, strict=True):
        page = path.read_text(encoding="utf-8")
        named = deck.addresses + re.findall(r"url\(\s*['\"]?([^'\")]+)", page) + re.findall(r"@import\s+(\S+)", page)
        files = {address for address in named if not address.startswith(("data:", "#", "%23"))}
        assert len(files) >= 5 and not [name for name in files if not (path.parent / name).is_file()]
        scripts = "".join(re.findall(r"<script[^>]*>.*?</script>", page, re.DOTALL))
        assert "://" not in scripts
    loaded = [*(made[0].parent / "reveal").rglob("*.css")]
    assert loaded and not any(re.search(r"url\(['\"]?https?:|@import ['\"]https?:", css.read_text()) for css in loaded)
    for css in loaded:
        for name in re.findall(r"url\(['\"]?(?!data:)([^'\")]+)", css.read_text()):
            assert (css.parent / re.sub(r"[?#].*", "", name)).is_file(), f"{css.name} wants {name}"


def test_the_same_notebooks_give_the_same_bytes(made):
    caption, files = slides.parts()[1]
    assert slides.deck(caption, files) == made[1].read_text(encoding="utf-8")


def test_no_slide_is_overfull(decks):
    for deck in decks:
        for slide in deck.slides:
            name = f"{slide.where} / {slide.heading}"
            assert slide.words <= WORDS, f"{name}: {slide.words} words"
            assert slide.lines <= LINES, f"{name}: {slide.lines} lines of code and output"
            assert len(slide.images) + slide.sliders <= 1, f"{name}: more than one figure"
            assert not ((slide.images or slide.sliders) and slide.printed), f"{name}: a figure and something printed"


def test_no_slide_is_empty_and_nothing_is_left_of_the_markup(decks):
    for slide in (slide for deck in decks for slide in deck.slides):
        body = slide.text.replace(slide.heading, "", 1).strip()
        assert slide.heading and (body or slide.printed or slide.images or slide.sliders), slide.heading
        for text in (slide.text, slide.notes):
            assert not re.search(r"\{[\w:]+\}`|^:label:|:::|\$\$ *\([\w-]+\)|\]\([^)]*\.ipynb", text, re.MULTILINE), (
                text
            )


@pytest.mark.parametrize("file", CHAPTERS)
def test_every_heading_has_a_slide(by_chapter, file):
    headings = re.findall(r"^#{2,3} (.*)$", slides.markdown(notebook(file)), re.MULTILINE)
    named = words_of(" ".join(slide.heading + " " + slide.where for slide in by_chapter[file]))
    for heading in set(headings) - {"Quiz", "Exercises", "Further reading"}:
        assert words_of(slides.plain(heading, {})) in named, heading


@pytest.mark.parametrize("file", CHAPTERS)
def test_every_figure_has_a_slide_its_alt_text_and_what_to_look_for(by_chapter, file):
    shown = by_chapter[file]
    assert sum(len(slide.images) for slide in shown) == figures_in_notebook(ROOT / f"{file}.ipynb") > 0
    assert sum(slide.sliders for slide in shown) == sliders_in_notebook(ROOT / f"{file}.ipynb")
    described = [cell.metadata.mystnb.image.alt for cell in notebook(file).cells if "mystnb" in cell.metadata]
    assert {image["alt"] for slide in shown for image in slide.images} <= set(described) - {""}
    hints = re.findall(r"^\*\*What to look for\.\*\* (.{40})", slides.markdown(notebook(file)), re.MULTILINE)
    notes = words_of(" ".join(slide.notes for slide in shown))
    for hint in hints:
        start = words_of(slides.plain(re.sub(r"\s\S*$", "", hint.split("{")[0].split("$")[0]), {}))
        assert start in notes, hint


@pytest.mark.parametrize("file", CHAPTERS)
def test_a_guess_is_asked_for_before_the_answer_can_be_seen(by_chapter, file):
    asked = [slide for slide in by_chapter[file] if slide.heading == "Predict first"]
    text = re.sub(
        r"^(`{3,}|:{3,})\{(?:exercise|solution)\}.*?^\1", "", slides.markdown(notebook(file)), flags=re.M | re.S
    )
    assert len(asked) == text.count("*Predict first.*") > 0
    assert all(slide.asks and not slide.printed and not slide.images and not slide.sliders for slide in asked)


@pytest.mark.parametrize("file", CHAPTERS)
def test_the_quiz_shows_its_right_answers_one_step_later(by_chapter, file):
    stored = [
        "".join(output.data["text/html"])
        for cell in notebook(file).cells
        for output in cell.get("outputs", [])
        if "data-quiz" in "".join(output.get("data", {}).get("text/html", ""))
    ]
    fields = re.findall(r"<fieldset>(.*?)</fieldset>", stored[0], re.DOTALL)
    right = ["ABCDEFGH"[re.findall(r'data-right="(yes|no)"', field).index("yes")] for field in fields]
    assert [slide.fragment.strip()[0] for slide in by_chapter[file] if slide.fragment] == right and len(right) >= 3


@pytest.mark.parametrize("file", CHAPTERS)
def test_box_summary_symptom_and_exercises_are_there(by_chapter, file):
    shown, text = by_chapter[file], slides.markdown(notebook(file))
    assert "You build" in shown[0].text and "You need" in shown[0].text and "Runs in" in shown[0].notes
    summary = re.search(r"^## Summary\n(.*?)^#", text, re.MULTILINE | re.DOTALL)[1]
    bullets = len(re.findall(r"^- ", summary, re.MULTILINE))
    openings = [
        words_of(slides.plain(b, slides.equation_numbers()))[:12] for b in re.split(r"^- ", summary, flags=re.M)
    ]
    seen = words_of(" ".join(slide.text for slide in shown if slide.heading == "Summary"))
    assert bullets >= 3 and all(opening in seen for opening in openings)
    assert any(slide.where.endswith("Break it") or slide.heading == "Break it" for slide in shown)
    (homework,) = [slide for slide in shown if slide.heading == "Homework"]
    assert (
        homework.text.count("★")
        == sum(len(stars) for stars in re.findall(r"^(?:`{3,}\{exercise\} )?(★+) ", text, re.MULTILINE))
        > 0
    )
    assert len(homework.notes.split()) > 60 and "{solution}" not in homework.notes
    assert sum(bool(slide.notes.strip()) for slide in shown) > len(shown) / 2


# Planted chapters ----------------------------------------------------------------------------------------------------

SENTENCE = "The model reads one word after the other and says what comes next. "


def chapter(*cells) -> list[slide_layout.Slide]:
    title = new_markdown_cell("# 9. A chapter\n\n*A sentence to remember.*\n\n## Build it plainly\n\n### A heading")
    return slide_layout.Chapter(new_notebook(cells=[title, *cells]), {"eq-a": "9.1"}).lay_out()


def code(source: str, printed: str = "", **metadata):
    outputs = [new_output("stream", text=printed)] if printed else []
    return new_code_cell(source, outputs=outputs, metadata=metadata)


def shown(found: list[slide_layout.Slide]) -> list[str]:
    return ["\n".join(cell.source for cell in slide.cells) for slide in found]


def test_a_long_paragraph_opens_a_slide_and_goes_on_in_the_notes():
    *_, slide = chapter(new_markdown_cell(SENTENCE * 20))
    assert 20 < slide.words <= slide_layout.LEAD_WORDS
    assert len(" ".join(slide.notes).split()) == len((SENTENCE * 20).split())


def test_what_does_not_fit_goes_to_a_second_slide_of_the_same_heading():
    found = chapter(*(code("\n".join(["x = 1"] * slide_layout.CODE_LINES), "\n".join("12345678")) for _ in range(3)))
    assert [slide.heading for slide in found[1:]] == ["A heading"] * 6
    assert all(slide.lines <= slide_layout.LINES for slide in found)


def test_code_and_its_output_stay_together_where_they_fit():
    first, second = chapter(*(code("x = 1\n" * 5, "1\n" * 5) for _ in range(2)))[1:]
    assert [len(first.cells), len(second.cells)] == [2, 2]


@pytest.mark.parametrize(
    "cell",
    [
        code("x = 1\n" * (slide_layout.CODE_LINES + 1)),
        code(f"x = '{'a' * slide_layout.CODE_COLUMNS}'"),
        code("plt.show()"),
        code("x = 1", tags=["hide-input"]),
        code("x = 1", tags=["remove-cell"]),
        code("", "1\n" * (slide_layout.OUTPUT_LINES + 1)),
        code("", "a" * (slide_layout.OUTPUT_COLUMNS + 1)),
    ],
)
def test_what_a_class_could_not_read_is_not_shown(cell):
    assert shown(chapter(new_markdown_cell("Short."), cell))[1:] == ["Short."]


def test_a_guess_in_the_middle_of_a_paragraph_gets_its_own_slide():
    found = chapter(new_markdown_cell("One thing. *Predict first.* How large?"), code("print(1)", "1"))
    assert [slide.heading for slide in found[1:]] == ["A heading", "Predict first", "A heading"]
    assert shown(found)[1:] == ["One thing.", "How large?", "print(1)\n"]


def test_an_equation_comes_with_the_words_that_lead_to_it_and_its_number():
    found = chapter(
        new_markdown_cell("First.\n\nMore is said. So it is:\n\n$$\na = b\n$$ (eq-a)\n\nBy {eq}`eq-a`, yes.")
    )
    assert shown(found)[1] == "First.\nSo it is:\n$$\na = b \\tag{9.1}\n$$"
    assert found[1].notes[-1] == "By (9.1), yes."


def test_the_symptom_of_a_bug_is_seen():
    found = chapter(new_markdown_cell("## Break it\n\nA bug.\n\nMore of it.\n\n**The symptom** is silence. Look."))
    assert shown(found)[1:] == ["A bug.\n**The symptom** is silence. Look."]
    assert found[-1].notes == ["More of it."]


def test_roles_become_words():
    text = (
        "A {term}`token`, {term}`two <token>`, {doc}`x <y>`, {func}`~a.b`, [here](05-attention.ipynb), ![alt](p.png)."
    )
    assert slide_layout.plain(text, {}) == "A token, two, x, `a.b`, here, ![alt](p.png)."
    cited = slide_layout.plain("{cite}`touvron2023llama2` and {cite:t}`su2021roformer`", {})
    assert cited == "(Touvron et al. 2023) and Su et al. 2021"


def test_authors_are_named_without_latex():
    names = slide_layout.authors()
    assert names["roziere2023codellama"] == "Rozière et al. 2023"
    assert len(names) > 20 and not [name for name in names.values() if re.search(r"[{}\\]", name)]


@pytest.mark.parametrize("text", ["{cite}`nobody1900`", "{eq}`eq-b`"])
def test_a_label_that_leads_nowhere_is_an_error(text):
    with pytest.raises(KeyError):
        slide_layout.plain(text, {"eq-a": "9.1"})


def test_sentences_keep_formulas_and_code_whole():
    text = 'By $a. B$ it holds. See `x. Y` here, e.g. Now? "Yes." *Then* so: Last'
    assert slide_layout.sentences(text) == [
        "By $a. B$ it holds.",
        "See `x. Y` here, e.g. Now?",
        '"Yes."',
        "*Then* so: Last",
    ]
    assert slide_layout.sentences("So: Last", ".:")[-1] == "Last"


def test_blocks_are_read_as_myst_does():
    text = "# T\ntext\nmore\n\n- a\n  b\n- c\n\n| x |\n|---|\n\n$$\na\n$$ (l)\n\n"
    text += "````{exercise} ★\n:label: e\n\n```\nWhy?\n```\n````\n\n$$ b $$"
    kinds = [kind for kind, _ in slide_layout.blocks(text)]
    assert kinds == ["heading", "paragraph", "list", "table", "equation", "exercise", "equation"]


def test_a_deck_that_reaches_for_the_network_is_seen():
    page = '<section><section><h2>A</h2><img src="https://example.org/a.png"></section></section>'
    assert Deck(page).addresses == ["https://example.org/a.png"]


def test_missing_reveal_is_named(monkeypatch):
    monkeypatch.setattr(slides.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="sphinx-revealjs"):
        slides.reveal_folder()
