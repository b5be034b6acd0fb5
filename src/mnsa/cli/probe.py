"""`mnsa probe`: the baseline of a data set in a minute."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from mnsa.cli.shared import (
    DatasetArgument,
    JsonOption,
    QuietOption,
    VerboseOption,
    console,
    image_progress,
    print_result,
    set_output,
)
from mnsa.config import load_config
from mnsa.errors import ConfigError, DataError
from mnsa.io import write_json

if TYPE_CHECKING:
    from mnsa.workflows.probe import ProbeResult, ProbeRow, Size


def probe(
    dataset: DatasetArgument,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the backbone and its weights. Default: the `small` preset.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value. Repeat it.")] = None,
    run: Annotated[Path | None, typer.Option(help="Use the backbone of this run.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Input size in pixels, as 384 or as HEIGHTxWIDTH. Repeat it. Default: two sizes."),
    ] = None,
    split: Annotated[
        Literal["val", "test"], typer.Option(help="`test`: also score the best row on test, which is read only then.")
    ] = "val",
    out: Annotated[Path | None, typer.Option("--out", help="New JSON file for all numbers.")] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Fit linear classifiers to the features of a frozen backbone: the baseline that a trained network has to beat.

    Logistic regression and nearest class mean, on levels 4 and 5, at two sizes. Validation chooses the best one.

    Example: `mnsa probe leaves --split test`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    if out and (out.exists() or not out.absolute().parent.is_dir()):
        raise DataError(f"{out} exists already, or its folder doesn't exist. Choose another file.")
    if overrides and config is None:
        raise ConfigError("--set changes a config. Give one: --config configs/small.toml.")
    sizes = [_parse_size(text) for text in size or ()]
    settings = None if config is None else load_config(config, overrides or ())
    from mnsa.cli.tables import score_tables
    from mnsa.workflows.probe import probe_dataset

    with image_progress() as show:
        result = probe_dataset(dataset, config=settings, run=run, sizes=sizes, split=split, progress=show)
    console.print(probe_table(result))
    if result.unseen_classes:
        console.print(f"Classes without training images, which are never predicted: {', '.join(result.unseen_classes)}")
    console.print(f"Best: {_describe(result.best)}. {result.seconds:.0f} s in all.")
    for table in score_tables(result.test, "test") if result.test else ():
        console.print(table)
    print_result(result.to_dict())
    if out:
        write_json(out, result.to_dict())


def probe_table(result: "ProbeResult") -> Table:
    """A row per classifier: its accuracy on validation."""
    from mnsa.metrics.scores import format_score

    images = f"{result.images['train']} training images, {result.images['val']} of validation"
    table = Table(title=Text(f"{result.dataset}, frozen {result.backbone} ({result.weights}), {images}"))
    for name in ("head", "levels", "size", "L2"):
        table.add_column(name)
    for name in ("accuracy (95 % interval)", "log-loss", "fit, s"):
        table.add_column(name, justify="right")
    for row in result.rows:
        interval = row.validation.interval_text
        accuracy = format_score(row.validation.value) + (f" ({interval})" if interval else "")
        table.add_row(
            row.head, _join(row.levels), _size_text(row.size), "" if row.l2 is None else f"{row.l2:.1e}", accuracy,
            "" if row.log_loss is None else format_score(row.log_loss), f"{row.fit_s:.1f}",
            style="bold" if row is result.best else None,
        )  # fmt: skip
    return table


def _describe(row: "ProbeRow") -> str:
    from mnsa.metrics.scores import format_score

    value = format_score(row.validation.value)
    return f"{row.head} of level {_join(row.levels)} at {_size_text(row.size)} px, validation accuracy {value}"


def _join(levels: tuple[int, ...]) -> str:
    return " + ".join(map(str, levels))


def _size_text(size: "Size") -> str:
    return f"{size[0]} x {size[1]}"


def _parse_size(text: str) -> "Size":
    match = re.fullmatch(r"(\d{2,5})(?:x(\d{2,5}))?", text)
    if match is None:
        raise ConfigError(f"--size {text} is no size. Give pixels, as 384 or as 256x512 (height x width).")
    return int(match[1]), int(match[2] or match[1])
