"""What the verbs share: console, arguments and options, what is printed where, optional packages, and progress.

Progress is a bar on a terminal, otherwise a line every 30 seconds, on standard error.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mnsa.errors import ConfigError, MnsaError, RunError, install_command

if TYPE_CHECKING:
    from mnsa.data.image_source import ImageSource
    from mnsa.data.photo_scale import PhotoScale

_MAX_SHOWN_ERRORS = 10

_MAX_SAID_ONCE = 20

_LINE_INTERVAL_S = 30.0

console = Console(soft_wrap=True, markup=False)  # paths may contain brackets

QuietOption = Annotated[bool, typer.Option("--quiet", help="Print warnings and errors alone, on standard error.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Print progress more often.")]
JsonLinesOption = Annotated[
    bool, typer.Option("--json", help="Print a JSON object per epoch on standard output, all else on standard error.")
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print the result as one JSON object on standard output, all else on standard error."),
]

RunArgument = Annotated[Path, typer.Argument(help="Run folder.")]
DatasetArgument = Annotated[Path, typer.Argument(help="Data set: a folder with manifest.csv and dataset.toml.")]

OutOption = Annotated[Path, typer.Option("--out", help="New folder. An existing folder is never overwritten.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed.")]
OtherDataOption = Annotated[
    Path | None, typer.Option("--data", help="Data set to use instead of the run's training data set.")
]
HeadOption = Annotated[
    Literal["network", "trees"],
    typer.Option("--head", help="Class head: the network's own, or the boosted trees of `mnsa fit-trees`."),
]
EngineName = Literal["onnx", "openvino", "torch"]
PrecisionOption = Annotated[
    Literal["float32", "bfloat16", "int8"],
    typer.Option("--precision", help="Precision of the exported network. bfloat16: openvino. int8: onnx, openvino."),
]


class TtaName(StrEnum):
    """Names for `tta` of `mnsa.load`. An enumeration, because Typer takes no list of a Literal."""

    flips = "flips"
    rot90 = "rot90"
    scales = "scales"


TtaOption = Annotated[
    list[TtaName] | None,
    typer.Option("--tta", help="Test-time augmentation: average over flips, 90-degree rotations or scales. Repeat it."),
]
MaskThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--mask-threshold",
        help="Masks are the pixels above this probability, without the run's postprocessing. For one mask class.",
    ),
]
RepairOption = Annotated[
    bool | None,
    typer.Option("--repair/--no-repair", help="Close gaps of veins. Default: as the run's validation images decided."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale",
        metavar="auto|FACTOR",
        help="Resize images for a network of veins: by a factor, or `auto`, as it suits each image.",
    ),
]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images per batch. Default: 4 on a CPU, 32 on a GPU.")
]
ExcelOption = Annotated[
    bool, typer.Option("--excel", help="Also write a copy of the table for Excel, with the best classes in columns.")
]
DecimalCommaOption = Annotated[
    bool, typer.Option("--decimal-comma", help="Like --excel, with decimal commas, and `;` between the cells.")
]
MaskClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mask-class",
        help="Name of a mask class. One name is enough for masks of 0 and 1. Otherwise repeat it, in order of pixel "
        "value, background (0) first.",
    ),
]
PxPerMmOption = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|dpi|marker|CSV",
        help="Scale, in pixels per millimeter: a number; `dpi`, the resolution in the file of a scan; `marker`, the "
        "printed one of `mnsa marker`; or a CSV file with the columns image and px_per_mm. Default: traits in pixels.",
    ),
]
MarkerOption = Annotated[
    float, typer.Option("--marker-mm", min=5, max=200, help="Side of the marker's black square, in millimeters.")
]
VeinOption = Annotated[list[str] | None, typer.Option("--vein", help="Mask class that shows veins. Repeat it.")]
LeafOption = Annotated[list[str] | None, typer.Option("--leaf", help="Mask class that shows the leaf. Repeat it.")]
LesionOption = Annotated[list[str] | None, typer.Option("--lesion", help="Mask class that shows lesions. Repeat it.")]
ReferenceAreaOption = Annotated[
    Literal["hull", "image"],
    typer.Option(help="Area for vein density when no leaf mask exists: convex hull of the veins, or the whole image."),
]


class ConsoleHandler(logging.Handler):
    """Prints log messages to standard output as plain lines; warnings are marked. json: epochs as JSON objects.

    said_once: what a command has said and says no more, such as the files with several pages.
    """

    json = False
    said_once: ClassVar[set[str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what was said, by the attribute `said_once`, and what would be a list of many files."""
        text = getattr(record, "said_once", "")
        if not text or text in self.said_once:
            return not text
        self.said_once.add(text)
        if len(self.said_once) == _MAX_SAID_ONCE + 1:
            record.msg, record.args = "... and further files of this kind, which are not named", ()
        return len(self.said_once) <= _MAX_SAID_ONCE + 1

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message. Its attribute `epoch`, if any, is a row of metrics.csv."""
        if hasattr(record, "epoch") and self.json:
            print_result({name: _parse_cell(value) for name, value in record.epoch.items()})
        elif record.levelno >= logging.WARNING:
            print_warning(self.format(record))
        else:
            console.print(self.format(record), highlight=False)


@contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Print none of a logger's messages."""
    logger = logging.getLogger(name)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def set_output(*, quiet: bool = False, verbose: bool = False, json: bool = False) -> None:
    """Choose what this command prints, and where. Raises: ConfigError for options that contradict each other."""
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose contradict each other. Give one of them.")
    console.quiet, console.stderr, ConsoleHandler.json = quiet, json, json
    ConsoleHandler.said_once.clear()
    level = logging.WARNING if quiet and not json else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("mnsa").setLevel(level)


