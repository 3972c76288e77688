"""The command line of minillama.

`minillama doctor` looks at this machine and says what a reader would miss: a package that is absent or too old, a data
file that is not there or not the one the book was made with.

Does: exit status 0 if the book's code can run, 1 if not.
Does not: install or repair anything.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys

from minillama import __version__, data_path


def version_numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, so that "2.13.0+cpu" compares as (2, 13, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3])


def check_packages() -> list[tuple[bool, str]]:
    """One (fine, line) for each package that the library needs, read from minillama's own metadata."""
    lines = []
    for requirement in importlib.metadata.requires("minillama") or []:
        if "extra ==" in requirement:
            continue
        name, minimum = re.match(r"([\w-]+).*?>=\s*([\d.]+)", requirement).groups()
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lines.append((False, f"{name} is not installed: pip install '{name}>={minimum}'"))
            continue
        fine = version_numbers(version) >= version_numbers(minimum)
        lines.append(
            (fine, f"{name} {version}" if fine else f"{name} {version} is older than {minimum}: pip install -U {name}")
        )
    return lines


def check_data() -> list[tuple[bool, str]]:
    """One (fine, line) for each file of the data manifest."""
    try:
        manifest = json.loads(data_path("manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        return [(False, str(error))]
    lines = []
    for name, entry in manifest.items():
        try:
            digest = hashlib.sha256(data_path(name).read_bytes()).hexdigest()
        except FileNotFoundError as error:
            lines.append((False, str(error)))
            continue
        fine = digest == entry["sha256"]
        lines.append((fine, f"data/{name}" if fine else f"data/{name} is not the file of the manifest: restore it"))
    return lines


def doctor() -> int:
    """Print what is fine and what is missing; return the exit status."""
    lines = [(sys.version_info >= (3, 11), f"Python {platform.python_version()}, minillama {__version__}")]
    lines += check_packages() + check_data()
    for fine, line in lines:
        print(f"  {'ok     ' if fine else 'MISSING'} {line}")
    if all(fine for fine, _ in lines):
        import torch  # only now: it is slow to import, and may be what is missing

        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores, no GPU"
        print(f"Everything is in place ({device}).")
        return 0
    print("Something is missing; the lines above say what to do.")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `minillama`; None takes them from the command line.

    Returns:
        The exit status, 0 for success.
    """
    parser = argparse.ArgumentParser(prog="minillama", description="Llama 2 from scratch: the library of the book.")
    parser.add_argument("--version", action="version", version=f"minillama {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("doctor", help="check packages and data, and say what is missing")
    parser.parse_args(arguments)
    return doctor()


if __name__ == "__main__":
    sys.exit(main())
