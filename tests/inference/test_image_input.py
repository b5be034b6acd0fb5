"""Paths, PIL images, arrays and tensors give the same pixels; anything else is an error that says what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnsa.data.decode import read_pixels, require_min_size
from mnsa.errors import DataError
from mnsa.inference.image_input import ImageInput, image_name, is_several, iter_images, to_image_tensor, to_sources

PIXELS = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "leaf.png")
    return tmp_path / "leaf.png"


def test_every_kind_of_image_gives_the_same_tensor(path: Path) -> None:
    channels_first = torch.from_numpy(PIXELS).permute(2, 0, 1)
    with Image.open(path) as opened:
        images: list[ImageInput] = [str(path), path, opened, Image.fromarray(PIXELS), PIXELS, channels_first]
        for image in images:
            tensor = to_image_tensor(image)
            assert tensor.dtype == torch.uint8
            assert torch.equal(tensor, channels_first)


def test_floats_from_0_to_1_give_the_same_pixels() -> None:
    channels_first = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for image in (PIXELS / 255, (PIXELS / 255).astype(np.float32), channels_first.float() / 255):
        assert torch.equal(to_image_tensor(image), channels_first)


def test_a_list_may_have_every_kind_of_image_and_folders_and_globs(path: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "deep" / "other.png")
    (tmp_path / "notes.txt").write_text("no image")
    other = str(tmp_path / "deep" / "other.png")
    assert list(iter_images(tmp_path)) == list(iter_images([tmp_path])) == [other, str(path)]
    assert list(iter_images(str(tmp_path / "*.png"))) == [str(path)]
    mixed: list[ImageInput] = [path, PIXELS, str(tmp_path / "deep")]
    assert list(iter_images(iter(mixed))) == [path, PIXELS, other]
    assert [is_several(one) for one in (path, PIXELS, "leaf.jpg", "https://host/*.jpg", torch.zeros(3, 9, 9))] == [
        False, False, False, False, False,
    ]  # fmt: skip
    with pytest.raises(DataError, match="An image of the list is a list; expected a path"):
        list(iter_images([[path]]))  # type: ignore[list-item]


def test_several_images_in_memory_are_named_by_their_numbers(path: Path, tmp_path: Path) -> None:
    with Image.open(path) as opened:
        sources = to_sources([PIXELS, opened, path, PIXELS / 255], None)
    assert [str(source) for source in sources] == ["image_0001", str(path), str(path), "image_0004"]
    assert all(np.array_equal(read_pixels(source), PIXELS) for source in sources)
    assert [str(source) for source in to_sources(PIXELS, None)] == ["image_0001"]


def test_arrays_may_be_flipped_and_read_only_and_are_copied() -> None:
    flipped = PIXELS[:, ::-1]
    flipped.flags.writeable = False
    tensor = to_image_tensor(flipped)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), PIXELS[:, ::-1])
    tensor.zero_()
    assert PIXELS.any()


def test_a_pil_image_is_turned_upright_and_converted_to_rgb() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(PIXELS)
    sideways.info["exif"] = exif.tobytes()
    sideways.getexif()[0x0112] = 6
    assert tuple(to_image_tensor(sideways).shape) == (3, 30, 20)
    gray = to_image_tensor(Image.fromarray(PIXELS).convert("L"))
    assert torch.equal(gray[0], gray[1])
    assert tuple(to_image_tensor(Image.fromarray(PIXELS).convert("RGBA")).shape) == (3, 20, 30)


def test_only_images_from_files_have_a_name(path: Path) -> None:
    with Image.open(path) as opened:
        assert image_name(path) == image_name(str(path)) == image_name(opened) == str(path)
    assert image_name(PIXELS) == image_name(Image.fromarray(PIXELS)) == image_name(torch.zeros(3, 20, 20)) == ""


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            PIXELS.transpose(2, 0, 1),
            r"array has shape \(3, 20, 30\); expected \(H, W, 3\)\. Move.*transpose\(1, 2, 0\)",
        ),
        (torch.from_numpy(PIXELS), r"tensor has shape \(20, 30, 3\); expected \(3, H, W\)\. Move.*permute\(2, 0, 1\)"),
        (PIXELS[..., 0], r"array has shape \(20, 30\); expected \(H, W, 3\)\. Give RGB"),
        (np.zeros((20, 30, 4), np.uint8), r"array has shape \(20, 30, 4\); expected"),
        (torch.zeros(2, 3, 20, 30, dtype=torch.uint8), r"tensor has shape \(2, 3, 20, 30\).*several images as a list"),
        (PIXELS.astype(np.float32), r"array has floats from 0 to 255; expected 0 to 1, or uint8.*Don't normalize"),
        (torch.full((3, 20, 30), -0.5), r"tensor has floats from -0\.5 to -0\.5; expected 0 to 1"),
        (np.full((20, 30, 3), np.nan), "array has floats from nan to nan"),
        (PIXELS.astype(np.int64), r"array has dtype int64; expected uint8, or floats from 0 to 1"),
        (torch.zeros(3, 20, 30, dtype=torch.int32), r"tensor has dtype int32; expected uint8, or floats"),
        (b"leaf.jpg", "The image is a bytes; expected a path, a folder"),
        ({"image": PIXELS}, "The image is a dict; expected"),
        (7, "The image is a int; expected a path, a folder, a glob or an address"),
        (None, "The image is a NoneType; expected"),
    ],
)
def test_another_type_shape_or_dtype_is_an_error_that_says_what_is_expected(image: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_image_tensor(image)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg is not an image"):
        to_image_tensor(tmp_path / "broken.jpg")


@pytest.mark.parametrize("size", [(15, 40), (70_000, 15), (1, 1)])
def test_an_image_with_a_side_below_16_pixels_is_an_error(size: tuple[int, int]) -> None:
    image = torch.zeros(3, *size, dtype=torch.uint8)
    with pytest.raises(DataError, match=rf"dot\.png has {size[1]} x {size[0]} pixels; at least 16 a side"):
        require_min_size(image, "dot.png")
    with pytest.raises(DataError, match="The image has"):
        require_min_size(image, "")
    assert require_min_size(torch.zeros(3, 16, 17), "") == (16, 17)
