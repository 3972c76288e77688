"""The figures chapters use: accessible, the same bytes on every run, and no picture or script from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import pytest
import torch

from minillama.figures import COLORS, Question, frames_slider, quiz, show_source, use_book_style
from minillama.figures.slider import SVG_LIMIT
from minillama.figures.source import without_docstrings

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ALT = "A line whose slope is {value}."


@pytest.fixture(autouse=True)
def _leave_matplotlib_as_it_was():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def lines(slopes, points=2):
    figures = []
    for slope in slopes:
        figure, axes = plt.subplots(figsize=(3, 2))
        axes.plot(range(points), [slope * (x % 7) for x in range(points)])
        figures.append(figure)
    return figures


class Elements(HTMLParser):
    """Every element of a page, as (tag, attributes)."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def __getitem__(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def slider(**changes):
    arguments = {"values": [0.5, 1.0, 2.0], "label": "slope & sign", "alt": ALT, **changes}
    return frames_slider(lines([0.5, 1, 2]), **arguments)._repr_html_()


def test_slider_has_a_labelled_range_and_one_described_picture_per_value():
    page = Elements(slider())
    (control,) = page["input"]
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "0")
    assert control["aria-label"] == "slope & sign" and control["aria-valuetext"] == "0.5"
    assert [image["alt"] for image in page["img"]] == [ALT.replace("{value}", v) for v in ("0.5", "1", "2")]
    assert page["output"][0]["for"] == page["label"][0]["for"] == control["id"]


def test_slider_accepts_one_alt_text_per_frame_and_a_first_frame():
    page = Elements(slider(alt=["flat", "even", "steep"], start=2))
    assert [image["alt"] for image in page["img"]] == ["flat", "even", "steep"]
    assert page["input"][0]["value"] == "2"
    on = [i for i, d in enumerate(d for d in page["div"] if "data-value" in d) if "mlf-on" in d["class"]]
    assert on == [2]


def test_slider_gives_the_same_bytes_every_time_and_another_id_for_another_content():
    assert slider() == slider()
    assert Elements(slider())["input"][0]["id"] != Elements(slider(values=[1, 2, 3]))["input"][0]["id"]


def test_slider_gives_the_same_bytes_in_another_process():
    program = (
        "import matplotlib; matplotlib.use('Agg')\nimport hashlib\nfrom minillama.figures import *\n"
        "import matplotlib.pyplot as plt\nuse_book_style()\nf = [plt.subplots()[0], plt.subplots()[0]]\n"
        "f[1].axes[0].plot([1, 2], marker='o')\n"
        "print(hashlib.sha256(frames_slider(f, [1, 2], 'n', 'frame {value}')._repr_html_().encode()).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_slider_closes_the_figures_it_was_given():
    before = len(plt.get_fignums())
    slider()
    assert len(plt.get_fignums()) == before


def test_slider_takes_png_for_heavy_drawings_only():
    def sources(**kwargs):
        page = frames_slider(lines([1, 2], **kwargs), [1, 2], "n", ALT)._repr_html_()
        return [image["src"] for image in Elements(page)["img"]]

    assert all(source.startswith("data:image/svg+xml,") and len(source) < SVG_LIMIT for source in sources())
    with matplotlib.rc_context({"path.simplify": False}):
        assert all(source.startswith("data:image/png;base64,") for source in sources(points=20_000))


def test_slider_svg_frames_are_well_formed():
    from urllib.parse import unquote
    from xml.etree import ElementTree

    for image in Elements(slider())["img"]:
        root = ElementTree.fromstring(unquote(image["src"].partition(",")[2]))
        assert root.tag.endswith("svg") and root.get("viewBox")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": [1, 2]}, "3 figures and 2 values"),
        ({"alt": "always the same"}, "{value}"),
        ({"alt": ["one", "two"]}, "got 2 for 3 frames"),
        ({"alt": ["one", " ", "three"]}, "its own alt text"),
        ({"start": 3}, "from 0 to 2, got 3"),
        ({"fmt": "gif"}, "'gif'"),
    ],
)
def test_slider_refuses_what_would_not_be_readable(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        slider(**changes)


def test_slider_of_one_frame_is_refused():
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        frames_slider(lines([1]), [1], "n", ALT)


QUESTIONS = [
    Question("What is `a < b`?", ["`True`", "a <tag>"], 0, ["Yes & no.", 'It is "not".']),
    Question("How many heads?", ["one", "two", "three"], 2, ["No.", "No.", "Count them."]),
]


def test_quiz_is_a_form_that_keyboards_and_screen_readers_know():
    page = Elements(quiz(QUESTIONS)._repr_html_())
    assert len(page["fieldset"]) == len(page["legend"]) == len(page["button"]) == 2
    assert [button["type"] for button in page["button"]] == ["button", "button"]
    radios = page["input"]
    assert len(radios) == 5 and {radio["type"] for radio in radios} == {"radio"}
    assert len({radio["name"] for radio in radios}) == 2
    assert [radio["data-right"] for radio in radios] == ["yes", "no", "no", "no", "yes"]
    assert sum(d.get("aria-live") == "polite" for d in page["div"]) == 2


def test_quiz_escapes_text_and_sets_backticks_as_code():
    page = quiz(QUESTIONS)._repr_html_()
    assert "<code>a &lt; b</code>" in page and "a &lt;tag&gt;" in page and "<tag>" not in page
    assert Elements(page)["input"][0]["data-reply"] == "Yes &amp; no."


def test_quiz_shows_its_answers_without_scripts():
    page = quiz(QUESTIONS)._repr_html_()
    key = page[page.index("<details") : page.index("</details>")]
    assert "A: <code>True</code>" in key and "C: three" in key and "1 A; 2 C" in page


def test_quiz_is_the_same_every_time_and_has_its_own_names():
    assert quiz(QUESTIONS)._repr_html_() == quiz(QUESTIONS)._repr_html_()
    names = {radio["name"] for radio in Elements(quiz(QUESTIONS[:1])._repr_html_())["input"]}
    assert names.isdisjoint(radio["name"] for radio in Elements(quiz(QUESTIONS)._repr_html_())["input"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("q", ["one"], 0, ["x"]), "2 to 8 options, got 1"),
        (("q", ["a", "b"], 2, ["x", "y"]), "from 0 to 1, got 2"),
        (("q", ["a", "b"], 0, ["x"]), "one feedback for each of the 2"),
        (("q", ["a", "b"], 0, "xy"), "one feedback for each of the 2"),
    ],
)
def test_question_refuses_what_cannot_be_answered(arguments, message):
    with pytest.raises(ValueError, match=message):
        Question(*arguments)


