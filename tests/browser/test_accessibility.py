"""No page breaks a rule of axe-core, in light and in dark mode.

axe-core 4.12 (MPL-2.0) comes with the package axe-playwright-python; it checks what WCAG 2.2 A and AA let a program
check, and some good practice. Before it looks, everything folded is opened: it ignores what is hidden.
"""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from ear import GENERATED
from playwright.sync_api import Page, expect
from test_book import PAGES

UNFOLD = """() => {
  document.querySelectorAll("details").forEach(details => { details.open = true; });
  document.querySelectorAll(".toggle-hidden .toggle-button").forEach(button => button.click());
}"""

# axe-core compares every element with every other that may lie behind it: minutes on a page with ten thousand words of
# highlighted code. Of code and of signatures one word of each kind stays, at its place; a formula keeps its box; of the
# library's page, 800 entries made by one template, the first 40 stay.
THIN = """() => {
  const seen = new Set(), paths = new Map([[document.body, ""]]);
  const path = node => {
    if (!paths.has(node)) paths.set(node, path(node.parentElement) + ">" + node.className);
    return paths.get(node);
  };
  const prune = node => {
    [...node.children].forEach(prune);
    if (node.children.length || node.id || !["SPAN", "EM", "CODE"].includes(node.tagName)) return;
    if (seen.has(path(node))) node.replaceWith(node.textContent); else seen.add(path(node));
  };
  document.querySelectorAll(".highlight, dt.sig").forEach(prune);
  [...document.querySelectorAll("dl.py")].slice(40).forEach(entry => entry.replaceChildren());
  const formulas = [...document.querySelectorAll("mjx-math")].slice(3);
  const boxes = formulas.map(formula => formula.getBoundingClientRect());
  formulas.forEach((formula, i) => {
    formula.style.cssText = `display: inline-block; width: ${boxes[i].width}px; height: ${boxes[i].height}px`;
    formula.replaceChildren("x");
  });
  [...document.querySelectorAll("mjx-assistive-mml > math")].slice(3).forEach(math => math.replaceChildren());
}"""


def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds on the page as it is: all its rules, or those named."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = page.evaluate("options => axe.run(options)", {"resultTypes": ["violations"], "preload": False, **only})
    return [
        f"{violation['impact']}: {violation['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def everything_shown(page: Page) -> Page:
    page.evaluate(UNFOLD)
    page.wait_for_timeout(200)  # what the click unfolds is laid out, and marked if it scrolls
    assert page.locator(".toggle-hidden").count() == 0
    page.evaluate(THIN)
    return page


@pytest.mark.parametrize("file", [*PAGES, *GENERATED])
def test_page_breaks_no_rule(open_page, file):
    page = everything_shown(open_page(f"{file}.html", color_scheme="light"))
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert violations(page) == []
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)  # colours that fade have arrived
    assert violations(page, "color-contrast", "link-in-text-block") == []


def test_no_rule_is_broken_on_a_phone_with_the_menu_open(open_page):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    page = everything_shown(open_page("book/4-family/22-real-weights.html", **phone))
    assert violations(page) == []
    page.locator("button.primary-toggle").click()
    expect(page.locator(".bd-sidebar-primary a[href$='06-transformer.html']")).to_be_in_viewport()
    assert violations(page) == []


def test_no_rule_is_broken_with_the_search_dialog_open(open_page):
    page = open_page("book/intro.html")
    page.keyboard.press("Control+k")
    expect(page.locator("input[type=search]:focus")).to_be_visible()
    assert violations(page) == []


# --- the check can fail ---------------------------------------------------------------------------------------------

FAULTS = {
    "color-contrast": '<p style="color: #999; background: #fff">pale</p>',
    "image-alt": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">',
    "button-name": "<button></button>",
    "label": '<input type="range">',
    "link-name": '<a href="#nowhere"></a>',
    "aria-required-children": '<div role="list"><a href="#x">no item</a></div>',
    "scrollable-region-focusable": '<div style="height: 2em; overflow: auto"><p>too</p><p>high</p><p>a box</p></div>',
}


def rules(found: list[str]) -> set[str]:
    return {line.split(": ")[1] for line in found}


def test_planted_faults_are_seen(open_page):
    page = everything_shown(open_page("book/how-to-use.html"))
    page.locator("article").evaluate(
        "(node, html) => node.insertAdjacentHTML('beforeend', html)", "".join(FAULTS.values())
    )
    assert set(FAULTS) <= rules(violations(page))


def test_faults_in_folded_text_and_in_code_are_seen_in_the_dark(open_page):
    page = open_page("book/1-model/05-attention.html", color_scheme="dark")
    page.locator(".solution p").last.evaluate(
        "node => { node.style.color = '#444'; node.textContent = 'hardly seen'; }"
    )
    page.add_style_tag(content=".cell_input .highlight .k { color: #333 !important; }")
    found = violations(everything_shown(page), "color-contrast")
    assert any("hardly seen" in line for line in found) and any('class="k"' in line for line in found)
