"""Everything that a release gives out, in `dist/`: `make release`.

    minillama-X.whl, minillama-X.tar.gz    the library with its data; the source distribution has the book and tests too
    minillama-book-X.zip                   the pages, to be unpacked and opened without a network
    minillama-book-X.pdf                   the same on paper
    minillama-slides-X.zip                 the slides of each part
    minillama-problem-sets-X.zip           for students, without answers
    minillama-problem-sets-teacher-X.zip   with answers, hidden tests and rubrics
    SHA256SUMS                             of all of them

Does: the same bytes for the same sources; refuses to write an incomplete release.
Does not: build the pages, PDF and slides (`make release` does, before), publish anything.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from classroom import archive

import minillama

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "_build"


def tracked() -> set[str]:
    """The files of the repository, by their paths in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return {name for name in listed.split("\0") if name}


def missing_from_wheel(wheel: Path) -> list[str]:
    """Data files that are not in the wheel, or are there with another content."""
    manifest = json.loads((ROOT / "data" / "manifest.json").read_text(encoding="utf-8"))
    with zipfile.ZipFile(wheel) as packed:
        there = {name: sha256(packed.read(name)).hexdigest() for name in packed.namelist() if "/_data/" in name}
    return [name for name, entry in manifest.items() if there.get(f"minillama/_data/{name}") != entry["sha256"]]


def missing_from_sdist(sdist: Path) -> list[str]:
    """Files of the repository that the source distribution lacks."""
    with tarfile.open(sdist) as packed:
        there = {name.partition("/")[2] for name in packed.getnames()}
    return sorted(tracked() - there)


def folder(path: Path, inside: str) -> dict[str, Path]:
    """What an archive of a folder holds: the files by their names in it."""
    files = {f"{inside}/{file.relative_to(path)}": file for file in path.rglob("*") if file.is_file()}
    if not files:
        raise ValueError(f"{path} is empty or not there; `make release` builds it first")
    return files


def release(out: Path, built: Path = BUILT) -> list[Path]:
    """Writes the release into `out`, in place of what was there, and returns its files.

    Raises:
        ValueError: if the pages, PDF, slides or problem sets are not built, or a package lacks a file.
    """
    version = minillama.__version__
    named = {name: f"minillama-{name}-{version}" for name in ("book", "slides")}
    pages = folder(built / "html", named["book"])
    slides = folder(built / "slides", named["slides"])
    single = {
        f"{named['book']}.pdf": built / "book.pdf",
        f"minillama-problem-sets-{version}.zip": built / "assignments" / "students.zip",
        f"minillama-problem-sets-teacher-{version}.zip": built / "assignments" / "teacher.zip",
    }
    if absent := [path for path in single.values() if not path.is_file()]:
        raise ValueError(f"{absent[0]} is not there; `make release` builds it first")
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", new], cwd=ROOT, check=True, capture_output=True
        )
        (wheel,), (sdist,) = new.glob("*.whl"), new.glob("*.tar.gz")
        if absent := missing_from_wheel(wheel) + missing_from_sdist(sdist):
            raise ValueError(f"the packages lack {', '.join(absent[:5])}; a release would be incomplete")
        archive(new / f"{named['book']}.zip", pages)
        archive(new / f"{named['slides']}.zip", slides)
        for name, path in single.items():
            shutil.copy(path, new / name)
        sums = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(new.iterdir())]
        (new / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(new, out)
    return sorted(out.iterdir())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out = parser.parse_args(arguments).out
    try:
        for path in release(out):
            print(f"{path.stat().st_size / 1e6:7.1f} MB  {path}")
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
