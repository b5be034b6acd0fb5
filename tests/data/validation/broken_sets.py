"""Ways to break a sound data set, each in one respect, and the finding that must be found."""

import os
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from leaf_files import LeafFiles
from PIL import Image, ImageOps


class Recipe(NamedTuple):
    """What to do to a data set; the kind of finding it must show; the file it must name; what else may follow."""

    spoil: Callable[[LeafFiles], str]
    kind: str
    also: frozenset[str]


RECIPES: list[Recipe] = []


def recipe(kind: str, *also: str) -> Callable[[Callable[[LeafFiles], str]], Callable[[LeafFiles], str]]:
    """Register a function that breaks a data set and returns the file that is to be named."""

    def register(spoil: Callable[[LeafFiles], str]) -> Callable[[LeafFiles], str]:
        RECIPES.append(Recipe(spoil, kind, frozenset(also)))
        return spoil

    return register


def rotated(path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, quality=95, exif=exif)


def narrowed(leaves: LeafFiles, row: dict[str, str]) -> None:
    for path in (leaves.image(row), leaves.mask(row)):
        with Image.open(path) as image:
            image.crop((0, 0, 48, 64)).save(path)


# the two files


@recipe("manifest")
def a_description_that_is_no_toml(leaves):
    (leaves.folder / "dataset.toml").write_text("classes = [")
    return str(leaves.folder)


@recipe("manifest")
def a_table_without_a_column_of_images(leaves):
    (leaves.folder / "manifest.csv").write_text("picture,label\nx.png,a\n")
    return str(leaves.folder)


@recipe("manifest")
def a_table_in_another_encoding(leaves):
    (leaves.folder / "manifest.csv").write_bytes("image\nblätter.png\n".encode("utf-16"))
    return str(leaves.folder)


@recipe("bad-row", "unlisted-file")
def a_line_with_a_cell_too_many(leaves):
    table = leaves.folder / "manifest.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1] + ",stray", *lines[2:]]) + "\n")
    return "manifest.csv"


@recipe("bad-path")
def a_path_that_climbs_out(leaves):
    leaves.rows.append({**leaves.rows[0], "image": "../outside.jpg"})
    return "../outside.jpg"


@recipe("bad-path")
def an_absolute_path(leaves):
    leaves.rows.append({**leaves.rows[0], "image": "/etc/passwd"})
    return "/etc/passwd"


@recipe("bad-path", "unlisted-file")
def a_mask_with_backslashes(leaves):
    leaves.rows[0]["mask"] = leaves.rows[0]["mask"].replace("/", "\\")
    return leaves.rows[0]["mask"]


@recipe("bad-path")
def a_row_without_an_image(leaves):
    leaves.rows.append({**leaves.rows[0], "image": ""})
    return "manifest.csv"


@recipe("bad-scale")
def a_scale_that_is_no_number(leaves):
    leaves.rows[3]["px_per_mm"] = "wide"
    return "manifest.csv"


@recipe("label-unknown")
def a_misspelt_label(leaves):
    leaves.rows[2]["label"] = "cultivar_O1"
    return leaves.rows[2]["image"]


@recipe("split-unknown")
def a_split_of_another_name(leaves):
    leaves.rows[1]["split"] = "dev"
    return leaves.rows[1]["image"]


@recipe("mask-undeclared")
def masks_without_names(leaves):
    leaves.describe(mask_classes=[])
    return leaves.rows[0]["mask"]


@recipe("listed-twice")
def an_image_listed_twice(leaves):
    leaves.rows.append(dict(leaves.rows[0]))
    return leaves.rows[0]["image"]


@recipe("listed-twice")
def an_image_listed_twice_in_other_words(leaves):
    leaves.rows.append({**leaves.rows[0], "image": f"./{leaves.rows[0]['image']}"})
    return leaves.rows[-1]["image"]


@recipe("group-leak")
def a_plant_in_two_splits(leaves):
    leaves.of("train")["group"] = leaves.of("test")["group"] = "plant 7"
    return leaves.of("test")["image"]


# image files


@recipe("missing")
def an_image_that_is_gone(leaves):
    leaves.image(leaves.rows[0]).unlink()
    return leaves.rows[0]["image"]


