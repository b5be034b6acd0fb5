"""`mnsa marker`: write the marker that gives photos their scale."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import console
from mnsa.errors import RunError


def marker(
    out: Annotated[Path, typer.Argument(help="New PNG file.")],
    size: Annotated[float, typer.Option(min=5, max=200, help="Side of the black square, in millimeters.")] = 30.0,
) -> None:
    """Write a marker to print and to lay beside leaves: `--px-per-mm marker` then reads the scale of each photo.

    Print it at 100 % (not fitted to the page), and check the black square with a ruler.

    Example: `mnsa marker marker.png --size 30`
    """
    from mnsa.data.marker import draw_marker

    if out.exists():
        raise RunError(f"{out} exists and was not changed. Choose another file.")
    try:
        draw_marker(out, size)
    except OSError as error:
        raise RunError(f"{out} can't be written: {error.strerror or error}. Choose another file.") from None
    option = "" if size == 30 else f" --marker-mm {size:g}"
    console.print(f"{out}: print it at 100 %. The black square must be {size:g} mm wide.")
    console.print(f"Then: --px-per-mm marker{option}")
