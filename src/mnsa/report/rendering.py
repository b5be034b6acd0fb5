"""Draw figures and render the HTML templates of templates/. A page is one file that needs no other file."""

import base64
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnsa.metrics.scores import Score, format_score
from mnsa.visualize import palette

WIDTH_IN = 4.6  # of a figure: about as wide as a phone, so that letters keep their size there

RASTERIZE_ABOVE = 2000  # points; more are drawn as a bitmap inside the SVG

GRAY = "#b5b5b5"

_TEXT_COLOR = "#010203"  # replaced by the text color of the page, which depends on light or dark mode

_RC_PARAMS: dict[Any, Any] = {
    "text.parse_math": False,  # a name may contain a dollar sign
    "svg.fonttype": "none",  # letters stay text
    "svg.hashsalt": "mnsa",  # the same record gives the same page
    "font.size": 9,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "legend.labelcolor"),
        _TEXT_COLOR,
    ),
}

_IDS = re.compile(r'(\bid="|href="#|url\(#)')


def plot_color(color: palette.RGB) -> str:
    """A color of the palette as #rrggbb, for matplotlib."""
    return "#{:02x}{:02x}{:02x}".format(*color)


BLUE, ORANGE, GREEN, RED, LIGHT_BLUE = (
    plot_color(color)
    for color in (palette.BLUE, palette.ORANGE, palette.BLUISH_GREEN, palette.VERMILLION, palette.SKY_BLUE)
)


def render(template: str, **context: object) -> str:
    """Fill a template of templates/. Every value is escaped, except Markup."""
    return _environment().get_template(template).render(**context)


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes of a file as a data URI. media_type: such as `image/png`."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def new_axes(x: str, y: str, *, width: float = WIDTH_IN, height: float = 3.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes and these labels; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def add_legend_above(axes: Axes) -> None:
    """Add a legend above the axes, where it covers no curve, if a curve has a label."""
    names = axes.get_legend_handles_labels()[1]
    if not names:
        return
    columns = 2 if max(map(len, names)) > 12 else 4
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.1), ncols=columns, borderaxespad=0)


def inline_svg(name: str, draw: Callable[[], Figure]) -> Markup:
    """Draw a figure as an <svg> element in the text color of the page. name: unique on the page, of letters."""
    text = io.StringIO()
    with rc_context(_RC_PARAMS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has a font for any script
        draw().savefig(text, format="svg", transparent=True, dpi=220, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT_COLOR, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg)  # HTML does not need them
    svg = svg.replace("*{stroke-linejoin", "svg *{stroke-linejoin")  # else the rule is for the whole page
    svg = _IDS.sub(rf"\g<1>{name}-", svg).replace("<svg ", '<svg aria-hidden="true" ', 1)
    return Markup(svg)  # noqa: S704 - matplotlib escapes the names in it


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mnsa.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "score": format_score, "percent": "{:.0%}".format, "value": _format_value,
    }  # fmt: skip
    return environment


def _format_value(score: Score) -> str:
    return format_score(score.value, score.unit)
