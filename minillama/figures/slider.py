"""An interactive figure that needs no kernel and no network.

Every position of the slider is drawn beforehand; the page holds all the pictures and a few lines of script that
show one at a time. So the figure moves in the built book, in JupyterLab and in Colab alike.

Does: alt text for every frame, the keyboard (arrow keys, Home, End), all frames side by side in print and
wherever scripts are off; the same bytes on every run, so that notebooks stay comparable.
Does not: compute anything when the slider moves; for that, change the code cell and run it.
Source: the HTML standard's `<input type="range">` and `<output>` elements.
"""

import base64
import html
import io
import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minillama.figures.markup import Displayable, inline_code
from minillama.figures.style import HASH_SALT

SVG_LIMIT = 60_000  # bytes of one frame; above it a PNG is smaller and draws faster
FORMATS = ("auto", "svg", "png")

STYLE = """
.mlf{margin:1rem 0;padding:.8rem;background:#fff;color:#222;border:1px solid #b8b8b8;border-radius:.5rem}
.mlf .mlf-bar{display:none;gap:.7rem;align-items:center;flex-wrap:wrap;margin-bottom:.5rem;color:#222}
.mlf .mlf-bar input{flex:1 1 7rem;min-width:5rem;height:1.6rem;accent-color:#0072b2;cursor:pointer}
.mlf .mlf-bar input:focus-visible{outline:3px solid #d55e00;outline-offset:2px}
.mlf .mlf-bar output{font-weight:600;min-width:2.5rem;font-variant-numeric:tabular-nums}
.mlf .mlf-frames{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.6rem}
.mlf .mlf-frame{margin:0}
.mlf .mlf-frame img{display:block;width:100%;height:auto;margin:0 auto;padding:0!important;
background:#fff!important;border-radius:0;filter:none!important}
.mlf code{color:inherit;background:#eee;border:0;padding:0 .2em}
.mlf .mlf-value{display:block;text-align:center;font-size:.85em;color:#444}
.mlf figcaption{margin-top:.5rem;font-size:.9em;color:#444;text-align:left}
@media screen{
.mlf-live .mlf-bar{display:flex}
.mlf-live .mlf-frames{display:block}
.mlf-live .mlf-frame{display:none}
.mlf-live .mlf-frame.mlf-on{display:block}
.mlf-live .mlf-value{display:none}
.mlf-live .mlf-frame img{max-width:WIDTHpx}
}
div.text_html:has(> .mlf){background:none!important;padding:0!important}
"""

# JupyterLab may run the script before the figure is in the page, hence the short wait.
_SCRIPT = """
(function go(tries){
  var figures=document.querySelectorAll('[data-frames="IDENT"]');
  if(!figures.length&&tries){setTimeout(go,50,tries-1);return;}
  figures.forEach(function(figure){
    var input=figure.querySelector('input'),output=figure.querySelector('output');
    var frames=figure.querySelectorAll('.mlf-frame');
    function show(){
      var value=frames[input.value].dataset.value;
      frames.forEach(function(frame,i){frame.classList.toggle('mlf-on',i==input.value);});
      output.textContent=value;input.setAttribute('aria-valuetext',value);
    }
    input.addEventListener('input',show);figure.classList.add('mlf-live');show();
  });
})(40);
"""


def frames_slider(
    figures: Sequence[Figure],
    values: Sequence[Any],
    label: str,
    alt: str | Sequence[str],
    caption: str | None = None,
    start: int = 0,
    fmt: str = "auto",
) -> Displayable:
    """Turn a list of matplotlib figures into one figure with a slider; the figures are closed.

    Args:
        figures: one figure for each position of the slider, all of one size.
        values: what the slider reads at each position; numbers are shown with `:g`.
        label: what the slider changes, such as "position m"; it stands before the slider.
        alt: what the pictures show: one sentence for each frame, or a single one with `{value}` in it.
        caption: optional line below; `backticks` mark code.
        start: index of the frame shown first.
        fmt: "svg", "png", or "auto": SVG unless a frame takes more than 60 kB.

    Returns:
        an object that a notebook displays; its `_repr_html_` holds everything.

    Raises:
        ValueError: if the lengths differ, there are fewer than two frames, or an alt text is missing or never varies.
    """
    if len(figures) < 2:
        raise ValueError(f"a slider needs at least 2 frames, got {len(figures)}; show a single figure as it is")
    if len(values) != len(figures):
        raise ValueError(f"each figure needs one value: got {len(figures)} figures and {len(values)} values")
    if not 0 <= start < len(figures):
        raise ValueError(f"start must be a frame index from 0 to {len(figures) - 1}, got {start}")
    if fmt not in FORMATS:
        raise ValueError(f"fmt must be one of {', '.join(FORMATS)}, got {fmt!r}")
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    alts = _alt_texts(alt, shown)
    width = max(round(figure.get_figwidth() * 110) for figure in figures)

    sources = [] if fmt == "png" else [_svg(figure) for figure in figures]
    if fmt == "png" or (fmt == "auto" and max(map(len, sources)) > SVG_LIMIT):
        sources = [_png(figure) for figure in figures]
    for figure in figures:
        plt.close(figure)

    frames = "\n".join(
        f'<div class="mlf-frame{" mlf-on" if i == start else ""}" data-value="{html.escape(value)}">'
        f'<img class="dark-light" alt="{html.escape(text)}" src="{source}">'
        f'<span class="mlf-value">{html.escape(label)}: {html.escape(value)}</span></div>'
        for i, (value, text, source) in enumerate(zip(shown, alts, sources, strict=True))
    )
    ident = "mlf-" + uuid.uuid5(uuid.NAMESPACE_URL, f"{label}|{caption}|{frames}").hex[:12]
    below = f"<figcaption>{inline_code(caption)}</figcaption>" if caption else ""
    page = f"""<figure class="mlf" data-frames="{ident}">
<style>{STYLE.replace("WIDTH", str(width))}</style>
<div class="mlf-bar"><label for="{ident}">{html.escape(label)}</label>
<input type="range" id="{ident}" min="0" max="{len(figures) - 1}" step="1" value="{start}" \
aria-label="{html.escape(label)}" aria-valuetext="{html.escape(shown[start])}">
<output for="{ident}">{html.escape(shown[start])}</output></div>
<div class="mlf-frames">
{frames}
</div>{below}
</figure>
<script>{_SCRIPT.replace("IDENT", ident)}</script>"""
    return Displayable(page, f"<slider {label!r}: {', '.join(shown)}>")


def _alt_texts(alt: str | Sequence[str], shown: list[str]) -> list[str]:
    if isinstance(alt, str):
        if "{value}" not in alt:
            raise ValueError("a single alt text must contain {value}, so that each frame says which one it is")
        return [alt.replace("{value}", value) for value in shown]
    if len(alt) != len(shown) or not all(text.strip() for text in alt):
        raise ValueError(f"each frame needs its own alt text: got {len(alt)} for {len(shown)} frames")
    return list(alt)


def _svg(figure: Figure) -> str:
    """The figure as a data URI, with coordinates to 2 decimals; percent-encoding is shorter than base64 here."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": HASH_SALT, "svg.fonttype": "path", "savefig.bbox": "standard"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    # Only paths and positions are rounded: a `scale(0.015625)` must keep its digits.
    svg = re.sub(r' (d|x|y)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><").replace("'", "&#39;").replace('"', "'")
    return "data:image/svg+xml," + quote(svg, safe=" /:=,;'()+.-_!*@?$")


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"savefig.bbox": "standard"}):
        figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None}, facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
