"""Let Sphinx read the library's docstrings as they are written.

A module's docstring has the lines `Does:`, `Does not:` and `Source:`, which become a list of fields. What stands below
`Returns:` is prose, since the type is in the signature. `name` in backticks is code. The docstrings themselves stay
plain text for whoever reads the source.
"""

import re
import shutil
from pathlib import Path

FIELD = re.compile(r"^(Does|Does not|Source):(?= |$)")
RETURNS = re.compile(r"^\s*(Returns|Yields):$")
BACKTICKS = re.compile(r"(?<![:`\\])`([^`\n]+)`(?![`_])(?=(\w)?)")


def process(lines: list[str], is_module: bool) -> list[str]:
    """The docstring as text that napoleon and then reStructuredText understand."""
    lines = _fields(lines) if is_module else list(lines)
    for before, line in enumerate(lines[1:]):
        if RETURNS.match(lines[before]):
            # Napoleon takes what precedes a colon for a type; an empty type leaves the sentence whole.
            lines[before + 1] = re.sub(r"^(\s*)(?=\S)", r"\1: ", line)
    return [BACKTICKS.sub(lambda match: f"``{match[1]}``" + ("\\ " if match[2] else ""), line) for line in lines]


def _fields(lines: list[str]) -> list[str]:
    """`Does: ...` becomes `:Does: ...`, in a paragraph of its own, with its continuation lines indented."""
    out, inside = [], False
    for line in lines:
        match = FIELD.match(line)
        if match:
            if not inside and out and out[-1].strip():
                out.append("")
            line, inside = f":{match[1]}:{line[match.end() :]}", True
        elif not line.strip():
            inside = False
        elif inside:
            line = "    " + line.strip()
        out.append(line)
    return out


def _on_docstring(app, what, name, obj, options, lines):
    lines[:] = process(lines, what == "module")


def _on_start(app):
    # viewcode keeps a listing that is newer than its module, even if the library page now links to more places in it.
    shutil.rmtree(Path(app.outdir) / "_modules", ignore_errors=True)


def setup(app):
    """Register before napoleon (priority 500), which then finds the sections as it knows them."""
    app.connect("builder-inited", _on_start)
    app.connect("autodoc-process-docstring", _on_docstring, priority=400)
    return {"parallel_read_safe": True}
