"""Debian's Chromium, driven by Playwright: for the tests in `tests/browser` and for `tools/pdf.py`.

Does: starts the installed browser without a window, and says when a page has set its formulas.
Does not: download a browser of its own.
"""

import shutil

from playwright.sync_api import Browser, Playwright

FLAGS = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
MATH_IS_SET = "() => !window.MathJax || (MathJax.startup?.promise && MathJax.startup.promise.then(() => true))"


def launch(playwright: Playwright) -> Browser:
    """A headless Chromium.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("this needs Debian's Chromium: apt-get install chromium")
    return playwright.chromium.launch(executable_path=path, args=FLAGS)
