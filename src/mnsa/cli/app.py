"""The `mnsa` command: all verbs in the order of the help, log messages on the terminal, exit codes for errors."""

import errno
import io
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mnsa import __version__
from mnsa.cli.calibrate import calibrate
from mnsa.cli.check import check
from mnsa.cli.compare import compare
from mnsa.cli.convert import convert
from mnsa.cli.evaluate import evaluate
from mnsa.cli.export import export
from mnsa.cli.fit_trees import fit_trees
from mnsa.cli.import_checkpoint import import_checkpoint
from mnsa.cli.import_data import import_app
from mnsa.cli.marker import marker
from mnsa.cli.plan import plan
from mnsa.cli.predict import predict
from mnsa.cli.probe import probe
from mnsa.cli.report import report
from mnsa.cli.search import search
from mnsa.cli.serve import serve
from mnsa.cli.shared import ConsoleHandler, console, set_output
from mnsa.cli.split import split
from mnsa.cli.study import study
from mnsa.cli.synth import synth
from mnsa.cli.train import train
from mnsa.cli.traits import traits
from mnsa.cli.veins import veins
from mnsa.errors import ConfigError, MnsaError, is_out_of_memory

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of a full disk, or one that can't be written

VERBS = {
    "Prepare data": (synth, check, split, convert),
    "Train": (probe, plan, train, calibrate, fit_trees, search, import_checkpoint),
    "Evaluate": (evaluate, compare, study, report),
    "Predict and measure": (veins, predict, traits, marker, serve, export),
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Classify leaf images by cultivar and segment their veins, with one network.",
    epilog=(
        "Example: `mnsa import folders photos/ --out leaves`, then "
        "`mnsa train --data leaves --out runs/first`, then "
        "`mnsa predict runs/first new_photos/ --out predictions`"
    ),
)
for _panel, _verbs in VERBS.items():
    for _verb in _verbs:
        app.command(rich_help_panel=_panel)(_verb)
app.add_typer(import_app, name="import", rich_help_panel="Prepare data")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        console.print(f"mnsa {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and end.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run the command line. A MnsaError becomes one paragraph on standard error and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may have characters that the terminal has not
    _show_log_messages()
    set_output()
    try:
        _require_folder()
        app(prog_name="mnsa")
    except MnsaError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            place = error.filename or "the output of the command"
            _print_error(f"{place}: {error.strerror}. Free space, or write to another disk, and repeat the command.")
            with suppress(OSError, ValueError):  # what is left to print would be tried, and fail, once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(MnsaError.exit_code)
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        _print_error(f"Not enough memory ({reason}). Close other programs, raise the limit, or give smaller batches.")
        sys.exit(MnsaError.exit_code)


def _require_folder() -> None:
    """Reject a current folder that was removed, which relative paths need. Raises: ConfigError."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("The current folder no longer exists. Change to another folder: cd.") from None


def _print_error(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]Error:[/] {escape(text)}", highlight=False)


def _show_log_messages() -> None:
    logger = logging.getLogger("mnsa")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
