"""Figures that are drawn anew while you move a slider, where a notebook runs; a line of text where it does not.

A page without a kernel can only show what was drawn beforehand (`minillama.figures.slider`). In JupyterLab, VS Code and
Colab there is a kernel, so the same function can draw any value, not only those of the frames.

Does: see whether somebody sits before the kernel, so that the same cell is a widget there and text in the book and in
    the tests; sliders with a label, for numbers and for lists of values.
Does not: compute anything until the widget is shown; keep the state of a widget in the notebook's file.
Source: ipywidgets' `interactive`.
"""

import html
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import ipywidgets

WHERE = "JupyterLab, VS Code or Colab"


def somebody_is_there() -> bool:
    """Whether this kernel belongs to a notebook that somebody has open, and not to a run from the top.

    Jupyter's server names the notebook to each kernel that it starts for one; Colab and VS Code leave other traces.
    """
    if "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules:
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


class Live:
    """Shown by a notebook as a widget if somebody is there and ipywidgets is installed, and as HTML in any case.

    A subclass has two methods: `widget` makes the widget, `_repr_html_` what stands in the page.
    """

    def widget(self) -> "ipywidgets.Widget":
        """The widget; import ipywidgets here, not before."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if somebody_is_there():
            try:
                bundle |= self.widget()._repr_mimebundle_()
            except ImportError:
                pass
        return bundle


class _LiveFigure(Live):
    def __init__(self, draw: Callable[..., Figure], ranges: Mapping[str, Any]):
        self.draw, self.ranges = draw, dict(ranges)

    def widget(self) -> "ipywidgets.VBox":
        """The sliders, and below them the figure."""
        import ipywidgets
        import matplotlib.pyplot as plt
        from IPython.display import display

        def show(**values: Any) -> None:
            figure = self.draw(**values)
            display(figure)
            plt.close(figure)  # else the notebook would show it a second time

        wide, found = ipywidgets.Layout(width="32rem", max_width="98%"), {}
        for name, values in self.ranges.items():
            start = inspect.signature(self.draw).parameters[name].default
            more = {"description": name.replace("_", " "), "continuous_update": False, "layout": wide}
            more["style"] = {"description_width": "initial"}
            if isinstance(values, tuple):
                kind = ipywidgets.FloatSlider if any(isinstance(v, float) for v in values) else ipywidgets.IntSlider
                low, high, *step = values
                more |= {"min": low, "max": high} | ({"step": step[0]} if step else {})
                start = low if start is inspect.Parameter.empty else start
            else:
                kind, more["options"] = ipywidgets.SelectionSlider, list(values)
                start = start if start in values else _nearest(values, start)
            found[name] = kind(value=start, **more)
        return ipywidgets.interactive(show, **found)

    def _repr_html_(self) -> str:
        told = []
        for name, values in self.ranges.items():
            span = f"from {values[0]} to {values[1]}" if isinstance(values, tuple) else f"{len(values)} values"
            told.append(f"<b>{html.escape(name.replace('_', ' '))}</b> ({span})")
        moved = ", ".join(told)
        return f'<p class="mlv"><i>In {WHERE} this cell is live: run it and move {moved} yourself.</i></p>'

    def __repr__(self) -> str:
        return f"<live figure of {', '.join(self.ranges)}>"


def _nearest(values: Sequence[Any], start: Any) -> Any:
    """The value next to a number, the first one next to anything else."""
    return min(values, key=lambda value: abs(value - start)) if isinstance(start, (int, float)) else values[0]


def live_figure(draw: Callable[..., Figure], **ranges: tuple[float, ...] | Sequence[Any]) -> Live:
    """A figure with sliders that is drawn by the kernel, for any value.

    Args:
        draw: function that returns a matplotlib figure; the sliders start at its defaults, or next to them.
        ranges: for each argument that gets a slider, (low, high) or (low, high, step), or a list of values. Names
            become labels, with spaces for underscores.

    Returns:
        an object that a notebook displays: sliders and figure if somebody is there, else a line that says so. Where
        that is not noticed, put `.widget()` behind it.

    Raises:
        ValueError: for no range, an argument that `draw` does not have, or a range of nothing.
    """
    if not ranges:
        raise ValueError("a live figure needs at least one range, such as m=(0, 100)")
    known = inspect.signature(draw).parameters
    for name, values in ranges.items():
        if name not in known:
            raise ValueError(f"{draw.__name__} has no argument {name!r}; it has {', '.join(known)}")
        sound = len(values) in (2, 3) and values[0] < values[1] if isinstance(values, tuple) else len(values) > 1
        if not sound:
            raise ValueError(f"{name}: expected (low, high), (low, high, step) or a list of 2 or more, got {values!r}")
    return _LiveFigure(draw, ranges)
