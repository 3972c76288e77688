"""The built book as a reader meets it: every page on a phone, and each thing that moves, by mouse and by keyboard.

Each page that `open_page` opens must also have asked only this machine for files and have logged no error.
"""

import re

import pytest
from ear import GENERATED, Ear
from playwright.sync_api import Locator, Page, expect
from test_book import PAGES

CHAPTER = "book/1-model/05-attention.html"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
RAW_MATH = re.compile(r"\$\$|\\\(|\\\[|\\begin\{|\\frac|\\operatorname")

# What a reader sees as running text: no code, no formulas, no scripts.
RUNNING_TEXT = """() => {
  const copy = document.querySelector("main").cloneNode(true);
  copy.querySelectorAll("pre, code, script, noscript, style, mjx-container").forEach(node => node.remove());
  return copy.textContent;
}"""

WIDTHS = "[document.documentElement.scrollWidth, innerWidth]"  # the second grows where a phone would zoom out

# Boxes that stick out of the window, those aside that scroll inside themselves.
STICKING_OUT = """() => {
  const scrolls = node => node && node !== document.body &&
    (/auto|scroll|hidden|clip/.test(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  return [...document.querySelectorAll("main *")]
    .filter(node => node.getBoundingClientRect().right > screen.width + 1 && !scrolls(node))
    .map(node => node.tagName + "." + node.className).slice(0, 5);
}"""


@pytest.fixture
def chapter(open_page) -> Page:
    return open_page(CHAPTER)


