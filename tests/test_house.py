"""The project around the library: commands, versions, data, address, licences, and pages that need no network."""

import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
import urllib.request
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import minillama
from minillama import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load_tool(path: str):
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def requirements(*groups: str) -> list[tuple[str, str]]:
    """(canonical name, minimum) of the library's dependencies and of the extras named."""
    lines = PROJECT["dependencies"] + [r for group in groups for r in PROJECT["optional-dependencies"][group]]
    return [
        (canonical(name), minimum) for name, minimum in (re.match(r"([\w.-]+)>=([\d.]+)", r).groups() for r in lines)
    ]


# --- commands -------------------------------------------------------------------------------------------------------


def make_targets() -> set[str]:
    return set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split())


def test_make_alone_lists_every_command():
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert set(re.findall(r"^  make ([a-z-]+) +\S", printed, re.M)) == make_targets()


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "book/how-to-use.md", "book/appendix/instructors.md", "data/README.md", ".ci/run"],
)
def test_commands_that_pages_name_exist(page):
    named = set(re.findall(r"(?:^\$ |^|`)make ([a-z-]+)", (ROOT / page).read_text(), re.M))
    assert named and named <= make_targets(), named - make_targets()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_paths_that_pages_name_exist(page):
    text = (ROOT / page).read_text()
    links = set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text))
    paths = set(re.findall(r"(?<![\w/.])((?:book|minillama|tests|data|tools)/[\w./-]+\.\w+)", text))
    assert links | paths and not [path for path in sorted(links | paths) if not (ROOT / path).exists()]


def test_readme_gives_each_chapter_s_time_and_memory():
    rows = re.findall(r"^\| \d+ \| \[.*?\]\((\S+?\.ipynb)\) .*\| (.*?) \|$", (ROOT / "README.md").read_text(), re.M)
    chapters = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("book/*/[0-9][0-9]-*.ipynb"))
    assert [path for path, _ in rows] == chapters
    for path, cost in rows:
        box = re.search(r"\*\*Runs in\*\* about (\d+) seconds and ([\d.]+ [GM]B)", (ROOT / path).read_text())
        assert box, f"{path}: the box should say '**Runs in** about N seconds and M GB'"
        assert cost == f"{box[1]} s, {box[2]}", path


def test_ci_runs_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "\nmake test\n" in script.read_text() and "\nmake html\n" in script.read_text()


def test_book_is_served_on_the_next_free_port(tmp_path):
    (tmp_path / "index.html").write_text("the book")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        with load_tool("tools/serve.py").open_server(str(tmp_path), taken) as server:
            assert taken < server.server_port < taken + 100
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10) as answer:
                assert answer.read() == b"the book"
            server.shutdown()


# --- versions -------------------------------------------------------------------------------------------------------


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == minillama.__version__ == citation["version"]


def test_every_dependency_is_pinned_at_or_above_its_lower_bound():
    numbers = cli.version_numbers
    wanted = requirements("book", "test", "parity", "classroom", "slides", "browser")
    assert len(wanted) > 20
    wrong = [name for name, minimum in wanted if numbers(constraints().get(name, "0")) < numbers(minimum)]
    assert not wrong, f"constraints.txt lacks these, or has them too old: {wrong}"


def test_pins_have_no_local_tag_and_the_library_pins_nothing_exactly():
    assert not [name for name, version in constraints().items() if "+" in version]
    assert not [r for r in PROJECT["dependencies"] if "==" in r]  # an exact torch would replace the one in Colab


def test_installed_versions_are_the_pinned_ones():
    names = [name for name, _ in requirements("book", "test", "parity", "classroom", "slides")]
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in names}
    assert installed == {name: constraints()[name] for name in names}


def test_environment_yml_installs_what_make_installs():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    install = re.search(r"install.* -e '(\.\[.*?\])' -c (\S+)", (ROOT / "Makefile").read_text())
    assert pip == [f"-c {install[2]}", f"-e {install[1]}"]
    assert set(re.findall(r"\w+", install[1])) <= set(PROJECT["optional-dependencies"])
    assert cli.version_numbers(python) >= cli.version_numbers(PROJECT["requires-python"])


# --- data and the wheel ---------------------------------------------------------------------------------------------


def test_manifest_describes_the_data_as_it_is():
    written = json.loads((ROOT / "data" / "manifest.json").read_text())
    assert written == load_tool("data/build.py").manifest(), "run `make manifest`"
    assert "page.txt" in written
    readme = (ROOT / "data" / "README.md").read_text()
    assert not [name for name in written if f"`{name}`" not in readme]


def test_missing_data_is_named():
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        minillama.data_path("no-such-file")


def test_doctor_is_content_here(capsys):
    assert cli.main(["doctor"]) == 0
    assert "MISSING" not in capsys.readouterr().out


def test_doctor_names_changed_data_and_old_packages(capsys, monkeypatch, tmp_path):
    page = tmp_path / "page.txt"
    page.write_text("changed")
    real = minillama.data_path
    monkeypatch.setattr(cli, "data_path", lambda name: page if name == "page.txt" else real(name))
    monkeypatch.setattr(cli.importlib.metadata, "requires", lambda name: ["numpy>=999", "no-such-package>=1"])
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("MISSING") == 3
    assert "data/page.txt is not the file" in printed
    assert "is older than 999" in printed and "no-such-package is not installed" in printed