def print_warning(text: str) -> None:
    """Print a line in yellow; with --quiet on standard error."""
    shown = Console(stderr=True, soft_wrap=True, markup=False) if console.quiet else console
    shown.print(text, style="yellow", highlight=False)


def print_result(values: Mapping[str, Any]) -> None:
    """Print a JSON object on standard output, if --json asks for it. What is no finite number is null."""
    if ConsoleHandler.json:
        print(json.dumps(_finite(values), default=str), flush=True)  # noqa: T201


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _parse_cell(text: str) -> str | int | float:
    """Parse a cell of metrics.csv: a number, or text."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def parse_scale(text: str) -> float | Literal["auto"]:
    """Read `auto` or a number. Raises: ConfigError."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--scale is {text!r}; expected auto, or a number such as 0.5.") from None


def split_scale(text: str | None, marker_mm: float) -> tuple[float | None, "PhotoScale | None"]:
    """Read `--px-per-mm`: the scale of a measurer, and what finds that of each photo. Raises: MnsaError."""
    if text is None:
        return None, None
    from mnsa.data.photo_scale import PhotoScale, parse_scale_option

    scale = parse_scale_option(text, marker_mm=marker_mm)
    return (1.0, scale) if isinstance(scale, PhotoScale) else (scale, None)


def print_excel_copy(table: Path, *, excel: bool, decimal_comma: bool) -> None:
    """Write the copy of a table for Excel, if it is asked for. Raises: RunError."""
    if not (excel or decimal_comma) or not table.exists():
        return
    from mnsa.workflows.excel_table import write_excel_table

    try:
        console.print(f"For Excel: {write_excel_table(table, decimal_comma=decimal_comma)}")
    except OSError as error:
        raise RunError(f"The copy of {table} for Excel can't be written: {error.strerror or error}.") from None


def offer_dpi(image: "ImageSource") -> None:
    """Say that a photo has a resolution, which is never used without being asked for."""
    from mnsa.data.photo_scale import read_dpi_scale

    with suppress(MnsaError):
        if scale := read_dpi_scale(image):
            console.print(
                f"{image} says {scale * 25.4:.0f} dpi, {scale:.4g} px per mm. If it is a scan, --px-per-mm dpi gives "
                "traits in millimeters; cameras write a number that means nothing."
            )


def require_extra(module: str, extra: str) -> None:
    """Raise ConfigError with the install command when an optional package is missing."""
    if find_spec(module) is None:
        raise ConfigError(f"This needs {module}, which is missing: {install_command(extra)}.")


def print_errors(errors: Sequence[tuple[str, str]], failed: int, table: Path) -> None:
    """Name the first files that failed (path, error), and say where the other errors are."""
    shown = errors[:_MAX_SHOWN_ERRORS]
    for path, error in shown:
        print_warning(f"{path}: {error}" if path not in error else error)
    if failed > len(shown):
        print_warning(f"... and {failed - len(shown)} more, in the column error of {table}")


@contextmanager
def image_progress(screen: Console | None = None) -> Iterator[Callable[[int, int, int], None]]:
    """Yield a callback for (images finished, images in all, images finished by this call).

    The first and the third number differ when work is resumed. The callback shows images per second and the time left;
    with --quiet nothing.
    """
    screen = screen or Console(stderr=True, soft_wrap=True, quiet=console.quiet)
    start = time.monotonic()
    if screen.is_terminal and not screen.quiet:
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")
        with Progress(*columns, console=screen) as bar:
            task = bar.add_task("", total=None, speed="")

            def show(finished: int, total: int, new: int) -> None:
                bar.update(task, completed=finished, total=total, speed=_speed_since(start, total - finished, new))

            yield show
    else:
        last = start
        interval_s = 0.0 if logging.getLogger("mnsa").isEnabledFor(logging.DEBUG) else _LINE_INTERVAL_S

        def show(finished: int, total: int, new: int) -> None:
            nonlocal last
            if time.monotonic() - last >= interval_s:
                last = time.monotonic()
                speed = _speed_since(start, total - finished, new)
                screen.print(f"{finished} of {total} images, {speed}", highlight=False)

        yield show


def format_speed(remaining: int, finished: int, seconds: float) -> str:
    """Format images per second and the remaining time, from `finished` images in `seconds`."""
    if not finished or seconds <= 0:
        return ""
    rate = finished / seconds
    minutes, rest = divmod(round(remaining / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{rate:.3g} images/s, {hours}:{minutes:02}:{rest:02} left"


def _speed_since(start: float, remaining: int, finished: int) -> str:
    return format_speed(remaining, finished, time.monotonic() - start)
