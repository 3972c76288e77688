"""Build one page of the book, for its author: `page.py book/1-model/04-rope.ipynb`.

The page is built with the glossary and the bibliography beside it, in a folder of its own, with warnings allowed:
links to pages that are not built here stay unresolved. `make html` is the judge.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPANIONS = ["book/appendix/glossary", "book/appendix/references"]


def build_page(file: str) -> Path:
    """Build `file` (a path below the repository's root) and return its HTML page.

    Raises:
        SystemExit: if there is no such page, or the build fails.
    """
    source = (ROOT / file).resolve()
    if not file or source.suffix not in (".md", ".ipynb") or not source.is_file():
        sys.exit(f"make page: no page {file!r}; use FILE=book/1-model/04-rope.ipynb")
    document = source.relative_to(ROOT).with_suffix("").as_posix()
    output = ROOT / "_build" / "page" / source.stem
    output.mkdir(parents=True, exist_ok=True)
    companions = [c for c in COMPANIONS if (ROOT / f"{c}.md").is_file() and c != document]
    toc = output / "_toc.yml"
    toc.write_text(
        f"format: jb-book\nroot: {document}\n"
        + ("chapters:\n" if companions else "")
        + "".join(f"  - file: {c}\n" for c in companions)
    )
    jupyter_book = Path(sys.executable).parent / "jupyter-book"
    command = [jupyter_book, "build", ROOT, "--toc", toc, "--path-output", output, "--all", "--quiet"]
    subprocess.run(command, check=True)
    return output / "_build" / "html" / f"{document}.html"


if __name__ == "__main__":
    print(build_page(sys.argv[1]))
