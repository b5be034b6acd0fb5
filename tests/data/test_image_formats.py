"""The first bytes of a file tell its format, whatever its name."""

import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from mnsa.data.image_formats import (
    HEAD_BYTES,
    UnsupportedFormatError,
    find_formats,
    has_further_pages,
    has_white_first,
    is_tiff,
    log_further_pages,
)
from mnsa.errors import install_command

FORMATS = ("JPEG", "PNG")


def head_of(form: str) -> bytes:
    pillow_heif.register_heif_opener()
    data = io.BytesIO()
    Image.new("RGB", (32, 32)).save(data, form)
    return data.getvalue()[:HEAD_BYTES]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "HEIF"])
def test_heif_is_added_for_heif_alone(form: str) -> None:
    assert find_formats(head_of(form), FORMATS) == ((*FORMATS, "HEIF") if form == "HEIF" else FORMATS)
    assert is_tiff(head_of(form)) == (form == "TIFF")


def test_heif_without_its_package_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of("HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedFormatError, match="is a HEIC photo") as refusal:
        find_formats(head, FORMATS)
    assert refusal.value.fix.startswith(install_command("heif"))


@pytest.mark.parametrize("head", [b"MM\0\x2b\0\x08\0\0", b"version https://git-lfs.github.com/spec/v1"])
def test_what_pillow_misreads_is_refused(head: bytes) -> None:
    with pytest.raises(UnsupportedFormatError):
        find_formats(head, FORMATS)


@pytest.mark.parametrize("head", [b"", b"MM", b"ftyp", b"0000ftypavif0000"])
def test_other_bytes_are_left_to_pillow(head: bytes) -> None:
    assert find_formats(head, FORMATS) == FORMATS


@pytest.mark.parametrize(
    ("palette", "used", "is_white_first"),
    [
        ([255] * 3 + [0] * 3, (0, 1), True),
        ([0] * 3 + [255] * 3, (0, 1), False),
        ([255] * 3 + [255, 0, 0], (0, 1), False),  # colored classes on white: indices
        ([255] * 3 + [0] * 3, (0, 0), False),
        ([255] * 3 + [0] * 3 + [9] * 3, (1, 2), False),
    ],
)
def test_only_black_on_white_is_white_first(palette: list[int], used: tuple[int, int], is_white_first: bool) -> None:
    image = Image.fromarray(np.array([used, used], np.uint8)).convert("P")
    image.putpalette(palette)
    assert has_white_first(image) == is_white_first
    assert not has_white_first(image.convert("L"))


@pytest.mark.parametrize(
    ("form", "several"), [("TIFF", True), ("PNG", True), ("WEBP", True), ("GIF", True), ("MPO", False)]
)
def test_pages_and_frames_are_named_but_no_previews(form: str, several: bool, caplog: pytest.LogCaptureFixture) -> None:
    page, data = Image.new("RGB", (32, 32)), io.BytesIO()
    page.save(data, form, save_all=True, append_images=[Image.new("RGB", (32, 32), "white")])
    with Image.open(data) as image:
        assert has_further_pages(image) == several
        log_further_pages(image, "scan.tif")
    assert [record.getMessage() for record in caplog.records] == [
        "scan.tif has several pages or frames; only the first is read"
    ] * several
