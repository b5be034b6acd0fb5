"""What all figures share: axes, colors and legend, and how a figure becomes an inline SVG."""

import io
import re
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, GRAY, RED, GREEN = "#1f5fa8", "#b5b5b5", "#c0392b", "#2e8b57"

ACCENT, SECOND = "#2f86d1", "#e0851b"  # told apart by color-blind eyes, on light ground and on dark

WIDTH_IN = 4.6  # about as wide as a phone: letters keep their size there

RASTERIZE_ABOVE = 2000  # dots; more become a picture inside the drawing

_TEXT_COLOR = "#010203"  # stands for the page's own text color, whatever that is

_RC_PARAMS: dict[Any, Any] = {
    "text.parse_math": False,  # a name may hold a dollar
    "svg.fonttype": "none",  # letters stay text
    "svg.hashsalt": "mnsa",  # the same record gives the same page
    "font.size": 9,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "legend.labelcolor"),
        _TEXT_COLOR,
    ),
}

_IDS = re.compile(r'(\bid="|href="#|url\(#)')


def new_axes(x: str, y: str, *, width: float = 7.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """One pair of axes with these labels; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def add_legend(axes: Axes) -> None:
    """Name the curves that have a name, where there is room."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def add_legend_above(axes: Axes) -> None:
    """Name the curves that have a name, above the axes, where no curve comes."""
    names = axes.get_legend_handles_labels()[1]
    columns = 2 if max(map(len, names), default=0) > 12 else 4
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.1), ncols=columns, borderaxespad=0)


def inline_svg(name: str, draw: Callable[[], Figure]) -> str:
    """Draw a figure as an <svg> element in the page's own text color. name: unique on the page, of letters."""
    text = io.StringIO()
    with rc_context(_RC_PARAMS):
        draw().savefig(text, format="svg", transparent=True, dpi=220, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT_COLOR, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg)  # HTML knows them
    svg = svg.replace("*{stroke-linejoin", "svg *{stroke-linejoin")  # not of the whole page
    return _IDS.sub(rf"\g<1>{name}-", svg).replace("<svg ", '<svg aria-hidden="true" ', 1)
