"""`MaskPainter`: which annotation lies above, and the warnings about classes that are covered or without a pixel."""

import numpy as np
import pytest

from mnsa.data.formats.mask_painter import MaskPainter

VEIN, LEAF = 1, 2


def test_the_last_annotation_lies_above() -> None:
    mask = _paint(MaskPainter(["vein", "leaf"]), VEIN, LEAF)

    assert set(mask[6:10, 6:10].ravel()) == {LEAF}


def test_a_class_that_another_covers_is_named(caplog: pytest.LogCaptureFixture) -> None:
    painter = MaskPainter(["vein", "leaf"])
    _paint(painter, VEIN, LEAF)

    painter.log_losses("leaves.json")

    (record,) = caplog.records
    assert "leaves.json: 100 % of the pixels of class 'vein' are covered by 'leaf'" in record.getMessage()


def test_veins_above_a_leaf_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    painter = MaskPainter(["vein", "leaf"])
    mask = _paint(painter, LEAF, VEIN)

    painter.log_losses("leaves.json")

    assert not caplog.records
    assert set(np.unique(mask)) == {0, VEIN, LEAF}


def test_what_has_no_pixel_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    painter = MaskPainter(["vein", "leaf"])
    mask = _paint(painter, LEAF)
    painter.polygons(mask, [np.array([[3, 3], [9, 3], [6, 3]], float)], VEIN)
    painter.runs(mask, [256], VEIN)

    painter.log_losses("leaves.json")

    empty, absent = (record.getMessage() for record in caplog.records)
    assert empty.startswith("leaves.json: 2 annotations have no pixel")
    assert absent == "leaves.json: classes without a pixel: vein"


def _paint(painter: MaskPainter, *values: int) -> np.ndarray:
    """Paint squares around the middle of a mask of 16 x 16 px: a vein of 4 px, a leaf of 12 px."""
    mask = np.zeros((16, 16), np.uint8)
    for value in values:
        low, high = (6, 10) if value == VEIN else (2, 14)
        painter.polygons(mask, [np.array([[low, low], [high, low], [high, high], [low, high]], float)], value)
    return mask
