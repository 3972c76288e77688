"""Serve MathJax from the book's own pages, so that formulas show with the network closed.

MathJax comes from the installed package django-static-mathjax (Apache-2.0, MathJax 3.2.2), not from this repository.

Does: copies the one script, its web fonts and its TeX extensions into `_static/mathjax`.
Does not: accessibility explorers, other input formats; the package holds them, the pages do not ask for them.
"""

import importlib.util
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

SCRIPT = "tex-mml-chtml.js"
FOLDERS = [
    "output/chtml/fonts",
    "input/tex/extensions",
]  # fonts; extensions that MathJax loads when a formula needs one


def mathjax_folder() -> Path:
    """Folder `es5` of the MathJax that django-static-mathjax installed."""
    found = importlib.util.find_spec("mathjax")
    folder = Path(found.origin).parent / "static" / "mathjax" / "es5" if found and found.origin else None
    if folder is None or not (folder / SCRIPT).is_file():
        raise ExtensionError("MathJax is not installed: pip install 'django-static-mathjax>=3.2,<4'")
    return folder


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the script and its fonts into the built book."""
    if exception or app.builder.format != "html":
        return
    source, target = mathjax_folder(), Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / SCRIPT, target / SCRIPT)
    for folder in FOLDERS:
        shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.config.mathjax_path = f"mathjax/{SCRIPT}"
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
