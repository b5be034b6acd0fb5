"""Paths, PIL images, arrays and tensors give the same pixels; anything else is an error that says what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnsa.data.decode import require_min_size
from mnsa.errors import DataError
from mnsa.inference.image_input import ImageInput, image_name, to_image_tensor

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
        (PIXELS / 255, r"array has dtype float64; expected uint8 with values 0 to 255"),
        (torch.zeros(3, 20, 30), r"tensor has dtype float32; expected uint8"),
        (7, "The image is a int; expected a path, a PIL image"),
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
