"""The labelling widget, pressed button by button without a display."""

import subprocess
import sys

import ipywidgets
import pytest

from minillama import data_path
from minillama.alignment.comparisons import written
from minillama.figures.labelling import Labeller
from minillama.model.tokenizer import Tokenizer
from minillama.village.annotators import DEGREES, Annotator
from minillama.village.demonstrations import demonstrate
from minillama.village.requests import requests

BOOK = Tokenizer.from_file(data_path("tokenizer.model"))


def pairs(number: int = 12):
    asked = requests("train", number, 3, ["list", "fact"])
    sides = (
        [written(BOOK, r, demonstrate(r, i, quality)) for i, r in enumerate(asked)] for quality in ("good", "sloppy")
    )
    return [pair for pair in zip(asked, *sides, strict=True) if pair[1].text != pair[2].text]


@pytest.fixture
def labeller() -> Labeller:
    return Labeller(pairs(), Annotator(seed=5), seed=1)


def parts(labeller):
    prompt, sides, back = labeller.widget().children
    (a, *for_a), (b, *for_b) = (side.children for side in sides.children)
    return prompt, a, b, for_a, for_b, back


def test_untouched_it_gives_the_annotator_s_choices_between_all_pairs(labeller):
    found = labeller.comparisons
    assert not labeller.by_hand and len(found) == len(labeller.pairs) > 8
    for c, (request, a, b) in zip(found, labeller.pairs, strict=True):
        choice, degree = labeller.annotator.compare(request, a.text, b.text)
        assert (c.request, c.chosen, c.rejected, c.degree) == (request, *((a, b) if choice == 0 else (b, a)), degree)
    labeller.widget()
    assert labeller.comparisons == found


def test_pressed_buttons_become_comparisons(labeller):
    prompt, a, b, for_a, for_b, back = parts(labeller)
    request, first, second = labeller.pairs[0]
    assert first.text.split()[0] in a.value and request.prompt.split()[0] in prompt.value
    assert [button.description.split(" is ")[0] for button in for_a + for_b] == ["A"] * 4 + ["B"] * 4
    assert len({button.description for button in for_a + for_b}) == 8 and back.disabled
    for_a[0].click()
    assert f"Pair 2 of {len(labeller.pairs)}" in prompt.value and not back.disabled
    for_b[3].click()
    one, two = labeller.comparisons
    assert (one.chosen, one.rejected, one.degree) == (first, second, "significantly")
    assert (two.rejected, two.chosen, two.degree) == (*labeller.pairs[1][1:], "negligibly")
    assert labeller.by_hand and one.safe is None


def test_every_button_is_the_degree_it_says():
    for choice in (0, 1):
        for i, degree in enumerate(reversed(DEGREES)):
            labeller = Labeller(pairs(3))
            parts(labeller)[3 + choice][i].click()
            assert labeller.labels == [(choice, degree)]


def test_a_choice_can_be_taken_back(labeller):
    prompt, *_, for_b, back = parts(labeller)
    recorded = labeller.comparisons
    for_b[0].click()
    back.click()
    assert "Pair 1 of" in prompt.value and back.disabled and labeller.comparisons == recorded
    labeller.take_back()
    assert labeller.labels == []


def test_behind_the_last_pair_nothing_can_be_pressed(labeller):
    prompt, a, b, for_a, for_b, back = parts(labeller)
    for _ in labeller.pairs:
        assert not for_a[0].disabled
        for_a[1].click()
    assert "All" in prompt.value and a.value == b.value == ""
    assert all(button.disabled for button in for_a + for_b) and not back.disabled
    with pytest.raises(ValueError, match="take a choice back first"):
        labeller.choose(0, "better")
    back.click()
    assert not for_a[0].disabled and a.value


def test_the_better_answer_stands_on_either_side_and_the_same_seed_shows_the_same(labeller):
    given = pairs()
    swapped = [shown[1] is not own[1] for shown, own in zip(Labeller(given, seed=1).pairs, given, strict=True)]
    assert 0 < sum(swapped) < len(swapped)
    assert [p[1].text for p in labeller.pairs] == [p[1].text for p in Labeller(given, seed=1).pairs]
    assert [p[1].text for p in labeller.pairs] != [p[1].text for p in Labeller(given, seed=2).pairs]


