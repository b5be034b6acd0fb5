"""Data sets with a problem in an image or a mask file, or with an image that occurs more than once."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable

import numpy as np
import tifffile
from broken_set import breaks
from editable_dataset import EditableDataset, read_array
from PIL import Image, ImageOps

# files that are missing or outside of the root


@breaks("missing")
def missing_image(dataset: EditableDataset) -> str:
    dataset.image_path(dataset.first).unlink()
    return dataset.first["image"]


@breaks("missing", "unlisted-file")
def image_name_in_upper_case_on_disk(dataset: EditableDataset) -> str:
    path = dataset.image_path(dataset.first)
    path.rename(path.with_name(path.name.upper()))
    return dataset.first["image"]


@breaks("missing")
def missing_mask(dataset: EditableDataset) -> str:
    dataset.mask_path(dataset.first).unlink()
    return dataset.first["mask"]


@breaks("missing")
def link_to_itself(dataset: EditableDataset) -> str:
    path = dataset.image_path(dataset.first)
    path.unlink()
    path.symlink_to(path.name)
    return dataset.first["image"]


@breaks("outside-root")
def link_out_of_the_root(dataset: EditableDataset) -> str:
    path = dataset.image_path(dataset.first)
    path.rename(dataset.folder.parent / "outside.jpg")
    path.symlink_to(dataset.folder.parent / "outside.jpg")
    return dataset.first["image"]


@breaks("outside-root")
def folder_that_is_a_link_out_of_the_root(dataset: EditableDataset) -> str:
    shutil.move(dataset.folder / "vein_masks", dataset.folder.parent / "elsewhere")
    (dataset.folder / "vein_masks").symlink_to(dataset.folder.parent / "elsewhere")
    return dataset.first["mask"]


# files that are no images, or damaged


@breaks("zero-byte")
def empty_image_file(dataset: EditableDataset) -> str:
    dataset.image_path(dataset.first).write_bytes(b"")
    return dataset.first["image"]


@breaks("zero-byte")
def empty_mask_file(dataset: EditableDataset) -> str:
    dataset.mask_path(dataset.rows[4]).write_bytes(b"")
    return dataset.rows[4]["mask"]


@breaks("unreadable")
def html_page_with_an_image_name(dataset: EditableDataset) -> str:
    dataset.image_path(dataset.first).write_text("<html>404 Not Found</html>")
    return dataset.first["image"]


@breaks("unreadable")
def gif_image(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "image", "leaf.gif")
    Image.fromarray(read_array(path)).save(path)
    return dataset.first["image"]


@breaks("unreadable")
def folder_with_an_image_name(dataset: EditableDataset) -> str:
    dataset.image_path(dataset.first).unlink()
    dataset.image_path(dataset.first).mkdir()
    return dataset.first["image"]


@breaks("unreadable")
def pipe_with_an_image_name(dataset: EditableDataset) -> str:
    dataset.image_path(dataset.first).unlink()
    os.mkfifo(dataset.image_path(dataset.first))
    return dataset.first["image"]


@breaks("unreadable")
def mask_with_inverted_bytes(dataset: EditableDataset) -> str:
    path = dataset.mask_path(dataset.first)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(255 - byte for byte in content[60:80])
    path.write_bytes(content)
    return dataset.first["mask"]


@breaks("truncated")
def first_half_of_a_jpeg(dataset: EditableDataset) -> str:
    path = dataset.image_path(dataset.first)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return dataset.first["image"]


@breaks("truncated")
def first_half_of_a_png(dataset: EditableDataset) -> str:
    path = dataset.mask_path(dataset.first)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return dataset.first["mask"]


@breaks("decompression-bomb")
def small_file_with_many_pixels(dataset: EditableDataset) -> str:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    path = dataset.rename(dataset.first, "image", "bomb.png")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return dataset.first["image"]


# image formats and pixel types


@breaks("unsupported")
def big_endian_bigtiff(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "image", "leaf.tif")
    tifffile.imwrite(path, read_array(path), bigtiff=True, byteorder=">")
    return dataset.first["image"]


@breaks("pixel-type")
def image_of_32_bit_pixels(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "image", "leaf.tif")
    Image.fromarray(read_array(path)[..., 0].astype(np.float32)).save(path)
    return dataset.first["image"]


@breaks("wrong-extension")
def png_named_jpg(dataset: EditableDataset) -> str:
    path = dataset.image_path(dataset.first)
    Image.fromarray(read_array(path)).save(path, format="PNG")
    return dataset.first["image"]


def save_two_frames(dataset: EditableDataset, name: str) -> str:
    path = dataset.rename(dataset.first, "image", name)
    frame = Image.fromarray(read_array(path))
    frame.save(path, save_all=True, append_images=[ImageOps.invert(frame)], quality=90)
    return dataset.first["image"]


@breaks("animated")
def animated_webp(dataset: EditableDataset) -> str:
    return save_two_frames(dataset, "leaf.webp")


@breaks("animated")
def animated_png(dataset: EditableDataset) -> str:
    return save_two_frames(dataset, "leaf.png")


@breaks("animated")
def tiff_of_two_pages(dataset: EditableDataset) -> str:
    return save_two_frames(dataset, "leaf.tif")


@breaks("image-small")
def image_of_a_few_pixels(dataset: EditableDataset) -> str:
    for column in ("image", "mask", "leaf_mask"):
        path = dataset.folder / dataset.first[column]
        Image.fromarray(read_array(path)).resize((15, 20), Image.Resampling.NEAREST).save(path)
    return dataset.first["image"]


@breaks("lossy-mode")
def gray_of_16_bits(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "image", "leaf.png")
    Image.fromarray(read_array(path)[..., 1].astype(np.uint16) * 257).save(path)
    return dataset.first["image"]


@breaks("lossy-mode")
def cmyk_colors(dataset: EditableDataset) -> str:
    path = dataset.image_path(dataset.first)
    Image.fromarray(read_array(path)).convert("CMYK").save(path, quality=95)
    return dataset.first["image"]


@breaks("lossy-mode")
def transparent_background(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "image", "leaf.png")
    image = Image.fromarray(read_array(path))
    image.putalpha(Image.fromarray(read_array(dataset.folder / dataset.first["leaf_mask"])))
    image.save(path)
    return dataset.first["image"]


# masks


@breaks("mask-rotation")
def photo_rotated_by_exif_and_mask_not(dataset: EditableDataset) -> str:
    dataset.crop_width(dataset.first)
    dataset.set_orientation(dataset.first, "image", 6)
    return dataset.first["mask"]


@breaks("mask-rotation-unclear")
def photo_turned_upside_down_by_exif_and_mask_not(dataset: EditableDataset) -> str:
    dataset.crop_width(dataset.first)
    dataset.set_orientation(dataset.first, "image", 3)
    return dataset.first["mask"]


@breaks("mask-size")
def mask_of_another_size(dataset: EditableDataset) -> str:
    path = dataset.mask_path(dataset.first)
    Image.fromarray(read_array(path)[:, :60]).save(path)
    return dataset.first["mask"]


@breaks("mask-values")
def mask_value_without_a_class(dataset: EditableDataset) -> str:
    mask = read_array(dataset.mask_path(dataset.first)) // 255
    mask[5, 5] = 2
    Image.fromarray(mask).save(dataset.mask_path(dataset.first))
    return dataset.first["mask"]


@breaks("mask-values")
def mask_saved_as_jpeg(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "mask", "mask.jpg")
    Image.fromarray(read_array(path)).save(path, quality=60)
    return dataset.first["mask"]


@breaks("mask-format")
def mask_with_colors(dataset: EditableDataset) -> str:
    mask = read_array(dataset.mask_path(dataset.first))
    Image.fromarray(np.stack([mask, mask * 0, mask * 0], axis=-1)).save(dataset.mask_path(dataset.first))
    return dataset.first["mask"]


@breaks("mask-format")
def mask_of_probabilities(dataset: EditableDataset) -> str:
    path = dataset.rename(dataset.first, "mask", "mask.tif")
    Image.fromarray(read_array(path).astype(np.float32) / 255).save(path)
    return dataset.first["mask"]


@breaks("mask-empty")
def mask_of_background_only(dataset: EditableDataset) -> str:
    Image.new("L", (64, 64)).save(dataset.mask_path(dataset.first))
    return dataset.first["mask"]


@breaks("mask-full")
def mask_without_background(dataset: EditableDataset) -> str:
    Image.new("L", (64, 64), 255).save(dataset.mask_path(dataset.first))
    return dataset.first["mask"]


@breaks("mask-shared")
def mask_of_another_image(dataset: EditableDataset) -> str:
    shutil.copy(dataset.mask_path(dataset.rows[0]), dataset.mask_path(dataset.rows[1]))
    return dataset.rows[1]["mask"]


@breaks("mask-class-absent")
def mask_class_below_another(dataset: EditableDataset) -> str:
    dataset.update_toml(mask_classes=["background", "leaf", "vein"])
    for row in dataset.rows:
        mask = read_array(dataset.mask_path(row))
        Image.fromarray((mask > 0).astype(np.uint8)).save(dataset.mask_path(row))
    return "dataset.toml"


@breaks("mask-class-absent")
def mask_class_that_no_training_mask_has(dataset: EditableDataset) -> str:
    dataset.update_toml(mask_classes=["background", "vein", "lesion"])
    for row in dataset.rows:
        mask = (read_array(dataset.mask_path(row)) > 0).astype(np.uint8)
        mask[:4, :4] = 2 * (row["split"] != "train")
        Image.fromarray(mask).save(dataset.mask_path(row))
    return "manifest.csv"


@breaks("mask-inverted")
def masks_of_black_veins(dataset: EditableDataset) -> str:
    dataset.update_toml(mask_classes=["foreground"])
    for row in dataset.rows:
        mask = (read_array(dataset.mask_path(row)) == 0).astype(np.uint8)
        Image.fromarray(255 * mask).save(dataset.mask_path(row))
    return "dataset.toml"


@breaks("mask-inverted")
def most_of_a_photo_is_vein(dataset: EditableDataset) -> str:
    dataset.update_toml(mask_classes=["Leaf vein"])
    for row in dataset.rows:
        mask = np.full(read_array(dataset.mask_path(row)).shape, 255, np.uint8)
        mask[:20, : 20 + dataset.rows.index(row)] = 0
        Image.fromarray(mask).save(dataset.mask_path(row))
    return "dataset.toml"


# images that occur more than once


def add_copy(dataset: EditableDataset, **cells: str) -> str:
    row = dataset.first_row_of("train")
    shutil.copy(dataset.image_path(row), dataset.add_row(row, "copy.jpg", **cells))
    return "images/copy.jpg"


@breaks("duplicate-across-splits")
def copy_of_a_training_image_in_test(dataset: EditableDataset) -> str:
    return add_copy(dataset, split="test")


@breaks("duplicate-across-labels")
def copy_with_another_label(dataset: EditableDataset) -> str:
    return add_copy(dataset, label="cultivar_02")


@breaks("duplicate")
def copy_in_the_same_split(dataset: EditableDataset) -> str:
    return add_copy(dataset)


def add_similar(
    dataset: EditableDataset, change: Callable[[Image.Image], Image.Image], quality: int = 95, **cells: str
) -> str:
    row = dataset.first_row_of("train", cultivar=1)
    image = change(Image.fromarray(read_array(dataset.image_path(row))))
    image.save(dataset.add_row(row, "similar.jpg", **cells), quality=quality)
    return "images/similar.jpg"


@breaks("near-duplicate-across-splits")
def recompressed_training_image_in_test(dataset: EditableDataset) -> str:
    return add_similar(dataset, lambda image: image, quality=50, split="test")


@breaks("near-duplicate-across-splits")
def training_image_at_half_its_size_in_test(dataset: EditableDataset) -> str:
    return add_similar(dataset, lambda image: image.resize((32, 32)), split="test")


@breaks("near-duplicate-across-splits")
def mirrored_training_image_in_val(dataset: EditableDataset) -> str:
    return add_similar(dataset, ImageOps.mirror, split="val")


@breaks("near-duplicate-across-splits")
def rotated_training_image_in_test(dataset: EditableDataset) -> str:
    return add_similar(dataset, lambda image: image.rotate(90), split="test")


@breaks("near-duplicate-across-splits")
def brighter_training_image_in_test(dataset: EditableDataset) -> str:
    return add_similar(dataset, lambda image: image.point(lambda value: min(255, int(value * 1.15))), split="test")


@breaks("near-duplicate-across-labels")
def mirrored_image_with_another_label(dataset: EditableDataset) -> str:
    return add_similar(dataset, ImageOps.mirror, label="cultivar_03")
