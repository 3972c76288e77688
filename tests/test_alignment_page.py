"""`benchmarks/alignment.md` is what its script says of the stored runs, and the script says what it is given."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from minillama import data_path
from minillama.pretraining.uncertainty import two_way_interval

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("alignment_page", ROOT / "benchmarks" / "alignment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_output_of_the_script(script):
    written = script.PAGE.read_text(encoding="utf-8")
    assert written == script.page()
    stored = sum((data_path("runs") / f"{name}.json").exists() for name in script.PARTS)
    assert written.count("\n## Chapter") == stored


def test_an_interval_is_wider_if_seeds_differ(script):
    alike = np.tile(np.linspace(0, 1, 200), (3, 1))
    low, high = two_way_interval(alike)
    assert low < 0.5 < high and high - low < 0.12
    apart = alike + np.array([[-0.3], [0.0], [0.3]])
    wide = two_way_interval(apart)
    assert wide[1] - wide[0] > 0.4 and script.cell(alike).startswith("0.500 [0.4")


def test_what_differs_between_versions_shows(script):
    def version(helpful, safe, refused):
        size = len(families)
        scores = [helpful if f == "story" else 0.05 for f in families]
        safety = [safe if f == "harmful" else 0.85 if refused else 1.0 for f in families]
        of_all = {name: [0.5] * size for name in ("proxy_first", "proxy_last", "kl", "ended")}
        return {"helpful": scores, "safe": safety, "self_bleu": 0.7, **of_all}

    families = ["story"] * 4 + ["harmful"] * 4 + ["borderline"] * 2
    runs = [{"versions": [version(0.5, 0.1, False), version(0.6, 0.9, True)]} for _ in range(3)]
    before, after = script.versions({"families": families, "runs": runs})
    assert before["violations"].mean() == 1 and after["violations"].mean() == 0
    assert before["false refusals"].mean() == 0 and after["false refusals"].mean() == 1
    assert after["win rate over V0, harmful"].mean() == 1 and before["win rate over V0, harmful"].mean() == 0.5
    assert after["win rate over V0, harmless"].mean() == pytest.approx((4 + 2 / 2) / 6)
    assert after["helpfulness, story"].mean() == pytest.approx(0.6)
