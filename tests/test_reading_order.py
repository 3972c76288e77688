"""Reading order is dependency order: a chapter and its modules use only what earlier chapters built.

A module says its chapter in the first line of its docstring, "(chapter 4)"; the order of chapters is that of
`_toc.yml`. Modules without a chapter are `paths`, which everything may use, the package files, and two leaves that
nothing else may import: `figures`, for notebooks, and `cli`, for the shell (by `__main__` too, its second door).
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "minillama"
SHARED = {PACKAGE, f"{PACKAGE}.paths"}
LEAVES = ("figures", "cli")
NOTEBOOK_ONLY = "figures"

Sources = dict[str, str]  # dotted name of a module to its source


def library() -> Sources:
    sources = {}
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return sources


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]


def chapter_of_file(file: str) -> int | None:
    """The number of a chapter's page, or None for front matter and appendices."""
    match = re.fullmatch(r"book/\d-[\w-]+/(\d\d)-[\w-]+", file)
    return int(match[1]) if match else None


def chapter_of_module(source: str) -> int | None:
    first = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    match = re.search(r"\(chapter (\d+)\)", first)
    return int(match[1]) if match else None


def leaf(module: str) -> str | None:
    """The leaf that a module belongs to, if any."""
    if module == f"{PACKAGE}.__main__":
        return "cli"
    return next((name for name in LEAVES if f"{module}.".startswith(f"{PACKAGE}.{name}.")), None)


def imports(source: str, module: str, known: set[str]) -> Iterator[str]:
    """The library's modules that a source imports anywhere, inside functions too."""
    package = module if any(name.startswith(module + ".") for name in known) else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if f"{alias.name}.".startswith(f"{PACKAGE}."))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            if f"{base}.".startswith(f"{PACKAGE}."):
                for alias in node.names:
                    # `from minillama.model import rope` imports a module, `from minillama import data_path` a name.
                    yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def graph(sources: Sources) -> dict[str, set[str]]:
    return {name: set(imports(source, name, set(sources))) - {name} for name, source in sources.items()}


def forward_imports(sources: Sources) -> Iterator[str]:
    """Imports from a later chapter, and of modules that no chapter has built."""
    chapters = {name: chapter_of_module(source) for name, source in sources.items()}
    for name, targets in graph(sources).items():
        if leaf(name):
            continue
        for target in sorted(targets - SHARED):
            if target not in chapters:
                yield f"{name} imports {target}, which does not exist"
            elif chapters[target] is None:
                yield f"{name} imports {target}, which belongs to no chapter"
            elif chapters[name] is None:
                yield f"{name} belongs to no chapter and imports {target}"
            elif chapters[target] > chapters[name]:
                yield f"{name} (chapter {chapters[name]}) imports {target} (chapter {chapters[target]})"


def leaf_imports(sources: Sources) -> Iterator[str]:
    """Imports of `figures` or `cli` by anything outside them."""
    for name, targets in graph(sources).items():
        for target in sorted(targets):
            if leaf(target) and leaf(target) != leaf(name):
                yield f"{name} imports {target}; {leaf(target)} is a leaf"


def cycles(sources: Sources) -> Iterator[str]:
    try:
        TopologicalSorter(graph(sources)).prepare()
    except CycleError as error:
        yield " -> ".join(error.args[1])


def without_chapter(sources: Sources, numbers: set[int]) -> Iterator[str]:
    """Modules of the four parts whose first line names no chapter; code may be ahead of the last page, never aside."""
    for name, source in sources.items():
        is_package = any(other.startswith(name + ".") for other in sources)
        if name in SHARED or is_package or leaf(name):
            continue
        chapter = chapter_of_module(source)
        if chapter not in numbers and not (chapter and chapter > max(numbers)):
            yield f"{name} says chapter {chapter_of_module(source)}; the book has {sorted(numbers)}"


def notebook_forward_imports(chapter: int, source: str, sources: Sources) -> Iterator[str]:
    """What a chapter's notebook imports although a later chapter builds it, or no chapter does."""
    for target in sorted(set(imports(source, "notebook", set(sources)))):
        built = chapter_of_module(sources[target]) if target in sources else None
        if target in SHARED or leaf(target) == NOTEBOOK_ONLY:
            continue
        if built is None:
            yield f"chapter {chapter} imports {target}, which no chapter builds"
        elif built > chapter:
            yield f"chapter {chapter} imports {target}, which chapter {built} builds"


def code(path: Path) -> str:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", "\n".join(cells), flags=re.MULTILINE)


CHAPTERS = {chapter_of_file(file): file for file in toc_files() if chapter_of_file(file)}


def test_chapters_are_numbered_from_one_in_the_order_of_the_contents():
    assert list(CHAPTERS) == list(range(1, len(CHAPTERS) + 1))


def test_every_chapter_has_a_module_and_every_module_a_chapter():
    assert list(without_chapter(library(), set(CHAPTERS))) == []
    built = {chapter_of_module(source) for source in library().values()}
    assert set(CHAPTERS) <= built


