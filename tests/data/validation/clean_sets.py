"""Unusual data sets with nothing wrong about them: what a check must leave in peace."""

import shutil
from collections.abc import Callable

import numpy as np
from leaf_files import LeafFiles
from PIL import Image

RECIPES: list[Callable[[LeafFiles], None]] = []


def recipe(change: Callable[[LeafFiles], None]) -> Callable[[LeafFiles], None]:
    """Register a function that changes a data set in a harmless way."""
    RECIPES.append(change)
    return change


def saved_as(leaves: LeafFiles, suffix: str, mode: str, **options: object) -> None:
    for number, row in enumerate(leaves.rows):
        path = leaves.rename(row, "image", f"{number}{suffix}")
        Image.fromarray(leaves.pixels(path)).convert(mode).save(path, **options)


def oriented(leaves: LeafFiles, row: dict[str, str], column: str, orientation: int, **options: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = leaves.folder / row[column]
    Image.fromarray(leaves.pixels(path)).save(path, exif=exif, **options)


def narrowed(leaves: LeafFiles, row: dict[str, str]) -> None:
    for path in (leaves.image(row), leaves.mask(row)):
        Image.fromarray(leaves.pixels(path)[:, :48]).save(path)


@recipe
def leaves_as_they_are_drawn(leaves):
    pass


@recipe
def png_images(leaves):
    saved_as(leaves, ".png", "RGB")


@recipe
def tiff_images(leaves):
    saved_as(leaves, ".tif", "RGB", compression="tiff_lzw")


@recipe
def webp_images(leaves):
    saved_as(leaves, ".webp", "RGB", quality=90)


@recipe
def bmp_images_in_capitals(leaves):
    saved_as(leaves, ".BMP", "RGB")


@recipe
def grey_images(leaves):
    saved_as(leaves, ".jpeg", "L", quality=95)


@recipe
def images_with_a_palette(leaves):
    saved_as(leaves, ".png", "P")


@recipe
def images_with_an_opaque_alpha_channel(leaves):
    saved_as(leaves, ".png", "RGBA")


@recipe
def a_jpeg_with_a_preview_in_it(leaves):
    path = leaves.image(leaves.rows[0])
    leaf = Image.fromarray(leaves.pixels(path))
    leaf.save(path, format="MPO", save_all=True, append_images=[leaf.resize((16, 16))], quality=95)


@recipe
def a_photo_that_exif_turns_onto_its_mask(leaves):
    row = leaves.rows[0]
    narrowed(leaves, row)
    Image.fromarray(np.rot90(leaves.pixels(leaves.image(row)))).save(leaves.image(row))
    oriented(leaves, row, "image", 6, quality=95)


@recipe
def photo_and_mask_that_exif_turns_alike(leaves):
    row = leaves.rows[0]
    narrowed(leaves, row)
    oriented(leaves, row, "image", 8, quality=95)
    oriented(leaves, row, "mask", 8)


@recipe
def a_photo_that_exif_turns_and_that_has_no_mask(leaves):
    row = leaves.rows[0]
    oriented(leaves, row, "image", 3, quality=95)
    leaves.mask(row).unlink()
    row["mask"] = ""


@recipe
def masks_of_one_bit(leaves):
    for row in leaves.rows:
        Image.fromarray(leaves.pixels(leaves.mask(row)) > 0).save(leaves.mask(row))


@recipe
def masks_of_three_classes(leaves):
    for row in leaves.rows:
        leaf = leaves.pixels(leaves.folder / row["leaf_mask"]) > 0
        vein = leaves.pixels(leaves.mask(row)) > 0
        Image.fromarray(leaf.astype(np.uint8) + vein).save(leaves.mask(row))
    leaves.describe(mask_classes=["background", "leaf", "vein"])


@recipe
def some_rows_without_masks_and_some_without_labels(leaves):
    for row in leaves.rows[::6]:
        leaves.mask(row).unlink()
        row["mask"] = ""
    leaves.rows[1]["label"] = ""


@recipe
def images_without_classes(leaves):
    for row in leaves.rows:
        row["label"] = ""
    leaves.describe(classes=[])


@recipe
def some_rows_that_are_used_nowhere(leaves):
    leaves.rows[0]["split"] = leaves.rows[6]["split"] = ""


@recipe
def plants_that_stay_in_their_splits(leaves):
    for row in leaves.rows:
        row["group"] = f"{row['label']} {row['split']}"


@recipe
def a_scale_that_nobody_knows(leaves):
    for row in leaves.rows:
        row["px_per_mm"] = ""


@recipe
def names_in_other_scripts_with_spaces_and_commas(leaves):
    for row, name in zip(leaves.rows, ("叶 1.jpg", "Ξ, φύλλο.jpg", "ẞ.jpg", "[leaf].jpg"), strict=False):
        leaves.rename(row, "image", name)


@recipe
def a_link_that_stays_inside(leaves):
    path = leaves.image(leaves.rows[0])
    stored = leaves.folder / ".store"
    stored.mkdir()
    path.symlink_to(path.rename(stored / "leaf.jpg"))


@recipe
def files_that_are_no_images_or_hidden(leaves):
    (leaves.folder / "images" / "Thumbs.db").write_text("x")
    (leaves.folder / "README.txt").write_text("x")
    shutil.copytree(leaves.folder / "images", leaves.folder / "__MACOSX")
    shutil.copy(leaves.image(leaves.rows[0]), leaves.folder / "images" / "._leaf.jpg")


@recipe
def a_root_elsewhere(leaves):
    home = leaves.folder.parent / "photos"
    for name in ("images", "vein_masks", "leaf_masks"):
        shutil.move(leaves.folder / name, home / name)
    leaves.describe(root="../photos")


@recipe
def like_pictures_of_one_plant_in_one_split(leaves):
    row = leaves.of("train")
    leaf = Image.fromarray(leaves.pixels(leaves.image(row)))
    leaf.save(leaves.add(row, "again.jpg", group="p"), quality=80)


@recipe
def plain_surfaces(leaves):
    for number, split in enumerate(("train", "test")):
        Image.new("RGB", (64, 64), (200, 200, 200 + number)).save(
            leaves.add(leaves.rows[0], f"{split}.png", split=split)
        )
