"""`mnsa plan`: the config that `mnsa train` makes where none is given."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mnsa.cli.shared import DatasetArgument, console
from mnsa.config import Config, dump_config, override_config
from mnsa.errors import ConfigError
from mnsa.io import atomic_write_text

if TYPE_CHECKING:
    from mnsa.workflows.plan import TrainingPlan

logger = logging.getLogger(__name__)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

BudgetOption = Annotated[
    str | None, typer.Option(help="Time for training without a config, such as 20m, 2h or 1h30m. Default: 30m.")
]
TasksOption = Annotated[
    Literal["classification", "segmentation", "both"] | None,
    typer.Option(help="What to train. Default: what the config says; without one, what has labels and masks."),
]


def plan(
    dataset: DatasetArgument,
    budget: BudgetOption = None,
    tasks: TasksOption = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value. Repeat it.")] = None,
    out: Annotated[Path | None, typer.Option(help="New TOML file for the config.")] = None,
) -> None:
    """Show how `mnsa train` without a config would train on a data set, how long, and why.

    Example: `mnsa plan leaves --budget 1h`
    """
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already. Choose another file.")
    logger.info(f"Planning for {dataset}: loading torch, looking at images, and measuring a few training steps")
    config = make_config(dataset, budget, tasks, overrides or ())
    if out is not None:
        atomic_write_text(out, dump_config(config))
        console.print(f"Written to {out}. Train with it: mnsa train {out} --data {dataset} --out RUN")


def make_config(
    dataset: Path, budget: str | None, tasks: Literal["classification", "segmentation", "both"] | None,
    overrides: Iterable[str],
) -> Config:  # fmt: skip
    """Plan a training, print the plan, and return its config with overrides. Raises: ConfigError, DataError."""
    options: dict[str, Any] = {} if budget is None else {"budget_s": parse_duration(budget)}
    from mnsa.workflows.plan import plan_training

    planned = plan_training(dataset, tasks=tasks or "auto", **options)
    console.print(plan_text(planned, dataset), highlight=False)
    console.print(f"Training takes about {_format_minutes(planned.estimate_s)} on this machine.")
    return override_config(planned.config, overrides)


def plan_text(planned: "TrainingPlan", dataset: Path) -> str:
    """A line per choice, with its reason."""
    width = max(len(choice.name) for choice in planned.choices)
    lines = (f"  {choice.name:{width}}  {choice.value}: {choice.reason}" for choice in planned.choices)
    return "\n".join([f"Plan for {dataset}:", *lines])


def parse_duration(text: str) -> float:
    """Parse a duration such as 20m, 2h, 1h30m or 90s, in seconds. Raises: ConfigError."""
    if not re.fullmatch(r"(\d{1,6}(\.\d{1,3})?[smhd])+", text):
        raise ConfigError(f"--budget {text} is no duration. Examples: 20m, 2h, 1h30m.")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
    if seconds == 0:
        raise ConfigError(f"--budget {text} is no time at all. Examples: 20m, 2h, 1h30m.")
    return seconds


def _format_minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