def test_the_static_page_shows_the_first_pair_and_runs_nothing(labeller):
    page, (_, a, b) = labeller._repr_html_(), labeller.pairs[0]
    assert a.text.split(".")[0] in page and b.text.split(".")[0] in page and "The annotator finds" in page
    (first, *_), (choice, _) = labeller.comparisons, labeller.annotator.compare(*(labeller.pairs[0][0], a.text, b.text))
    assert f"finds {'AB'[choice]} " in page and first.chosen is (a, b)[choice]
    assert "<script" not in page and "http" not in page
    assert repr(labeller) == f"<labeller of {len(labeller.pairs)} pairs, 0 labelled>"


def test_answers_are_shown_as_text_and_not_as_html():
    (request, a, b), *_ = pairs()
    odd = Labeller([(request, written(BOOK, request, "<b>Bold</b> & <script>x</script>"), b)])
    shown = odd._repr_html_() + "".join(p.value for p in parts(odd)[:3])
    assert "<script" not in shown and "&lt;b&gt;Bold&lt;/b&gt; &amp;" in shown


def test_who_differs_from_you_is_listed_and_counted(labeller):
    judge = [labeller.annotator.score(r, a.text) - labeller.annotator.score(r, b.text) for r, a, b in labeller.pairs]
    same = [1 - 2 * choice for choice, _ in labeller.choices]
    head, *lines, last = labeller.beside({"same": same, "judge": judge}).splitlines()
    differ = [str(i + 1) for i, (gap, own) in enumerate(zip(judge, same, strict=True)) if gap * own < 0]
    assert head.split() == ["pair", "stand-in", "same", "judge"] and [line.split()[0] for line in lines] == differ
    assert last.split() == ["differ,", "of", str(len(same)), "0", str(len(differ))]
    upside_down = labeller.beside({"other": [-own for own in same]})
    assert len(upside_down.splitlines()) == len(same) + 2 and upside_down.count("*") == len(same)

    *_, for_a, for_b, _ = parts(labeller)
    for_a[0].click()  # A is much better
    for_b[3].click()  # B is hardly better
    assert len(labeller.judged) == 2 and labeller.judged == labeller.pairs[:2]
    assert labeller.choices == [(0, "significantly"), (1, "negligibly")]
    head, first, second, last = labeller.beside({"one": [1.0, 0.5], "two": [-1.0, -2.0], "three": [0, -1]}).splitlines()
    assert head.split()[1] == "you" and last.split() == ["differ,", "of", "2", "1", "1", "0"]
    assert first.split() == ["1", "A", "much", "better", "A", "*", "B", "="]
    assert second.split() == ["2", "B", "hardly", "better", "/", "unsure", "*", "A", "B", "B"]
    assert len(labeller.beside({"one": [1.0, -1.0]}).splitlines()) == 2  # nobody differs
    with pytest.raises(ValueError, match="one has 3 numbers, expected one for each of 2 pairs"):
        labeller.beside({"one": [1.0, 2.0, 3.0]})


def test_it_is_a_widget_only_where_somebody_is(labeller, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert set(labeller._repr_mimebundle_()) == {"text/plain", "text/html"}
    assert "this cell is live: run it and judge yourself" in labeller._repr_html_()
    monkeypatch.setenv("JPY_SESSION_NAME", "13-reward-models.ipynb")
    shown = labeller._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
    assert shown["model_id"] == labeller.widget().model_id


def test_errors():
    with pytest.raises(ValueError, match="got none"):
        Labeller([])
    request, a, _ = pairs()[0]
    with pytest.raises(ValueError, match="pair 0 has twice the same text"):
        Labeller([(request, a, a)])
    labeller = Labeller(pairs())
    for wrong in ((2, "better"), (0, "best")):
        with pytest.raises(ValueError, match="expected 0 or 1 and one of"):
            labeller.choose(*wrong)


def test_the_widget_is_a_widget_and_ipywidgets_is_loaded_only_for_it(labeller):
    assert isinstance(labeller.widget(), ipywidgets.VBox) and labeller.widget() is labeller.widget()
    code = "import sys, minillama.figures.labelling; print('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
