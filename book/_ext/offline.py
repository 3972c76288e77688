"""Keep the built book whole with the network closed: formulas from its own folder, no script that a page would fetch.

MathJax comes from the installed package django-static-mathjax (Apache-2.0, MathJax 3.2.2), not from this repository.

Does: copies MathJax's one script, its web fonts and its TeX extensions into `_static/mathjax`; takes out of each page
what sphinx-thebe adds (Jupyter Book always loads it): a script from a CDN, for live cells that the book does not offer.
Does not: MathJax's accessibility explorers and other input formats; the package holds them, the pages do not ask.
"""

import importlib.util
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

SCRIPT = "tex-mml-chtml.js"
FOLDERS = ["output/chtml/fonts", "input/tex/extensions"]  # MathJax loads an extension when a formula needs it


def mathjax_folder() -> Path:
    """Folder `es5` of the MathJax that django-static-mathjax installed."""
    found = importlib.util.find_spec("mathjax")
    folder = Path(found.origin).parent / "static" / "mathjax" / "es5" if found and found.origin else None
    if folder is None or not (folder / SCRIPT).is_file():
        raise ExtensionError("MathJax is not installed: pip install 'django-static-mathjax>=3.2,<4'")
    return folder


def install_mathjax(target: Path) -> None:
    """Copy the script, the fonts and the extensions into a folder."""
    source = mathjax_folder()
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / SCRIPT, target / SCRIPT)
    for folder in FOLDERS:
        shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Give the built book its MathJax."""
    if exception or app.builder.format != "html":
        return
    install_mathjax(Path(app.outdir) / "_static" / "mathjax")


def drop_thebe_settings(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Take sphinx-thebe's settings out of a page's text."""
    for node in list(doctree.findall(nodes.raw)):
        if "text/x-thebe-config" in node.astext():
            node.parent.remove(node)


def drop_thebe_files(app: Sphinx, pagename: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Take sphinx-thebe's scripts and styles out of a page's head."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context[kind]
            if "thebe" not in f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', '')}".lower()
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.config.mathjax_path = f"mathjax/{SCRIPT}"
    app.connect("build-finished", copy_mathjax)
    app.connect("doctree-resolved", drop_thebe_settings, priority=900)  # after sphinx-thebe's own handler
    app.connect("html-page-context", drop_thebe_files, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
