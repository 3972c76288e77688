"""The decks of slides: nothing sticks out, formulas are set, no network is needed, axe-core finds nothing serious."""

import pytest
import slides
from test_accessibility import violations

WIDTH, HEIGHT = 1280, 720
# For each slide: how far its content reaches to the right and down, in the slide's own units, with all steps shown.
REACH = """() => Reveal.getSlides().map(slide => {
  const {h, v} = Reveal.getIndices(slide);
  Reveal.slide(h, v, 99);
  const frame = slide.getBoundingClientRect(), scale = Reveal.getScale();
  const shown = [...slide.querySelectorAll("*")].filter(e => !e.closest("aside, mjx-assistive-mml, style, script"));
  const boxes = shown.map(e => e.getBoundingClientRect()).filter(box => box.width && box.height);
  const right = (Math.max(...boxes.map(box => box.right)) - frame.left) / scale;
  const bottom = (Math.max(...boxes.map(box => box.bottom)) - frame.top) / scale;
  return {place: `${h}/${v} ${slide.querySelector("h2")?.textContent}`, right, bottom};
})"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The decks, newly made."""
    return slides.make(tmp_path_factory.mktemp("slides"))


@pytest.mark.parametrize("number", range(len(slides.parts())))
def test_every_slide_of_a_deck_fits_and_needs_no_network(decks, number, open_page):
    page = open_page(decks[number].as_uri(), viewport={"width": WIDTH, "height": HEIGHT})
    page.wait_for_function("Reveal.isReady()")
    found = page.evaluate(REACH)
    assert len(found) > 100
    assert [slide for slide in found if slide["right"] > WIDTH + 2 or slide["bottom"] > HEIGHT + 2] == []
    assert page.locator("mjx-container").count() > 20 and page.locator("mjx-merror").count() == 0
    for n in range(0, len(found), len(found) // 4):  # a slide is seen by axe-core only when it is shown
        page.evaluate("n => { const {h, v} = Reveal.getIndices(Reveal.getSlides()[n]); Reveal.slide(h, v, 99); }", n)
        page.wait_for_timeout(900)  # the move to the slide is over
        assert [line for line in violations(page) if line.startswith(("serious", "critical"))] == []


def test_what_sticks_out_of_a_slide_is_seen(decks, open_page):
    page = open_page(decks[0].as_uri(), viewport={"width": WIDTH, "height": HEIGHT})
    page.wait_for_function("Reveal.isReady()")
    page.evaluate("Reveal.getSlides()[3].insertAdjacentHTML('beforeend', '<pre style=\"height: 900px\">tall</pre>')")
    assert [slide["bottom"] > HEIGHT for slide in page.evaluate(REACH)[2:5]] == [False, True, False]
