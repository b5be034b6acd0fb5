"""Images that come as bytes, by the rules of images that come as files."""

import io

import numpy as np
import pytest
from PIL import Image

from mnsa.data.decode import BadFileError, open_image_bytes, read_pixels, upright_rgb


def encoded(form, size=(6, 4), **options):
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_bytes_are_read_as_a_file_is(form, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(form) if form == "BMP" else encoded(form, exif=exif)
    (tmp_path / "a").write_bytes(data)
    with open_image_bytes(data, "a") as image:
        pixels = np.array(upright_rgb(image, tmp_path / "a"))
    np.testing.assert_array_equal(pixels, read_pixels(tmp_path / "a"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"", "zero-byte"), (b"text", "unreadable"), (encoded("GIF"), "unreadable"), (encoded("PNG")[:60], "unreadable")],
)
def test_what_is_no_image_has_its_kind(data, kind):
    with pytest.raises(BadFileError, match=r"^a\.png ") as refused, open_image_bytes(data, "a.png") as image:
        image.load()
    assert refused.value.kind in {kind, "truncated"}


def test_an_image_over_the_pixel_limit_is_refused_before_it_is_decoded():
    small = open_image_bytes(encoded("PNG"), "a.png", max_pixels=23)
    with pytest.raises(BadFileError, match="6 x 4 pixels; at most 23") as refused, small:
        pytest.fail("it was opened")
    assert refused.value.kind == "decompression-bomb"
    with open_image_bytes(encoded("PNG"), "a.png", max_pixels=24) as image:
        assert image.size == (6, 4)


def test_a_name_is_never_opened(tmp_path):
    (tmp_path / "there.png").write_bytes(encoded("PNG"))
    with (
        pytest.raises(BadFileError, match="is not an image"),
        open_image_bytes(b"no image", str(tmp_path / "there.png")),
    ):
        pass
