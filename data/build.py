"""Make what `data/` holds, and write `manifest.json`, which says what each file is and its SHA-256.

    python data/build.py

Does: describes the files that are written by hand, and hashes every file.
Does not: download anything.
"""

import hashlib
import json
from pathlib import Path

DATA = Path(__file__).resolve().parent
DESCRIPTIONS = {
    "page.txt": {
        "what": "A short story of the village, written for this book; the text that chapters 1 to 7 read.",
        "recipe": "written by hand",
        "licence": "CC-BY-4.0",
    },
}
NOT_DATA = {"build.py", "manifest.json", "README.md"}


def data_files() -> list[str]:
    """Names of all files below `data/` that a chapter may load, sorted."""
    found = (path for path in DATA.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(name for path in found if (name := path.relative_to(DATA).as_posix()) not in NOT_DATA)


def manifest() -> dict[str, dict[str, str | int]]:
    """The manifest of the files as they are now.

    Raises:
        KeyError: if a file has no description here, or a described file is not there.
    """
    names = data_files()
    if differing := set(names) ^ set(DESCRIPTIONS):
        raise KeyError(
            f"files and DESCRIPTIONS in {Path(__file__).name} differ by {sorted(differing)}; add or remove them"
        )
    contents = {name: (DATA / name).read_bytes() for name in names}
    return {
        name: {**DESCRIPTIONS[name], "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for name, raw in contents.items()
    }


if __name__ == "__main__":
    text = json.dumps(manifest(), indent=2) + "\n"
    (DATA / "manifest.json").write_text(text, encoding="utf-8")
    print(text, end="")
