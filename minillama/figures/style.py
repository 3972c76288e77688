"""One look for every plot of the book.

A colour-blind-safe palette (Okabe and Ito), a white background, fonts that stay readable on a phone.

Does: set matplotlib's defaults once per notebook; name the colours, so that a text can say "the blue line".
Does not: draw anything; change a figure that already exists.
Source: Okabe and Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/.
"""

import matplotlib
from cycler import cycler

COLORS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
    "grey": "#7A7A7A",
}

# Yellow is left out: on white it has too little contrast for a thin line.
CYCLE = [COLORS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black")]

HASH_SALT = "minillama"  # makes the ids inside an SVG, and so its bytes, the same on every run


def use_book_style() -> None:
    """Set matplotlib's defaults to the book's look; call it once, at the top of a notebook."""
    matplotlib.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "font.size": 11,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.8,
            "image.cmap": "viridis",
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 2.0,
            "figure.figsize": (7.0, 3.8),
            "figure.dpi": 120,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "path.simplify": True,
            "svg.fonttype": "path",  # letters as outlines: the same picture with any fonts installed
            "svg.hashsalt": HASH_SALT,
        }
    )
