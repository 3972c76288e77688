"""What `make release` gives out is complete, and what `make colab` rehearses is what a reader of Colab meets."""

import subprocess
import sys
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import colab
import pytest
import release

import minillama

ROOT = Path(__file__).resolve().parents[1]
VERSION = minillama.__version__


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A release with small stand-ins for the pages, slides and problem sets."""
    built = tmp_path_factory.mktemp("built")
    for name in (
        "html/index.html",
        "html/_static/book.css",
        "slides/part-1.html",
        "assignments/students.zip",
        "book.pdf",
    ):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(name)
    (built / "assignments" / "teacher.zip").write_text("with answers")
    out = tmp_path_factory.mktemp("dist")
    (out / "of-an-earlier-release.whl").write_text("old")
    release.release(out, built)
    return built, out


def test_a_release_has_every_part_and_its_sums(released):
    _, out = released
    parts = ("book", "slides", "problem-sets", "problem-sets-teacher")
    expected = {f"minillama-{part}-{VERSION}.zip" for part in parts}
    expected |= {
        f"minillama-{VERSION}-py3-none-any.whl",
        f"minillama-{VERSION}.tar.gz",
        f"minillama-book-{VERSION}.pdf",
    }
    assert {path.name for path in out.iterdir()} == expected | {"SHA256SUMS"}
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: sha256((out / name).read_bytes()).hexdigest() for name in expected}
    pages = zipfile.ZipFile(out / f"minillama-book-{VERSION}.zip")
    assert pages.read(f"minillama-book-{VERSION}/_static/book.css") == b"html/_static/book.css"


def test_the_wheel_has_the_data_and_the_source_has_everything(released, tmp_path):
    _, out = released
    wheel, sdist = out / f"minillama-{VERSION}-py3-none-any.whl", out / f"minillama-{VERSION}.tar.gz"
    assert release.missing_from_wheel(wheel) == [] == release.missing_from_sdist(sdist)
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(tmp_path / "cut.whl", "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, b"changed" if name.endswith("page.txt") else whole.read(name))
    assert release.missing_from_wheel(tmp_path / "cut.whl") == ["page.txt"]
    with tarfile.open(tmp_path / "cut.tar.gz", "w:gz") as cut:
        cut.add(ROOT / "README.md", f"minillama-{VERSION}/README.md")
    assert {"Makefile", "data/page.txt"} <= set(release.missing_from_sdist(tmp_path / "cut.tar.gz"))


def test_the_wheel_built_from_the_source_distribution_is_the_same(released, tmp_path):
    _, out = released
    with tarfile.open(out / f"minillama-{VERSION}.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=tmp_path / f"minillama-{VERSION}", check=True, capture_output=True)
    name = f"minillama-{VERSION}-py3-none-any.whl"
    assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_what_is_not_built_is_named_and_nothing_is_written(released, tmp_path):
    with pytest.raises(ValueError, match="slides is empty or not there"):
        (tmp_path / "html").mkdir()
        (tmp_path / "html" / "index.html").write_text("page")
        release.release(tmp_path / "dist", tmp_path)
    assert not (tmp_path / "dist").exists()


def test_git_takes_the_repository_s_address_from_the_checkout(tmp_path):
    address = f"https://github.com/{colab.declared()}"
    variables = colab.environment(ROOT, tmp_path)
    seen = subprocess.run(["git", "ls-remote", address, "HEAD"], env=variables, capture_output=True, text=True)
    here = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{here.stdout.strip()}\tHEAD" in seen.stdout.splitlines(), seen.stderr


def test_the_rehearsal_starts_with_pinned_versions_and_without_minillama():
    pinned = colab.pinned(colab.BROUGHT)
    assert [name.partition("==")[0] for name in pinned] == list(colab.BROUGHT) and "minillama" not in colab.BROUGHT
    assert "PYTHONPATH" not in colab.environment(ROOT, Path("/empty"))


def test_a_notebook_that_is_not_there_is_named(capsys):
    assert colab.main(["book/no-such.ipynb"]) == 2
    assert "no notebook book/no-such.ipynb" in capsys.readouterr().err
