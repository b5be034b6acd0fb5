"""The verb that measures masks."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.app import Ground, LeafNames, LesionNames, MaskNames, PxPerMm, VeinNames, app, console
from mnsa.errors import ConfigError


@app.command()
def traits(
    masks: Annotated[list[str], typer.Argument(help="Mask files, folders or globs.")],
    out: Annotated[Path, typer.Option(help="New CSV file; one that exists is never overwritten.")],
    px_per_mm: PxPerMm = None,
    mask_class: MaskNames = None,
    vein: VeinNames = None,
    leaf: LeafNames = None,
    lesion: LesionNames = None,
    leaf_masks: Annotated[
        Path | None, typer.Option(help="Folder of leaf masks (0 and 1 or 255), of the masks' names.")
    ] = None,
    ground: Ground = "hull",
) -> None:
    """Measure masks: leaf, veins, areoles, lesions, a row each. Exit code 3 when a file was broken.

    Unnamed masks (0 and 1 or 255) show veins. Example: `mnsa traits answers/masks --px-per-mm 20 --out traits.csv`
    """
    from mnsa.traits import Ruler, find_roles
    from mnsa.traits.roles import UNNAMED

    names = mask_class or [UNNAMED]
    roles = find_roles(names, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
    if leaf_masks is not None and roles.leaf:
        raise ConfigError("The masks show the leaf themselves. Leave out --leaf-masks, or don't name a class leaf.")
    ruler = Ruler(roles, px_per_mm=px_per_mm, ground=ground, leaf_apart=leaf_masks is not None)
    from mnsa.inference.files import find_images
    from mnsa.inference.trait_files import measure_files

    measured = measure_files(ruler, find_images(masks), out, mask_classes=len(names), leaf_masks=leaf_masks)
    console.print(f"{measured.done} measured, {measured.broken} broken: {out}")
    if measured.broken:
        raise typer.Exit(3)
