"""The book's colours stay apart for eyes that lack a kind of cone, and stand out from white paper.

Simulation: Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision
Deficiency", the matrices for severity 1.0, applied to linear RGB. Difference: the distance in CIE Lab (D65); 2.3 is
just noticeable side by side, and we ask for several times that, since lines cross and do not lie side by side.
"""

from itertools import combinations

import matplotlib
import numpy as np
import pytest

from minillama.figures import COLORS, use_book_style
from minillama.figures.style import CYCLE

EYES = {
    "all three cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
APART_IN_A_CYCLE, APART_AT_ALL = 15, 10  # distances in Lab
# Okabe and Ito's two bright colours have less than 3 to 1 on white. Darkened to 3 to 1, orange comes as near to
# vermillion as 6 in Lab under deuteranopia; so they stay bright, and thick.
BRIGHT = {"orange", "sky"}


def linear(colour: str) -> np.ndarray:
    channels = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab of linear RGB, shape (3,)."""
    xyz = TO_XYZ @ rgb / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours: list[str], eye: str) -> tuple[float, str, str]:
    """The two colours that are hardest to tell apart, and their distance."""
    seen = {colour: lab(np.clip(EYES[eye] @ linear(colour), 0, 1)) for colour in colours}
    return min((float(np.linalg.norm(seen[a] - seen[b])), a, b) for a, b in combinations(colours, 2))


def contrast_on_white(colour: str) -> float:
    return 1.05 / (0.05 + linear(colour) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("eye", EYES)
def test_colours_stay_apart(eye):
    assert nearest(CYCLE, eye)[0] > APART_IN_A_CYCLE, nearest(CYCLE, eye)
    assert nearest(list(COLORS.values()), eye)[0] > APART_AT_ALL, nearest(list(COLORS.values()), eye)


@pytest.mark.parametrize(
    ("eye", "pair"),
    [
        ("deuteranopia", ["tab:olive", "tab:orange"]),
        ("protanopia", ["tab:green", "tab:red"]),
        ("tritanopia", ["y", "w"]),
    ],
)
def test_the_simulation_merges_what_such_eyes_confuse(eye, pair):
    assert nearest(pair, eye)[0] < nearest(pair, "all three cones")[0] / 2


def test_simulation_leaves_grey_alone():
    for matrix in EYES.values():
        assert np.allclose(matrix @ np.ones(3), 1, atol=1e-3)


def test_lab_is_right_at_known_points():
    assert np.allclose(lab(linear("white")), [100, 0, 0], atol=0.02)
    assert np.allclose(lab(linear("red")), [53.24, 80.09, 67.20], atol=0.02)  # Lindbloom's table for sRGB and D65


def test_lines_stand_out_from_white_paper():
    weak = {name for name, colour in COLORS.items() if contrast_on_white(colour) < 3}
    assert weak - {"yellow"} == BRIGHT and COLORS["yellow"] not in CYCLE
    assert all(contrast_on_white(COLORS[name]) > 2 for name in BRIGHT)
    with matplotlib.rc_context():
        use_book_style()
        assert matplotlib.rcParams["lines.linewidth"] >= 2 and matplotlib.rcParams["figure.facecolor"] == "white"


def test_map_of_an_image_grows_lighter_all_the_way_for_every_eye():
    with matplotlib.rc_context():
        use_book_style()
        colours = [
            matplotlib.colors.to_hex(c)
            for c in matplotlib.colormaps[matplotlib.rcParams["image.cmap"]](np.linspace(0, 1, 16))
        ]
    for matrix in EYES.values():
        lightness = [lab(np.clip(matrix @ linear(colour), 0, 1))[0] for colour in colours]
        assert np.all(np.diff(lightness) > 1)
