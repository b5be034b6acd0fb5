"""Unusual data sets without any problem: validation must find nothing."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
from editable_dataset import EditableDataset, read_array
from PIL import Image

Change = Callable[[EditableDataset], None]

CHANGES: list[Change] = []


def harmless(change: Change) -> Change:
    """Register a function that changes a data set without making it wrong."""
    CHANGES.append(change)
    return change


def save_images_as(dataset: EditableDataset, suffix: str, mode: str, **options: Any) -> None:
    for number, row in enumerate(dataset.rows):
        path = dataset.rename(row, "image", f"{number}{suffix}")
        Image.fromarray(read_array(path)).convert(mode).save(path, **options)


@harmless
def no_change(dataset: EditableDataset) -> None:
    pass


@harmless
def leaves_that_fill_the_photo(dataset: EditableDataset) -> None:
    dataset.update_toml(mask_classes=["leaf"])
    for number, row in enumerate(dataset.rows):
        mask = np.full(read_array(dataset.mask_path(row)).shape, 255, np.uint8)
        mask[: 8 + number] = 0
        Image.fromarray(mask).save(dataset.mask_path(row))


# image formats


@harmless
def png_images(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".png", "RGB")


@harmless
def tiff_images(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".tif", "RGB", compression="tiff_lzw")


@harmless
def webp_images(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".webp", "RGB", quality=90)


@harmless
def bmp_images_with_upper_case_suffix(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".BMP", "RGB")


@harmless
def gray_images(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".jpeg", "L", quality=95)


@harmless
def palette_images(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".png", "P")


@harmless
def images_with_opaque_alpha(dataset: EditableDataset) -> None:
    save_images_as(dataset, ".png", "RGBA")


@harmless
def jpeg_with_a_preview(dataset: EditableDataset) -> None:
    path = dataset.image_path(dataset.first)
    image = Image.fromarray(read_array(path))
    image.save(path, format="MPO", save_all=True, append_images=[image.resize((16, 16))], quality=95)


# masks and EXIF orientation


@harmless
def rotated_photo_whose_mask_fits_the_upright_photo(dataset: EditableDataset) -> None:
    row = dataset.first
    dataset.crop_width(row)
    Image.fromarray(np.rot90(read_array(dataset.image_path(row)))).save(dataset.image_path(row))
    dataset.set_orientation(row, "image", 6)


@harmless
def photo_and_mask_with_the_same_orientation(dataset: EditableDataset) -> None:
    dataset.crop_width(dataset.first)
    dataset.set_orientation(dataset.first, "image", 8)
    dataset.set_orientation(dataset.first, "mask", 8)


@harmless
def rotated_photo_without_a_mask(dataset: EditableDataset) -> None:
    dataset.set_orientation(dataset.first, "image", 3)
    dataset.remove_mask(dataset.first)


@harmless
def one_bit_masks(dataset: EditableDataset) -> None:
    for row in dataset.rows:
        Image.fromarray(read_array(dataset.mask_path(row)) > 0).save(dataset.mask_path(row))


@harmless
def masks_of_three_classes(dataset: EditableDataset) -> None:
    for row in dataset.rows:
        leaf = read_array(dataset.folder / row["leaf_mask"]) > 0
        vein = read_array(dataset.mask_path(row)) > 0
        Image.fromarray(leaf.astype(np.uint8) + vein).save(dataset.mask_path(row))
    dataset.update_toml(mask_classes=["background", "leaf", "vein"])


# rows, classes and splits


@harmless
def some_rows_without_a_mask_and_one_without_a_label(dataset: EditableDataset) -> None:
    for row in dataset.rows[::6]:
        dataset.remove_mask(row)
    dataset.rows[1]["label"] = ""


@harmless
def no_classes(dataset: EditableDataset) -> None:
    for row in dataset.rows:
        row["label"] = ""
    dataset.update_toml(classes=[])


@harmless
def some_unused_rows(dataset: EditableDataset) -> None:
    dataset.rows[0]["split"] = dataset.rows[6]["split"] = ""


@harmless
def groups_within_splits(dataset: EditableDataset) -> None:
    for row in dataset.rows:
        row["group"] = f"{row['label']} {row['split']}"


@harmless
def no_scale(dataset: EditableDataset) -> None:
    for row in dataset.rows:
        row["px_per_mm"] = ""


@harmless
def similar_images_of_one_group_in_one_split(dataset: EditableDataset) -> None:
    row = dataset.first_row_of("train")
    image = Image.fromarray(read_array(dataset.image_path(row)))
    image.save(dataset.add_row(row, "again.jpg", group="p"), quality=80)


@harmless
def images_of_one_color_in_two_splits(dataset: EditableDataset) -> None:
    for number, split in enumerate(("train", "test")):
        image = Image.new("RGB", (64, 64), (200, 200, 200 + number))
        image.save(dataset.add_row(dataset.first, f"{split}.png", split=split))


# names and places


@harmless
def names_in_other_scripts_with_spaces_and_commas(dataset: EditableDataset) -> None:
    for row, name in zip(dataset.rows, ("叶 1.jpg", "Ξ, φύλλο.jpg", "ẞ.jpg", "[leaf].jpg"), strict=False):
        dataset.rename(row, "image", name)


@harmless
def link_inside_the_root(dataset: EditableDataset) -> None:
    path = dataset.image_path(dataset.first)
    store = dataset.folder / ".store"
    store.mkdir()
    path.symlink_to(path.rename(store / "leaf.jpg"))


@harmless
def ignored_files(dataset: EditableDataset) -> None:
    (dataset.folder / "images" / "Thumbs.db").write_text("x")
    (dataset.folder / "README.txt").write_text("x")
    shutil.copytree(dataset.folder / "images", dataset.folder / "__MACOSX")
    shutil.copy(dataset.image_path(dataset.first), dataset.folder / "images" / "._leaf.jpg")


@harmless
def root_in_another_folder(dataset: EditableDataset) -> None:
    root = dataset.folder.parent / "photos"
    for name in ("images", "vein_masks", "leaf_masks"):
        shutil.move(dataset.folder / name, root / name)
    dataset.update_toml(root="../photos")
