"""Looking at one row's files: what is measured, and that no bytes whatever bring it down."""

import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.findings import SEVERITY_BY_KIND
from mnsa.data.validation.inspect import inspect_files


def test_what_is_seen_of_an_image_and_its_mask(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (30, 20), np.uint8)
    Image.fromarray(rng.integers(0, 256, (30, 20, 3), np.uint8)).save(tmp_path / "x.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    picture, truth, findings = inspect_files(tmp_path.resolve(), 3, ("x.png", "m.png"))
    assert picture is not None
    assert truth is not None
    assert (picture.size, truth.size, findings) == ((20, 30), (20, 30), [])
    assert truth.pixels == tuple(np.bincount(mask.ravel()))
    assert picture.digest == hashlib.sha256((tmp_path / "x.png").read_bytes()).digest()


def test_a_mask_is_judged_even_when_its_image_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "m.png")
    picture, truth, findings = inspect_files(tmp_path.resolve(), 1, ("x.png", "m.png"))
    assert (picture, truth) == (None, None)
    assert [finding.kind for finding in findings] == ["zero-byte", "mask-values"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_no_bytes_bring_it_down(tmp_path: Path, form: str) -> None:
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    leaf = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    leaf.save(content, form, **({} if form == "BMP" else {"exif": exif}))
    rng, found = random.Random(0), set()
    for _ in range(60):
        spoilt = bytearray(content.getvalue())
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(rng.choice([60, len(spoilt)]))
            spoilt[at : at + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 9))
        (tmp_path / "x").write_bytes(spoilt)
        found |= {finding.kind for finding in inspect_files(tmp_path.resolve(), 2, ("x", "x")).findings}
    assert {"unreadable", "wrong-extension"} <= found <= SEVERITY_BY_KIND.keys()
