"""Rehearse the way of a Colab user: an environment without minillama, and a notebook that installs it.

    python tools/colab.py book/1-model/01-meet-llama-2.ipynb book/1-model/07-generation.ipynb ...

Makes an empty environment with what Colab brings of our dependencies (PyTorch, NumPy, Matplotlib, a kernel), copies
the notebooks into an empty folder, and runs the first one from its first cell on, which installs minillama from the
repository's address. Git is told to take that address from this checkout. Then every notebook is executed by nbval,
which compares the outputs with those in the book.

Does: the last commit, not what lies uncommitted; says if the installation changed what was there, above all PyTorch.
Does not: run Colab itself, whose versions and Python may be others.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from set_repository import declared

ROOT = Path(__file__).resolve().parents[1]
BROUGHT = ("torch", "numpy", "matplotlib", "ipykernel")  # in Colab before the first cell runs


def environment(checkout: Path, empty: Path) -> dict[str, str]:
    """Variables under which git finds the repository's address in `checkout`, and Python finds no checkout at all."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "VIRTUAL"))}
    settings = {f"url.{checkout.as_uri()}.insteadOf": f"https://github.com/{declared()}", "safe.directory": "*"}
    for number, (name, value) in enumerate(settings.items()):
        kept |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    kept |= {"GIT_CONFIG_COUNT": str(len(settings)), "GIT_TERMINAL_PROMPT": "0"}
    kept |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "IPYTHONDIR": str(empty / "ipython")}
    return kept


def pinned(names: tuple[str, ...]) -> list[str]:
    """Requirements with the versions of constraints.txt, so that the outputs can be compared."""
    versions = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    return [f"{name}=={versions[name]}" for name in names]


def installed(python: Path) -> dict[str, str]:
    """Version of every package, by name."""
    lines = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in lines.stdout.split())


def rehearse(notebooks: list[Path], folder: Path, checkout: Path = ROOT) -> None:
    """Makes the environment in `folder` and runs the notebooks.

    Raises:
        RuntimeError: if a notebook fails, its outputs differ, or the installation changed a package that was there.
    """
    python = folder / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned(BROUGHT)], check=True)
    before = installed(python)
    if "minillama" in before:
        raise RuntimeError("the new environment has minillama already; it should be empty")
    content = folder / "content"
    content.mkdir()
    copies = [Path(shutil.copy(path, content)) for path in notebooks]
    variables = environment(checkout, folder)
    subprocess.run(
        [python, "-m", "ipykernel", "install", "--prefix", folder, "--name", "colab"], check=True, capture_output=True
    )
    variables |= {"JUPYTER_PATH": str(folder / "share" / "jupyter")}

    print(f"{copies[0].name}: from the cell that installs minillama to the last one", flush=True)
    specs = KernelSpecManager(kernel_dirs=[str(folder / "share" / "jupyter" / "kernels")], ensure_native_kernel=False)
    notebook = nbformat.read(copies[0], as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="colab", resources={"metadata": {"path": str(content)}})
    client.create_kernel_manager()
    client.km.kernel_spec_manager = specs
    client.execute(env=variables)
    after = installed(python)
    if changed := {name: (old, after.get(name)) for name, old in before.items() if after.get(name) != old}:
        raise RuntimeError(f"installing minillama changed what was there: {changed}")
    print(f"  installed minillama {after['minillama']} and {len(after) - len(before) - 1} more packages", flush=True)

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={content}", "--nbval"]
    command += ["--nbval-kernel-name=colab", "--nbval-cell-timeout=300"]
    command += [f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}", *map(str, copies)]
    if subprocess.run(command, cwd=content, env=variables).returncode:
        raise RuntimeError("nbval found differences; they are above")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, help="notebooks of the book; the first installs minillama")
    chosen = parser.parse_args(arguments)
    if missing := [path for path in chosen.notebooks if not path.is_file()]:
        print(f"colab: no notebook {missing[0]}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            rehearse(chosen.notebooks, Path(folder).resolve())
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"colab: {error}", file=sys.stderr)
            return 1
    print("the notebooks run without a checkout, and print what the book shows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