@recipe("missing", "unlisted-file")
def an_image_whose_case_is_another_on_disk(leaves):
    path = leaves.image(leaves.rows[0])
    path.rename(path.with_name(path.name.upper()))
    return leaves.rows[0]["image"]


@recipe("missing")
def a_mask_that_is_gone(leaves):
    leaves.mask(leaves.rows[0]).unlink()
    return leaves.rows[0]["mask"]


@recipe("missing")
def links_in_a_circle(leaves):
    path = leaves.image(leaves.rows[0])
    path.unlink()
    path.symlink_to(path.name)
    return leaves.rows[0]["image"]


@recipe("outside-root")
def a_link_out_of_the_root(leaves):
    path = leaves.image(leaves.rows[0])
    path.rename(leaves.folder.parent / "outside.jpg")
    path.symlink_to(leaves.folder.parent / "outside.jpg")
    return leaves.rows[0]["image"]


@recipe("outside-root")
def a_folder_that_is_a_link_out_of_the_root(leaves):
    shutil.move(leaves.folder / "vein_masks", leaves.folder.parent / "elsewhere")
    (leaves.folder / "vein_masks").symlink_to(leaves.folder.parent / "elsewhere")
    return leaves.rows[0]["mask"]


@recipe("zero-byte")
def an_image_of_no_bytes(leaves):
    leaves.image(leaves.rows[0]).write_bytes(b"")
    return leaves.rows[0]["image"]


@recipe("zero-byte")
def a_mask_of_no_bytes(leaves):
    leaves.mask(leaves.rows[4]).write_bytes(b"")
    return leaves.rows[4]["mask"]


@recipe("unreadable")
def an_error_page_saved_as_a_photo(leaves):
    leaves.image(leaves.rows[0]).write_text("<html>404 Not Found</html>")
    return leaves.rows[0]["image"]


