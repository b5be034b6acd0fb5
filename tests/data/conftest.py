"""Small data sets made with Pillow: 40 x 40 pixels, a bright square as the leaf, its mask at the same place."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.manifest import Manifest, Row


@pytest.fixture
def draw_leaf() -> Callable[..., None]:
    """Write an image with a bright square and, if a path is given, its mask."""

    def draw(image: Path, mask: Path | None = None, *, at: int = 10, mask_value: int = 255) -> None:
        square = slice(at, at + 12)
        pixels = np.full((40, 40, 3), 30, np.uint8)
        pixels[square, square] = (20, 220, 60)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(image)
        if mask is not None:
            values = np.zeros((40, 40), np.uint8)
            values[square, square] = mask_value
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(mask)

    return draw


@pytest.fixture
def leaves(tmp_path: Path, draw_leaf: Callable[..., None]) -> Manifest:
    """Classes a and b in turn, 10 rows in train and 4 in val; only images of class b have a mask."""
    rows = []
    for n in range(14):
        row = Row(f"{n}.png", f"{n}_mask.png" if n % 2 else "", "ab"[n % 2], "train" if n < 10 else "val")
        draw_leaf(tmp_path / row.image, tmp_path / row.mask if row.mask else None, at=n)
        rows.append(row)
    return Manifest("leaves", tmp_path.resolve(), ("a", "b"), ("leaf",), tuple(rows))
