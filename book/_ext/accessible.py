"""Mend what the theme leaves undone for people who do not use a mouse, a large screen or good eyes.

Does: puts the logo's link into a landmark; makes the list of references a list for screen readers; lets the Tab key
pass over formulas (the menu of MathJax makes each one a stop: a hundred on some pages); follows the system's light or
dark mode from the first moment; adds `_static/accessible.js`, which makes sideways scrolling reachable by keyboard.
Does not: change colours; those are in `_static/book.css`.
Source: axe-core's rules for WCAG 2.2 AA, which `make test-browser` runs on every page.
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.writers.html5 import HTML5Translator

# The theme leaves the mode empty on a first visit, draws the page without colours and then complains in the console.
MODE_SCRIPT = """(root => {
  root.dataset.mode ||= "auto";
  root.dataset.theme ||= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
})(document.documentElement);"""


def configure(app: Sphinx, config: Config) -> None:
    """Find the template beside this file, and keep formulas out of the order of the Tab key."""
    config.templates_path.insert(0, str(Path(__file__).parent / "templates"))
    settings = (config.mathjax3_config or {}) | {}
    options = settings.setdefault("options", {}).setdefault("menuOptions", {}).setdefault("settings", {})
    options["inTabOrder"] = False
    config.mathjax3_config = settings


def put_logo_in_landmark(app: Sphinx, pagename: str, template: str, context: dict, doctree: nodes.document | None):
    """Use our template where the theme asks for its logo."""
    if context.get("sidebars"):
        context["sidebars"] = [{"navbar-logo.html": "home-link.html"}.get(name, name) for name in context["sidebars"]]


def visit_citation(translator: HTML5Translator, node: nodes.citation) -> None:
    """As docutils does it, but an entry of a list is a list item: the role docutils gives is withdrawn from ARIA."""
    HTML5Translator.visit_citation(translator, node)
    translator.body[-1] = translator.body[-1].replace('role="doc-biblioentry"', 'role="listitem"')


def depart_citation(translator: HTML5Translator, node: nodes.citation) -> None:
    HTML5Translator.depart_citation(translator, node)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_js_file(None, body=MODE_SCRIPT, priority=100)
    app.add_js_file("accessible.js", loading_method="defer")
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    app.connect("config-inited", configure, priority=400)  # before MathJax's settings are read
    app.connect("html-page-context", put_logo_in_landmark, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