def test_empty_quiz_is_refused():
    with pytest.raises(ValueError, match="at least one question"):
        quiz([])


@pytest.mark.parametrize("page", [slider, lambda: quiz(QUESTIONS)._repr_html_()])
def test_nothing_is_loaded_from_elsewhere_and_nothing_names_this_machine(page):
    page = page()
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "srcset", "data", "action"):
            assert not attributes.get(name, "data:").startswith(("http", "//", "/")), (tag, attributes)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#|%23|data:)|fetch\(|/home/|/tmp/", page)


def test_show_source_gives_the_lines_of_the_file_under_its_name():
    shown = show_source(use_book_style)._repr_markdown_()
    assert shown.startswith("`minillama/figures/style.py` · `use_book_style`\n\n```python\ndef use_book_style()")
    assert '"""Set matplotlib' in shown and shown.endswith("```")


def test_show_source_leaves_out_docstrings_when_asked():
    full, short = show_source(Question), show_source(Question, docstring=False)
    assert "Attributes:" in full.code and "Attributes:" not in short.code
    assert short.code.startswith("@dataclass(frozen=True)\nclass Question:\n    text: str")
    compile(short.code, "listing", "exec")


def test_show_source_of_a_module_and_of_a_decorated_function():
    import minillama.figures.style as module

    assert show_source(module).name == "" and "COLORS" in show_source(module)._repr_markdown_()
    assert show_source(torch.no_grad()(use_book_style)).code == show_source(use_book_style).code


def test_show_source_fences_code_that_contains_fences():
    shown = show_source(show_source.__globals__["SourceListing"])
    shown.code += "\n# ```` four"
    assert "\n`````python\n" in shown._repr_markdown_()


@pytest.mark.parametrize("thing", [len, torch.nn.Linear, 3, lambda: 0])
def test_show_source_shows_the_library_only(thing):
    with pytest.raises(ValueError, match="class or module of minillama"):
        show_source(thing)


def test_without_docstrings_keeps_a_body_that_has_nothing_else():
    code = (
        'class Error(ValueError):\n    """Why."""\n\n\ndef f():\n    """What.\n\n    More.\n    """\n\n    return "x"'
    )
    assert without_docstrings(code) == 'class Error(ValueError):\n    """Why."""\n\n\ndef f():\n    return "x"'


def test_book_style_is_applied_and_its_colours_can_be_told_apart():
    use_book_style()
    cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(set(cycle)) == len(cycle) and set(cycle) <= set(COLORS.values())
    assert matplotlib.rcParams["figure.facecolor"] == "white"

    def contrast(colour):  # WCAG 2: relative luminance against white
        channels = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)
        ]
        return 1.05 / (0.05 + sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True)))

    assert all(contrast(colour) > 2 for colour in cycle), {c: round(contrast(c), 2) for c in cycle}


def test_ipywidgets_is_not_imported():
    program = "import minillama.figures, sys; print('ipywidgets' in sys.modules, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