@recipe("unreadable")
def a_gif(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.gif")
    Image.fromarray(leaves.pixels(path)).save(path)
    return leaves.rows[0]["image"]


@recipe("unreadable")
def a_folder_in_place_of_an_image(leaves):
    leaves.image(leaves.rows[0]).unlink()
    leaves.image(leaves.rows[0]).mkdir()
    return leaves.rows[0]["image"]


@recipe("unreadable")
def a_pipe_in_place_of_an_image(leaves):
    leaves.image(leaves.rows[0]).unlink()
    os.mkfifo(leaves.image(leaves.rows[0]))
    return leaves.rows[0]["image"]


@recipe("unreadable")
def a_mask_with_flipped_bytes(leaves):
    path = leaves.mask(leaves.rows[0])
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(255 - byte for byte in content[60:80])
    path.write_bytes(content)
    return leaves.rows[0]["mask"]


@recipe("truncated")
def half_a_jpeg(leaves):
    path = leaves.image(leaves.rows[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return leaves.rows[0]["image"]


@recipe("truncated")
def half_a_png(leaves):
    path = leaves.mask(leaves.rows[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return leaves.rows[0]["mask"]


@recipe("decompression-bomb")
def a_small_file_of_many_pixels(leaves):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    path = leaves.rename(leaves.rows[0], "image", "bomb.png")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return leaves.rows[0]["image"]


@recipe("pixel-type")
def pixels_of_32_bits(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.tif")
    Image.fromarray(leaves.pixels(path)[..., 0].astype(np.float32)).save(path)
    return leaves.rows[0]["image"]


@recipe("wrong-extension")
def a_png_that_says_it_is_a_jpeg(leaves):
    path = leaves.image(leaves.rows[0])
    Image.fromarray(leaves.pixels(path)).save(path, format="PNG")
    return leaves.rows[0]["image"]


@recipe("animated")
def a_film_in_webp(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.webp")
    still = Image.fromarray(leaves.pixels(path))
    still.save(path, save_all=True, append_images=[ImageOps.invert(still)], quality=90)
    return leaves.rows[0]["image"]


@recipe("animated")
def a_film_in_png(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.png")
    still = Image.fromarray(leaves.pixels(path))
    still.save(path, save_all=True, append_images=[ImageOps.invert(still)])
    return leaves.rows[0]["image"]


@recipe("animated")
def a_tiff_of_two_pages(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.tif")
    still = Image.fromarray(leaves.pixels(path))
    still.save(path, save_all=True, append_images=[ImageOps.invert(still)])
    return leaves.rows[0]["image"]


@recipe("lossy-mode")
def grey_of_16_bits(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.png")
    Image.fromarray(leaves.pixels(path)[..., 1].astype(np.uint16) * 257).save(path)
    return leaves.rows[0]["image"]


@recipe("lossy-mode")
def colours_of_a_printer(leaves):
    path = leaves.image(leaves.rows[0])
    Image.fromarray(leaves.pixels(path)).convert("CMYK").save(path, quality=95)
    return leaves.rows[0]["image"]


@recipe("lossy-mode")
def a_background_that_is_see_through(leaves):
    path = leaves.rename(leaves.rows[0], "image", "leaf.png")
    leaf = Image.fromarray(leaves.pixels(path))
    leaf.putalpha(Image.fromarray(leaves.pixels(leaves.folder / leaves.rows[0]["leaf_mask"])))
    leaf.save(path)
    return leaves.rows[0]["image"]


# masks


@recipe("mask-rotation")
def a_photo_that_exif_turns_away_from_its_mask(leaves):
    narrowed(leaves, leaves.rows[0])
    rotated(leaves.image(leaves.rows[0]), 6)
    return leaves.rows[0]["mask"]


@recipe("mask-rotation-unclear")
def a_photo_that_exif_turns_upside_down(leaves):
    narrowed(leaves, leaves.rows[0])
    rotated(leaves.image(leaves.rows[0]), 3)
    return leaves.rows[0]["mask"]


@recipe("mask-size")
def a_mask_of_another_size(leaves):
    with Image.open(leaves.mask(leaves.rows[0])) as mask:
        mask.crop((0, 0, 60, 64)).save(leaves.mask(leaves.rows[0]))
    return leaves.rows[0]["mask"]


@recipe("mask-values")
def a_mask_with_a_value_that_stands_for_nothing(leaves):
    mask = leaves.pixels(leaves.mask(leaves.rows[0])) // 255
    mask[5, 5] = 2
    Image.fromarray(mask).save(leaves.mask(leaves.rows[0]))
    return leaves.rows[0]["mask"]


@recipe("mask-values")
def a_mask_saved_as_jpeg(leaves):
    path = leaves.rename(leaves.rows[0], "mask", "mask.jpg")
    Image.fromarray(leaves.pixels(path)).save(path, quality=60)
    return leaves.rows[0]["mask"]


@recipe("mask-format")
def a_mask_in_colours(leaves):
    mask = leaves.pixels(leaves.mask(leaves.rows[0]))
    Image.fromarray(np.stack([mask, mask * 0, mask * 0], axis=-1)).save(leaves.mask(leaves.rows[0]))
    return leaves.rows[0]["mask"]


@recipe("mask-format")
def a_mask_of_probabilities(leaves):
    path = leaves.rename(leaves.rows[0], "mask", "mask.tif")
    Image.fromarray(leaves.pixels(path).astype(np.float32) / 255).save(path)
    return leaves.rows[0]["mask"]


@recipe("mask-empty")
def a_mask_that_marks_nothing(leaves):
    Image.new("L", (64, 64)).save(leaves.mask(leaves.rows[0]))
    return leaves.rows[0]["mask"]


@recipe("mask-full")
def a_mask_that_marks_everything(leaves):
    Image.new("L", (64, 64), 255).save(leaves.mask(leaves.rows[0]))
    return leaves.rows[0]["mask"]


@recipe("mask-shared")
def the_mask_of_another_leaf(leaves):
    shutil.copy(leaves.mask(leaves.rows[0]), leaves.mask(leaves.rows[1]))
    return leaves.rows[1]["mask"]


# classes and splits


@recipe("no-target")
def a_row_that_says_nothing(leaves):
    leaves.mask(leaves.rows[0]).unlink()
    leaves.rows[0].update(mask="", label="")
    return leaves.rows[0]["image"]


@recipe("class-not-in-train")
def a_class_to_test_with_that_nobody_teaches(leaves):
    label = leaves.rows[0]["label"]
    for row in leaves.rows:
        row["split"] = "test" if row["label"] == label and row["split"] == "train" else row["split"]
    return "manifest.csv"


@recipe("class-not-in-train")
def a_class_without_images(leaves):
    classes = sorted({row["label"] for row in leaves.rows})
    leaves.describe(classes=[*classes, "unseen"])
    return "manifest.csv"


@recipe("class-not-in-split")
def a_class_that_is_not_validated(leaves):
    leaves.of("val")["split"] = "train"
    return "manifest.csv"


@recipe("class-small", "class-not-in-split")
def a_class_of_two_images(leaves):
    label = leaves.rows[0]["label"]
    for row in [row for row in leaves.rows if row["label"] == label][:-2]:
        row["label"] = "cultivar_02"
    leaves.rows[5]["split"] = "train"
    return "manifest.csv"


@recipe("split-empty")
def nothing_to_choose_by(leaves):
    for row in leaves.rows:
        row["split"] = row["split"].replace("val", "train")
    return "manifest.csv"


# the same picture twice


@recipe("duplicate-across-splits")
def a_training_image_among_the_test_images(leaves):
    row = leaves.of("train")
    shutil.copy(leaves.image(row), leaves.add(row, "copy.jpg", split="test"))
    return "images/copy.jpg"


@recipe("duplicate-across-labels")
def one_image_under_two_labels(leaves):
    row = leaves.of("train")
    shutil.copy(leaves.image(row), leaves.add(row, "copy.jpg", label="cultivar_02"))
    return "images/copy.jpg"


@recipe("duplicate")
def an_image_that_counts_twice(leaves):
    row = leaves.of("train")
    shutil.copy(leaves.image(row), leaves.add(row, "copy.jpg"))
    return "images/copy.jpg"


def altered(leaves: LeafFiles, change: Callable[[Image.Image], Image.Image], quality: int = 95, **cells: str) -> str:
    row = leaves.of("train", 1)
    change(Image.fromarray(leaves.pixels(leaves.image(row)))).save(
        leaves.add(row, "like.jpg", **cells), quality=quality
    )
    return "images/like.jpg"


@recipe("near-duplicate-across-splits")
def a_test_image_that_is_a_training_image_recompressed(leaves):
    return altered(leaves, lambda image: image, quality=50, split="test")


@recipe("near-duplicate-across-splits")
def a_test_image_that_is_a_training_image_at_half_its_size(leaves):
    return altered(leaves, lambda image: image.resize((32, 32)), split="test")


@recipe("near-duplicate-across-splits")
def a_validation_image_that_is_a_training_image_mirrored(leaves):
    return altered(leaves, ImageOps.mirror, split="val")


@recipe("near-duplicate-across-splits")
def a_test_image_that_is_a_training_image_turned(leaves):
    return altered(leaves, lambda image: image.rotate(90), split="test")


@recipe("near-duplicate-across-splits")
def a_test_image_that_is_a_training_image_in_other_light(leaves):
    return altered(leaves, lambda image: image.point(lambda value: min(255, int(value * 1.15))), split="test")


@recipe("near-duplicate-across-labels")
def a_mirrored_image_of_another_label(leaves):
    return altered(leaves, ImageOps.mirror, label="cultivar_03")


# names


@recipe("name-collision")
def names_that_differ_in_case_alone(leaves):
    leaves.rename(leaves.rows[0], "image", "leaf.jpg")
    leaves.rename(leaves.rows[1], "image", "Leaf.JPG")
    return leaves.rows[1]["image"]


@recipe("name-collision")
def names_that_differ_in_unicode_form_alone(leaves):
    leaves.rename(leaves.rows[0], "image", unicodedata.normalize("NFC", "kaffeeblätter.jpg"))
    leaves.rename(leaves.rows[1], "image", unicodedata.normalize("NFD", "kaffeeblätter.jpg"))
    return leaves.rows[1]["image"]


@recipe("name-collision", "class-not-in-split")
def classes_that_differ_in_case_alone(leaves):
    for row in leaves.rows[::2]:
        row["label"] = row["label"].replace("cultivar_03", "Cultivar_03")
    leaves.describe(classes=sorted({row["label"] for row in leaves.rows}))
    return "dataset.toml"


@recipe("unlisted-file")
def an_image_that_no_row_names(leaves):
    shutil.copy(leaves.image(leaves.rows[0]), leaves.folder / "images" / "forgotten.jpg")
    return "images/forgotten.jpg"
