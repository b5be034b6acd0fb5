"""Photos of the kind `varied`: which orders of veins can be seen."""

import numpy as np
import pytest

from mnsa.data.synthetic.varied_layers import Layers
from mnsa.data.synthetic.varied_photo import visible_orders
from varied_species import rng


@pytest.mark.parametrize(
    ("contrast", "width", "gap", "expected"),
    [
        (40.0, 4.0, 40.0, (1, 2, 3, 4)),
        (-40.0, 4.0, 40.0, (1, 2, 3, 4)),
        (0.0, 4.0, 40.0, ()),
        (40.0, 0.6, 40.0, (1, 2)),
        (40.0, 4.0, 10.0, (1, 2, 3)),
    ],
)
def test_faint_thin_or_crowded_veins_are_in_no_mask(
    contrast: float, width: float, gap: float, expected: tuple[int, ...]
) -> None:  # fmt: skip
    flat = np.ones((96, 96), np.float32)
    orders = np.zeros((96, 96), np.uint8)
    for order in (1, 2, 3, 4):
        orders[:, 20 * order : 20 * order + 2] = order
    layers = Layers(flat, 0 * flat, (flat,) * 4, flat, orders, (width,) * 4, (gap,) * 4)
    gray = 120.0 + contrast * (orders > 0) + 3.0 * rng(12).standard_normal((96, 96))
    image = np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)
    assert visible_orders(image, layers) == expected


def test_finer_veins_are_left_out_where_coarser_ones_are_invisible() -> None:
    flat = np.ones((96, 96), np.float32)
    orders = np.zeros((96, 96), np.uint8)
    orders[:, 30:32], orders[:, 60:62] = 2, 3
    layers = Layers(flat, 0 * flat, (flat,) * 4, flat, orders, (4.0,) * 4, (40.0,) * 4)
    gray = 120.0 + 40.0 * (orders == 3) + 3.0 * rng(13).standard_normal((96, 96))
    assert visible_orders(np.repeat(gray[..., None], 3, axis=2).astype(np.uint8), layers) == (1,)
