"""Write the repository's address everywhere it stands: `set_repository.py https://github.com/me/book`.

`[project.urls]` in pyproject.toml is the source. The README, CITATION.cff, `_config.yml`, the book's pages and the
first cell of each notebook carry copies, since none of them can read it.

Does: changes all of them, and finds a copy that differs from the source (`strays`, which a test calls).
Does not: other hosts than GitHub; the Colab button needs it.
"""

import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/([\w-]+/[\w.-]*[\w-])")
# Where an address can only be this repository's own; a link to another project is written otherwise.
OWN_PLACES = re.compile(
    r"""(?: git\+https://github\.com/              # pip install
          | git[ ]clone[ ]https://github\.com/
          | colab\.research\.google\.com/github/
          | repository-code:\ "?https://github\.com/
          | ^\s+url:\ https://github\.com/         # _config.yml
          | ^Repository\ =\ "https://github\.com/
        )(?P<slug>[\w-]+/[\w.-]*[\w-])""",
    re.VERBOSE | re.MULTILINE,
)
SUFFIXES = {".cff", ".ipynb", ".md", ".py", ".svg", ".toml", ".yml"}
SKIPPED = {".git", ".venv", "_build", ".ipynb_checkpoints"}


def slug(address: str) -> str:
    """The "owner/name" of a GitHub address.

    Raises:
        ValueError: if it is not the address of a GitHub repository.
    """
    found = ADDRESS.fullmatch(address.strip().removesuffix("/").removesuffix(".git"))
    if not found:
        raise ValueError(
            f"{address!r} is not the address of a repository; it should look like https://github.com/me/book"
        )
    return found[1]


def declared() -> str:
    """The "owner/name" that `[project.urls]` declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return slug(project["urls"]["Repository"])


def carriers() -> list[Path]:
    """The text files that may hold the address."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - SKIPPED)
        found += [Path(folder, name) for name in sorted(names) if Path(name).suffix in SUFFIXES]
    return found


def strays() -> list[str]:
    """Lines "file: owner/name", one for each copy that differs from the declared address."""
    wanted = declared()
    return [
        f"{path.relative_to(ROOT)}: {found['slug']}"
        for path in carriers()
        for found in OWN_PLACES.finditer(path.read_text(encoding="utf-8"))
        if found["slug"].removesuffix(".git") != wanted
    ]


def change(address: str) -> list[str]:
    """Put `address` in the place of the declared one; return the names of the files that changed."""
    old, new = declared(), slug(address)
    pattern = re.compile(
        rf"(?<=github\.com/){re.escape(old)}(?![\w-])|(?<=google\.com/github/){re.escape(old)}(?![\w-])"
    )
    changed = []
    for path in carriers():
        text = path.read_text(encoding="utf-8")
        if (replaced := pattern.sub(new, text)) != text:
            path.write_text(replaced, encoding="utf-8")
            changed.append(str(path.relative_to(ROOT)))
    return changed


if __name__ == "__main__":
    try:
        print("\n".join(change(sys.argv[1])) or "nothing to change")
    except ValueError as error:
        sys.exit(f"make repository: {error}")
