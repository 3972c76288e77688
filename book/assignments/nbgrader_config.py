"""Settings for nbgrader's own commands and for the formgrader; `tools/classroom.py` uses the same."""

import sys
from pathlib import Path

import minillama

sys.path.insert(0, str(Path(minillama.__file__).resolve().parents[1] / "tools"))

from classroom import configure

configure(get_config())  # noqa: F821 (nbgrader puts it here)
