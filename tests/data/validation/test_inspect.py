"""Inspecting the files of one row: what is measured, and that damaged bytes never raise an error."""

import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.findings import SEVERITY_BY_KIND
from mnsa.data.validation.inspect import inspect_files


def test_image_and_mask_are_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 3, (30, 20), np.uint8)
    Image.fromarray(rng.integers(0, 256, (30, 20, 3), np.uint8)).save(tmp_path / "x.png")
    Image.fromarray(indices).save(tmp_path / "m.png")
    image, mask, findings = inspect_files(tmp_path.resolve(), 3, ("x.png", "m.png"))
    assert image is not None
    assert mask is not None
    assert (image.size, mask.size, findings) == ((20, 30), (20, 30), [])
    assert mask.pixels == tuple(np.bincount(indices.ravel()))
    assert image.digest == hashlib.sha256((tmp_path / "x.png").read_bytes()).hexdigest()


def test_a_mask_is_inspected_even_if_its_image_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "m.png")
    image, mask, findings = inspect_files(tmp_path.resolve(), 1, ("x.png", "m.png"))
    assert (image, mask) == (None, None)
    assert [finding.kind for finding in findings] == ["zero-byte", "mask-values"]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_damaged_bytes_give_findings_and_never_an_exception(tmp_path: Path, image_format: str) -> None:
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    image.save(content, image_format, **({} if image_format == "BMP" else {"exif": exif}))
    rng = random.Random(0)
    kinds: set[str] = set()
    for _ in range(60):
        damaged = bytearray(content.getvalue())
        for _ in range(rng.randint(1, 5)):
            start = rng.randrange(rng.choice([60, len(damaged)]))
            damaged[start : start + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 9))
        (tmp_path / "x").write_bytes(damaged)
        kinds |= {finding.kind for finding in inspect_files(tmp_path.resolve(), 2, ("x", "x")).findings}
    assert {"unreadable", "wrong-extension"} <= kinds <= SEVERITY_BY_KIND.keys()
