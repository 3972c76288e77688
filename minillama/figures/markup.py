"""Small pieces shared by the interactive figures: an object that shows HTML, and text with code in it.

Does: hand a notebook HTML or Markdown without importing IPython; turn `backticks` into `<code>`.
Does not: read any other Markdown; everything else is escaped and shown as typed.
"""

import html
import re


class Displayable:
    """HTML for a notebook, with a short text for a terminal."""

    def __init__(self, page: str, text: str):
        self.page = page
        self.text = text

    def _repr_html_(self) -> str:
        return self.page

    def __repr__(self) -> str:
        return self.text


def inline_code(text: str) -> str:
    """Escape a text for HTML and set what stands in `backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
