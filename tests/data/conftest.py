"""Small data sets, made by Pillow: 40 x 40 pixels, one colored square a leaf, its mask where the square is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.manifest import Manifest, Row


@pytest.fixture
def draw_leaf() -> Callable[..., None]:
    """Write an image with a bright square and, on demand, its mask."""

    def draw(image: Path, mask: Path | None = None, *, at: int = 10, mask_value: int = 255) -> None:
        pixels = np.full((40, 40, 3), 30, np.uint8)
        pixels[at : at + 12, at : at + 12] = (20, 220, 60)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(image)
        if mask is not None:
            mask.parent.mkdir(parents=True, exist_ok=True)
            truth = np.zeros((40, 40), np.uint8)
            truth[at : at + 12, at : at + 12] = mask_value
            Image.fromarray(truth).save(mask)

    return draw


@pytest.fixture
def leaves(tmp_path: Path, draw_leaf: Callable[..., None]) -> Manifest:
    """Two cultivars, 10 training and 4 validation leaves, every second with a mask."""
    rows = []
    for n in range(14):
        row = Row(f"{n}.png", f"{n}_mask.png" if n % 2 else "", "ab"[n % 2], "train" if n < 10 else "val")
        draw_leaf(tmp_path / row.image, tmp_path / row.mask if row.mask else None, at=n)
        rows.append(row)
    return Manifest("leaves", tmp_path.resolve(), ("a", "b"), ("leaf",), tuple(rows))
