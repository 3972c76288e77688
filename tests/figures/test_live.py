"""Live figures: a widget where somebody is, one line of text elsewhere; and the chapters that offer one."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import IPython.display
import ipywidgets
import matplotlib.pyplot as plt
import nbformat
import pytest

from minillama.figures import live as module
from minillama.figures.live import live_figure, somebody_is_there


@pytest.fixture
def drawn() -> list[dict]:
    return []


@pytest.fixture
def line(drawn):
    def line(slope: float = 0.5, points: int = 7, color: str = "C1"):
        drawn.append({"slope": slope, "points": points, "color": color})
        figure, axes = plt.subplots()
        axes.plot([0, points], [0, slope * points], color=color)
        return figure

    return line


@pytest.fixture
def nobody(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)


def sliders(widget) -> dict:
    return {slider.description: slider for slider in widget.children[:-1]}


def test_without_a_reader_it_is_one_line_and_draws_nothing(line, drawn, nobody):
    bundle = live_figure(line, slope=(0.0, 2.0), color=["C0", "C1", "C2"])._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"} and drawn == []
    page = bundle["text/html"]
    assert "this cell is live: run it and move <b>slope</b> (from 0.0 to 2.0), <b>color</b> (3 values)" in page
    assert bundle["text/plain"] == "<live figure of slope, color>" and "<script" not in page


def test_with_a_reader_it_is_a_widget_that_draws_what_the_sliders_say(line, drawn, nobody, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "04-rope.ipynb")
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figure = live_figure(line, slope=(0.0, 2.0), points=(1, 9, 2), color=["C0", "C1", "C2"])
    bundle = figure._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= set(bundle)
    widget = figure.widget()
    by_name = sliders(widget)
    kinds = [type(slider) for slider in by_name.values()]
    assert kinds == [ipywidgets.FloatSlider, ipywidgets.IntSlider, ipywidgets.SelectionSlider]
    assert [slider.value for slider in by_name.values()] == [0.5, 7, "C1"]  # the function's defaults
    assert not any(slider.continuous_update for slider in by_name.values())
    assert by_name["points"].step == 2 and tuple(by_name["color"].options) == ("C0", "C1", "C2")
    before = len(drawn)
    by_name["points"].value = 3
    widget.update()
    assert drawn[-1] == {"slope": 0.5, "points": 3, "color": "C1"} and len(drawn) > before
    assert shown and all(isinstance(each, plt.Figure) for each in shown)
    assert plt.get_fignums() == []  # each is closed once it is shown


def test_without_a_default_a_slider_starts_at_the_left(nobody):
    def draw(low_end, kind):
        return plt.figure()

    by_name = sliders(live_figure(draw, low_end=(3, 9), kind=["a", "b"]).widget())
    assert {name: slider.value for name, slider in by_name.items()} == {"low end": 3, "kind": "a"}


def test_a_default_that_is_not_among_the_values_starts_next_to_it(line, nobody):
    by_name = sliders(live_figure(line, slope=[0.1, 0.45, 3.0], color=["C5", "C6"]).widget())
    assert {name: slider.value for name, slider in by_name.items()} == {"slope": 0.45, "color": "C5"}
    assert sliders(live_figure(line, points=(1, 5)).widget())["points"].value == 5


def test_who_is_there(nobody, monkeypatch):
    assert not somebody_is_there()
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    assert somebody_is_there()
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert somebody_is_there()
    monkeypatch.delitem(sys.modules, "google.colab")
    for names, there in (({}, False), ({"__vsc_ipynb_file__": "x.ipynb"}, True)):
        monkeypatch.setattr(module.sys.modules["IPython"], "get_ipython", lambda n=names: SimpleNamespace(user_ns=n))
        assert somebody_is_there() is there


def test_without_ipywidgets_the_line_is_shown(line, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(live_figure(line, slope=(0.0, 2.0))._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_ipywidgets_is_loaded_only_for_the_widget():
    code = "import sys, minillama.figures.live; print('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "at least one range"),
        ({"height": (0, 1)}, "line has no argument 'height'; it has slope, points, color"),
        ({"slope": (1.0, 1.0)}, r"slope: expected \(low, high\)"),
        ({"slope": (1.0,)}, r"slope: expected \(low, high\)"),
        ({"color": ["C0"]}, "color: expected .* a list of 2 or more"),
    ],
)
def test_errors(line, ranges, message):
    with pytest.raises(ValueError, match=message):
        live_figure(line, **ranges)


# The chapters ---------------------------------------------------------------------------------------------------------

BOOK = Path(__file__).resolve().parents[2] / "book"
CHAPTERS = ("02", "04", "05", "07", "09", "13", "14", "15", "18", "21")


def complaints(cells: list[str]) -> Iterator[str]:
    """What is wrong with the live figures of a notebook: each must draw what a slider above it shows."""
    functions, drawn_before, found = {}, "", 0
    for source in cells:
        tree = ast.parse(re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.MULTILINE))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                functions[node.name] = {argument.arg for argument in node.args.args}
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "live_figure":
                found += 1
                name, wanted = node.args[0].id, {keyword.arg for keyword in node.keywords}
                if name not in functions or not wanted <= functions[name]:
                    yield f"{name} has no arguments {sorted(wanted - functions.get(name, set()))}"
                if f"{name}(" not in drawn_before:
                    yield f"no slider above shows {name}"
        if "frames_slider(" in source:
            drawn_before += re.sub(r"\bdef \w+\(", "", source)
    if not found:
        yield "no live figure"


def code_cells(chapter: str) -> list[str]:
    (path,) = BOOK.glob(f"*/{chapter}-*.ipynb")
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_chapter_offers_its_slider_live_by_the_same_function(chapter):
    assert list(complaints(code_cells(chapter))) == []


def test_the_check_of_chapters_can_fail():
    drawing = "def draw(m=1):\n    return m\n"
    slider = drawing + "frames_slider([draw(m) for m in (1, 2)], (1, 2))"
    assert list(complaints([slider, "live_figure(draw, m=(0, 9))"])) == []
    assert list(complaints([slider])) == ["no live figure"]
    assert list(complaints([slider, "live_figure(draw, n=(0, 9))"])) == ["draw has no arguments ['n']"]
    assert list(complaints([drawing, "live_figure(draw, m=(0, 9))"])) == ["no slider above shows draw"]
