"""What the verbs share: the app they hang on, their common options, and the way out for errors."""

import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from mnsa.errors import ConfigError, MnsaError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which cultivar is this leaf, and where are its veins: one network for both.",
    epilog=(
        "Example: `mnsa import folders photos/ --out leaves`, then "
        "`mnsa train configs/small.toml --data leaves --out runs/first`, then "
        "`mnsa predict runs/first new_photos/ --out answers`"
    ),
)
console = Console(soft_wrap=True, markup=False)  # a path may hold brackets

HeadOption = Annotated[
    Literal["network", "trees"],
    typer.Option("--head", help="Who says the class: the network's own head, or its `mnsa fit-trees`."),
]
EngineOption = Literal["onnx", "openvino", "torch"]
PrecisionOption = Annotated[
    Literal["float32", "bfloat16", "int8"],
    typer.Option("--precision", help="Of the exported network; bfloat16: openvino alone; int8: onnx and openvino."),
]


class TtaName(StrEnum):
    """What `mnsa.load` knows as `tta`: typer takes a list of an enumeration, but not of a Literal."""

    flips = "flips"
    rot90 = "rot90"
    scales = "scales"


TtaOption = Annotated[
    list[TtaName] | None,
    typer.Option("--tta", help="Average over views of each image: flips, rotations by 90 degrees, scales; repeat it."),
]
OutOption = Annotated[Path, typer.Option("--out", help="New folder; one that exists is never overwritten.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]
MaskClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mask-class",
        help="Name of a mask class. One is enough for a mask of 0 and 1; else repeat it, in order of pixel value, the "
        "background (0) first.",
    ),
]
PxPerMmOption = Annotated[
    float | None, typer.Option(help="Scale, in pixels per millimetre; without it traits are in pixels.")
]
VeinOption = Annotated[
    list[str] | None, typer.Option("--vein", help="Mask class that is vein, if not called so; repeat it.")
]
LeafOption = Annotated[
    list[str] | None, typer.Option("--leaf", help="Mask class that is leaf, if not called so; repeat it.")
]
LesionOption = Annotated[
    list[str] | None, typer.Option("--lesion", help="Mask class that is lesion, if not called so; repeat it.")
]
ReferenceAreaOption = Annotated[
    Literal["hull", "image"],
    typer.Option(help="What vein density relates to where no leaf is known: the veins' convex hull, or the image."),
]


def main() -> None:
    """Entry point of the `mnsa` command: a MnsaError becomes one paragraph and its exit code."""
    try:
        app(prog_name="mnsa")
    except MnsaError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(error.exit_code)


def require_extra(module: str, extra: str) -> None:
    """Raises: ConfigError saying how to install what a verb needs beyond the basics."""
    if find_spec(module) is None:
        raise ConfigError(f"This needs {module}, which is missing: pip install 'mnsa[{extra}]'.")
