"""`mnsa compare`: whether one run is better than another."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mnsa.cli.shared import console
from mnsa.errors import RunError

if TYPE_CHECKING:
    from mnsa.metrics.comparison import Comparison

RunsArgument = Annotated[str, typer.Argument(help="Run folder, or a glob of runs with different seeds.")]


def compare(
    first: RunsArgument,
    second: RunsArgument,
    split: Annotated[str, typer.Option(help="Which evaluation: an entry of evaluation.json, such as test.")] = "test",
) -> None:
    """Compare two runs, or two sets of runs, on the images that all were evaluated on.

    Differences are second minus first, with a 95 % interval and a p-value over images, or over groups where images
    have them. With several runs on both sides there is an interval over seeds, too.

    Example: `mnsa compare 'runs/unet_seed*' 'runs/small_seed*'`
    """
    from mnsa.metrics.comparison import compare_runs

    sides = [find_runs(pattern) for pattern in (first, second)]
    rows = [[read_rows(run, split) for run in side] for side in sides]
    console.print(comparison_table(compare_runs(*rows), f"{first} -> {second}, {split}"))


def find_runs(pattern: str) -> list[Path]:
    """The run folder, or those that a glob finds. Raises: RunError when there is none."""
    path = Path(pattern)
    runs = [path] if path.exists() else [Path(found) for found in sorted(glob.glob(pattern))]  # noqa: PTH207 - absolute
    if not runs:
        raise RunError(f"There is no run {pattern}. Give a run folder of mnsa train, or a glob in quotes.")
    return runs


def read_rows(path: Path, split: str) -> list[Mapping[str, str]]:
    """The row of each image in one evaluation of a run. Raises: RunError when the run has no such evaluation."""
    from mnsa.metrics.evaluation_files import evaluation_folder, read_image_rows
    from mnsa.run_folder import open_run_folder

    run = open_run_folder(path)
    folder = evaluation_folder(run, split)
    if not folder.table.is_file():
        raise RunError(f"{path} has no evaluation {split!r}. Make it: mnsa evaluate {path} --split {split}.")
    return read_image_rows(folder)


def comparison_table(comparisons: "list[Comparison]", title: str) -> Table:
    """A row per score."""
    from mnsa.metrics.scores import format_interval, format_score

    with_seeds = any(one.seed_interval for one in comparisons)
    images, groups = max((one.images, one.groups) for one in comparisons)
    units = f"{images} images" if images == groups else f"{images} images in {groups} groups"
    table = Table(title=Text(title), caption=f"95 % intervals and p-values over {units}")
    table.add_column("score")
    for name in ("first", "second", "difference", "interval", "p", *(["over seeds"] if with_seeds else [])):
        table.add_column(name, justify="right")
    for one in comparisons:
        numbers = [format_score(value) for value in (one.first, one.second, one.difference)]
        interval = format_interval(one.interval) if one.interval else ""
        seeds = format_interval(one.seed_interval) if one.seed_interval else ""
        table.add_row(Text(one.name), *numbers, interval, f"{one.p_value:.3g}", *([seeds] if with_seeds else []))
    return table