def test_wheel_carries_code_data_and_licences(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("minillama", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        source,
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        names = archive.namelist()
    for name in PROJECT["license-files"]:
        assert any(member.endswith(f"licenses/{name}") for member in names)
    # In the wheel, with no checkout beside it, the data is found and is the same.
    script = "import minillama; print(minillama.__file__); print(minillama.data_path('page.txt').read_bytes().hex())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=True)
    file, page = run.stdout.decode().split()
    assert file.startswith(str(tmp_path / "installed"))
    digest = hashlib.sha256(bytes.fromhex(page)).hexdigest()
    assert digest == json.loads((ROOT / "data" / "manifest.json").read_text())["page.txt"]["sha256"]


def test_licences():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "creativecommons.org/licenses/by/4.0/legalcode" in (ROOT / "LICENSE-TEXT").read_text()
    assert "Llama 2 Community License" in (ROOT / "NOTICE").read_text()


# --- the repository's address ---------------------------------------------------------------------------------------


def test_the_address_stands_in_one_place():
    assert load_tool("tools/set_repository.py").strays() == [], "run `make repository URL=...`"


def test_one_command_changes_the_address_everywhere(monkeypatch, tmp_path):
    tool = load_tool("tools/set_repository.py")
    for path in tool.carriers():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    old = tool.declared()
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    changed = tool.change("https://github.com/someone/a.book.git")
    assert {"pyproject.toml", "_config.yml", "CITATION.cff"} <= set(changed)
    assert tool.declared() == "someone/a.book" and tool.strays() == []
    left = [p.name for p in tool.carriers() if re.search(rf"github(\.com)?/{re.escape(old)}(?![\w-])", p.read_text())]
    assert left == []
    tool.change("https://github.com/someone/else")
    (tmp_path / "page.md").write_text("pip install git+" + "https://github.com/someone/a.book\n")
    assert tool.strays() == ["page.md: someone/a.book"]
    with pytest.raises(ValueError, match="should look like"):
        tool.change("github.com/me")


# --- pages that need no network -------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """Collects every address that a browser would fetch to show the page; plain links are not among them."""

    FETCHING_RELS = {
        "stylesheet",
        "preload",
        "prefetch",
        "modulepreload",
        "preconnect",
        "dns-prefetch",
        "icon",
        "manifest",
    }

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.inside = tag if tag in ("script", "style") else ""
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "track", "input"):
            self.addresses += [attributes.get("src", "")]
            self.addresses += [part.split()[0] for part in attributes.get("srcset", "").split(",") if part.strip()]
        if tag == "object":
            self.addresses.append(attributes.get("data", ""))
        if tag in ("image", "use"):
            self.addresses += [attributes.get("href", ""), attributes.get("xlink:href", "")]
        if tag == "link" and self.FETCHING_RELS & set(attributes.get("rel", "").split()):
            self.addresses.append(attributes.get("href", ""))
        self.addresses += re.findall(r"url\(['\"]?([^'\")]+)", attributes.get("style", ""))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.addresses += re.findall(r"https?://[^\s\"'`]+", data)
        elif self.inside == "style":
            self.addresses += re.findall(r"(?:url\(|@import)\s*['\"]?([^'\");]+)", data)


def remote(addresses: list[str]) -> list[str]:
    return [address for address in addresses if re.match(r"(?:https?:)?//", address.strip())]


def loads(html: str) -> list[str]:
    parser = Loads()
    parser.feed(html)
    return parser.addresses


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<script>import("https://cdn.example/x.js")</script>',
        "<style>@import 'https://fonts.example/x';</style>",
        '<img srcset="a.png 1x, https://cdn.example/b.png 2x">',
        '<p style="background: url(https://cdn.example/x.png)">',
    ],
)
def test_the_check_below_sees_a_remote_address(html):
    assert remote(loads(html))


def test_built_pages_fetch_nothing_from_elsewhere(built_book):
    pages = sorted(built_book.rglob("*.html"))
    pages = [page for page in pages if "_static" not in page.parts]
    assert len(pages) >= 15
    fetched = {page: loads(page.read_text(encoding="utf-8")) for page in pages}
    assert sum(len(addresses) for addresses in fetched.values()) > 100  # the parser does see what pages load
    assert {page.name: found for page, addresses in fetched.items() if (found := remote(addresses))} == {}
    for sheet in built_book.rglob("*.css"):
        assert not remote(re.findall(r"(?:url\(|@import)\s*['\"]?([^'\");]+)", sheet.read_text(encoding="utf-8"))), (
            sheet
        )


def test_what_pages_load_is_there(built_book):
    for page in (built_book / "book").rglob("*.html"):
        for address in loads(page.read_text(encoding="utf-8")):
            path = address.split("?")[0].split("#")[0]
            if path and not re.match(r"[a-z]+:|//", path):
                assert (page.parent / urllib.request.url2pathname(path)).exists(), f"{page}: {address}"


def test_formulas_are_drawn_by_the_book_s_own_mathjax(built_book):
    assert (built_book / "_static/mathjax/tex-mml-chtml.js").stat().st_size > 500_000
    assert list((built_book / "_static/mathjax/output/chtml/fonts").rglob("*.woff"))
    pages = [page.read_text() for page in (built_book / "book").rglob("*.html")]
    with_math = [page for page in pages if re.search(r'class="math[ "]', page)]
    assert len(with_math) >= 7
    assert all("_static/mathjax/tex-mml-chtml.js" in page for page in with_math)
    assert not [page for page in pages if "thebe" in page.lower()]