def test_no_module_imports_from_a_later_chapter():
    assert list(forward_imports(library())) == []


def test_nothing_imports_the_leaves():
    assert list(leaf_imports(library())) == []


def test_no_import_cycles():
    assert list(cycles(library())) == []


@pytest.mark.parametrize(("chapter", "file"), CHAPTERS.items())
def test_no_chapter_imports_from_a_later_one(chapter, file):
    path = ROOT / f"{file}.ipynb"
    assert path.is_file(), f"{file} is in _toc.yml and has no notebook"
    assert list(notebook_forward_imports(chapter, code(path), library())) == []


def test_notebooks_of_chapters_are_all_in_the_contents():
    notebooks = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "book").glob("[0-9]-*/*.ipynb")}
    assert notebooks == set(CHAPTERS.values())


def test_the_library_page_lists_every_module_under_its_chapter():
    page = (ROOT / "book" / "appendix" / "api.md").read_text(encoding="utf-8")
    listed = {}
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        match = re.match(r"Chapter (\d+)", title)
        listed |= dict.fromkeys(re.findall(r"automodule:: (\S+)", body), int(match[1]) if match else None)
    sources = library()
    packages = {name for name in sources if any(other.startswith(name + ".") for other in sources)}
    expected = {name: chapter_of_module(source) for name, source in sources.items() if name not in packages}
    # the shell's commands are listed by `minillama --help`
    expected = {name: chapter for name, chapter in expected.items() if leaf(name) != "cli"}
    assert listed == expected


# The checks can fail -------------------------------------------------------------------------------------------------


def package(**changes) -> Sources:
    """A sound library of two chapters, with changes by the last part of a module's name."""
    sources = {
        PACKAGE: '"""All."""\nfrom minillama.paths import data_path',
        f"{PACKAGE}.paths": '"""Where data is."""',
        f"{PACKAGE}.model": '"""Part I."""',
        f"{PACKAGE}.model.rope": '"""Turn (chapter 1)."""\nfrom minillama import data_path',
        f"{PACKAGE}.model.attention": '"""Look (chapter 2)."""\nfrom minillama.model.rope import turn',
        f"{PACKAGE}.figures": '"""Plots."""\nfrom minillama.figures.style import COLORS',
        f"{PACKAGE}.figures.style": '"""Look."""',
        f"{PACKAGE}.cli": '"""Shell."""\nfrom minillama.model import attention',
    }
    for name, addition in changes.items():
        sources[next(known for known in sources if known.endswith(name))] += "\n" + addition
    return sources


CHECKS = [forward_imports, leaf_imports, cycles, lambda sources: without_chapter(sources, {1, 2})]


def test_a_sound_package_passes():
    assert [problem for check in CHECKS for problem in check(package())] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import minillama.model.attention",
        "import minillama.model.attention as a",
        "from minillama.model.attention import Attention",
        "from minillama.model import attention",
        "from . import attention",
        "from .attention import Attention",
        "from ..model.attention import Attention",
        "def f():\n    from minillama.model.attention import Attention",
    ],
)
def test_forward_import_is_seen_however_it_is_written(statement):
    (problem,) = forward_imports(package(rope=statement))
    assert problem == "minillama.model.rope (chapter 1) imports minillama.model.attention (chapter 2)"
    assert list(cycles(package(rope=statement)))


@pytest.mark.parametrize("statement", ["from minillama.figures import COLORS", "import minillama.cli"])
def test_import_of_a_leaf_is_seen(statement):
    assert len(list(leaf_imports(package(attention=statement)))) == 1
    assert len(list(leaf_imports(package(paths=statement)))) == 1


def test_import_of_what_does_not_exist_is_seen():
    assert list(forward_imports(package(attention="import minillama.model.flash")))


def test_package_file_that_pulls_in_a_chapter_is_seen():
    assert list(forward_imports(package(model="from minillama.model import rope")))


def test_cycle_within_one_chapter_is_seen():
    sources = package(rope="from minillama.model import angles")
    sources[f"{PACKAGE}.model.angles"] = '"""Angles (chapter 1)."""\nfrom minillama.model.rope import turn'
    assert not list(forward_imports(sources)) and list(cycles(sources))


@pytest.mark.parametrize("line", ['"""Turn."""', '"""Turn (chapter 3)."""', "", '"""Turn.\n\nSee (chapter 1)."""'])
def test_module_without_a_chapter_is_seen(line):
    sources = package() | {f"{PACKAGE}.model.rope": line}
    assert len(list(without_chapter(sources, {1, 2, 4}))) == 1


def test_notebook_may_use_earlier_chapters_and_figures_but_not_the_shell():
    earlier = "from minillama import data_path\nfrom minillama.figures import COLORS\nimport minillama.model.rope"
    assert not list(notebook_forward_imports(1, earlier, package()))
    assert list(notebook_forward_imports(1, "from minillama.model import attention", package()))
    assert list(notebook_forward_imports(2, "from minillama import cli", package()))