def tab_until(page: Page, target: Locator, most: int = 400) -> None:
    """Press Tab until `target` has the focus, as a reader without a mouse does."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    pytest.fail(f"{most} times Tab did not lead to {target}")


def focus_ring(target: Locator) -> str:
    return target.evaluate(
        "node => { const s = getComputedStyle(node); return s.outlineStyle + ' ' + s.outlineWidth; }"
    )


# --- every page -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [*PAGES, *GENERATED])
def test_page_is_whole_on_a_phone(open_page, built_book, file):
    page = open_page(f"{file}.html", **PHONE)
    assert page.evaluate(WIDTHS) == [390, 390]
    assert page.evaluate(STICKING_OUT) == []
    written = len(re.findall(r'class="math[ "]', (built_book / f"{file}.html").read_text(encoding="utf-8")))
    assert page.locator("article mjx-container").count() == written
    assert page.locator("mjx-merror, [data-mml-node=merror]").count() == 0
    assert RAW_MATH.findall(page.evaluate(RUNNING_TEXT)) == []


def test_the_ear_hears_a_foreign_request_and_an_error(chromium, site):
    context = chromium.new_context()
    ear = Ear(context)
    context.route("http://elsewhere.invalid/*", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{site}/book/intro.html")
    assert ear.remote_requests() == ear.complaints == []
    page.evaluate(
        "new Image().src = 'http://elsewhere.invalid/x.png'; console.error('oh'); setTimeout(() => nothing(), 0)"
    )
    page.evaluate("fetch('/no-such-file')")
    page.wait_for_timeout(300)
    context.close()
    assert ear.remote_requests() == ["http://elsewhere.invalid/x.png"]
    heard = "\n".join(ear.complaints)
    assert "oh" in heard and "nothing is not defined" in heard and "404" in heard


def test_the_phone_check_sees_a_box_that_sticks_out(open_page):
    page = open_page("book/intro.html", **PHONE)
    page.evaluate("document.querySelector('article p').style.minWidth = '600px'")
    assert page.evaluate(STICKING_OUT)
    assert page.evaluate(WIDTHS) != [390, 390]


# --- finding one's way ----------------------------------------------------------------------------------------------


def test_search_finds_a_term(open_page):
    page = open_page("book/intro.html")
    page.keyboard.press("Control+k")
    field = page.locator("#search-input, .bd-search input[type=search]").first
    expect(field).to_be_focused()
    page.keyboard.type("grouped-query")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=grouped-query*")
    found = page.locator("#search-results li a")
    expect(found.first).to_be_visible()
    expect(page.locator("#search-results > p, .search-summary")).to_contain_text(
        re.compile(r"found \d+ page|\d+ result")
    )
    targets = [link.get_attribute("href") for link in found.all()]
    assert any("05-attention.html" in target for target in targets), targets
    page.locator("#search-results li a[href*='05-attention']").first.click()
    expect(page.locator("article h1")).to_contain_text("attention", ignore_case=True)


def test_skip_link_leads_past_the_menu(open_page):
    page = open_page(CHAPTER)
    page.keyboard.press("Tab")
    link = page.locator(":focus")
    expect(link).to_have_text("Skip to main content")
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('#main-content').contains(document.activeElement)")


def test_menu_opens_and_closes_on_a_phone(open_page):
    page = open_page(CHAPTER, **PHONE)
    entry = page.locator(".bd-sidebar-primary a[href$='06-transformer.html']")
    expect(entry).not_to_be_in_viewport()
    page.locator("button.primary-toggle").click()
    entry.scroll_into_view_if_needed()
    expect(entry).to_be_in_viewport()
    entry.click()
    expect(page).to_have_url(re.compile("06-transformer"))


def test_a_citation_leads_to_its_entry(chapter):
    link = chapter.locator("article a[href*='references.html#']").first
    place = link.get_attribute("href").partition("#")[2]
    link.click()
    chapter.wait_for_url("**/references.html#*")
    expect(chapter.locator(f"#{place}")).to_be_in_viewport()


# --- things that move -----------------------------------------------------------------------------------------------


def test_quiz_answers_a_mouse(chapter):
    field = chapter.locator(".mlq fieldset").first
    reply = field.locator("[role=status][aria-live=polite]")
    field.get_by_role("button").click()
    expect(reply).to_have_text("Choose an answer first.")
    for right in ("no", "yes"):
        option = field.locator(f"input[data-right={right}]").first
        option.check()
        field.get_by_role("button").click()
        expect(reply).to_contain_text("✓ Right." if right == "yes" else "✗ Not quite.")
        told = chapter.evaluate(
            "html => { const d = document.createElement('div'); d.innerHTML = html; return d.textContent }",
            option.get_attribute("data-reply"),
        )
        expect(reply).to_contain_text(told)


def test_quiz_answers_the_keyboard(chapter):
    field = chapter.locator(".mlq fieldset").first
    options, button, reply = field.locator("input"), field.get_by_role("button"), field.locator("[aria-live]")
    right = options.evaluate_all("nodes => nodes.findIndex(node => node.dataset.right == 'yes')")
    chapter.locator(".mlq").evaluate("node => { node.tabIndex = -1; node.focus(); }")
    tab_until(chapter, options.first, most=3)
    chapter.keyboard.press("Space")
    for position in range(options.count()):
        expect(options.nth(position)).to_be_checked()
        tab_until(chapter, button, most=1)
        assert focus_ring(button) == "solid 3px"
        chapter.keyboard.press("Enter" if position % 2 else "Space")
        expect(reply).to_contain_text("✓ Right." if position == right else "✗ Not quite.")
        chapter.keyboard.press("Shift+Tab")
        expect(options.nth(position)).to_be_focused()
        assert focus_ring(options.nth(position)) == "solid 3px"
        chapter.keyboard.press("ArrowDown")


def frame_shown(figure: Locator) -> tuple[str, str]:
    """Alt text of the one frame that is shown, and what the slider says it reads."""
    shown = [image.get_attribute("alt") for image in figure.locator(".mlf-frame img").all() if image.is_visible()]
    assert len(shown) == 1
    said = figure.locator("output").inner_text()
    assert figure.locator("input").get_attribute("aria-valuetext") == said
    assert figure.locator(".mlf-on").get_attribute("data-value") == said
    return shown[0], said


def test_slider_moves_by_keyboard(chapter):
    figure = chapter.locator("figure.mlf").first
    handle = figure.get_by_role("slider")
    handle.focus()
    last = int(handle.get_attribute("max"))
    chapter.keyboard.press("Home")
    seen = [frame_shown(figure)]
    for _ in range(last):
        chapter.keyboard.press("ArrowRight")
        seen.append(frame_shown(figure))
    assert len(set(seen)) == last + 1 >= 2
    chapter.keyboard.press("End")
    assert frame_shown(figure) == seen[-1]
    assert focus_ring(handle) == "solid 3px"


def test_slider_moves_by_pointer(chapter):
    figure = chapter.locator("figure.mlf").first
    handle = figure.get_by_role("slider")
    handle.scroll_into_view_if_needed()
    before = frame_shown(figure)
    box = handle.bounding_box()
    chapter.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    after = frame_shown(figure)
    assert after != before
    chapter.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    chapter.mouse.down()
    chapter.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2, steps=8)
    chapter.mouse.up()
    assert frame_shown(figure) not in (after,)
    assert handle.input_value() == "0"


def test_solution_unfolds_by_keyboard(chapter):
    solution = chapter.locator(".solution.toggle").first
    button, text = solution.locator("button.toggle-button"), solution.locator("section p").first
    expect(text).to_be_hidden()
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(button).to_have_attribute("aria-label", re.compile("Show or hide: Solution to Exercise"))
    button.focus()
    chapter.keyboard.press("Shift+Tab")
    chapter.keyboard.press("Tab")
    expect(button).to_be_focused()
    assert focus_ring(button).startswith("solid")
    chapter.keyboard.press("Enter")
    expect(text).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    chapter.keyboard.press("Space")
    expect(text).to_be_hidden()


def test_a_link_in_a_folded_title_is_a_link(chapter):
    solution = chapter.locator(".solution.toggle").first
    solution.locator(".admonition-title a").click()
    expect(chapter).to_have_url(re.compile("#"))
    expect(solution.locator("section p").first).to_be_hidden()


def test_folded_code_and_answers_unfold_by_keyboard(chapter):
    for folded in (chapter.locator("details.hide").first, chapter.locator("details.mlq-key")):
        summary = folded.locator("summary").first
        summary.focus()
        expect(folded).not_to_have_attribute("open", "")
        chapter.keyboard.press("Enter")
        expect(folded).to_have_attribute("open", "")


def test_copy_button_copies_the_code(open_page, site):
    page = open_page(CHAPTER, permissions=["clipboard-read", "clipboard-write"])
    block = page.locator(".cell_input div.highlight").first
    button = block.locator("button.copybtn")
    button.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(button).to_be_focused()
    expect(button).to_have_css("opacity", "1")
    page.keyboard.press("Enter")
    page.wait_for_function("navigator.clipboard.readText().then(text => text.length > 0)")
    assert page.evaluate("navigator.clipboard.readText()").strip() == block.locator("pre").inner_text().strip()


# --- light and dark -------------------------------------------------------------------------------------------------


def test_dark_mode_follows_the_system_and_the_button(open_page):
    page = open_page(CHAPTER, color_scheme="dark")
    theme = page.locator("html")
    expect(theme).to_have_attribute("data-theme", "dark")
    seen = set()
    for _ in range(3):
        page.locator("button.theme-switch-button").click()
        seen.add(theme.get_attribute("data-theme"))
    assert seen == {"light", "dark"}
    while theme.get_attribute("data-theme") != "light":
        page.locator("button.theme-switch-button").click()
    page.reload()
    expect(theme).to_have_attribute("data-theme", "light")


def test_figures_keep_white_paper_in_the_dark(open_page):
    page = open_page(CHAPTER, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    pictures = page.locator(".cell_output img").all()
    assert len(pictures) >= 3
    for picture in pictures:
        expect(picture).to_have_css("background-color", "rgb(255, 255, 255)")
        expect(picture).to_have_css("filter", "none")


# --- without a server, without scripts ------------------------------------------------------------------------------


def test_the_book_opens_from_a_folder(open_page, built_book):
    page = open_page((built_book / CHAPTER).as_uri(), listen=False)
    assert page.locator("article mjx-container").count() > 50
    assert page.evaluate(
        "document.fonts.ready.then(fonts => [...fonts].some(f => /MJX/.test(f.family) && f.status == 'loaded'))"
    )
    assert all(
        page.locator(".cell_output img").evaluate_all("nodes => nodes.map(n => n.complete && n.naturalWidth > 0)")
    )
    figure = page.locator("figure.mlf").first
    before = frame_shown(figure)
    figure.get_by_role("slider").focus()
    page.keyboard.press("End")
    assert frame_shown(figure) != before
    page.keyboard.press("Control+k")
    page.keyboard.type("rotary")
    page.keyboard.press("Enter")
    expect(page.locator("#search-results li a[href*='04-rope.html']").first).to_be_visible()


def test_without_scripts_nothing_is_lost(open_page):
    page = open_page(CHAPTER, listen=False, java_script_enabled=False)  # refused scripts are failed requests
    figure = page.locator("figure.mlf").first
    frames = figure.locator(".mlf-frame")
    assert frames.count() >= 2
    for frame in frames.all():
        expect(frame.locator("img")).to_be_visible()
        expect(frame.locator(".mlf-value")).to_be_visible()
    expect(figure.get_by_role("slider")).to_be_hidden()
    quiz = page.locator(".mlq")
    expect(quiz.get_by_role("button", name="Check")).to_have_count(0)
    quiz.locator("summary").click()
    expect(quiz.locator("details li").first).to_be_visible()
    expect(page.locator(".solution p:not(.admonition-title)").first).to_be_visible()
    expect(page.locator("article")).to_have_css("color", re.compile("rgb"))
    assert page.evaluate("getComputedStyle(document.querySelector('a.headerlink')).color") != "rgb(0, 0, 238)"
