from collections.abc import Callable
from pathlib import Path

import pytest

from mnsa.data.formats.common import build_manifest
from mnsa.data.manifest import Row
from mnsa.errors import DataError


def classes_of(*labels: str) -> tuple[str, ...]:
    rows = [Row(f"{n}.png", label=label, split="train") for n, label in enumerate(labels)]
    return build_manifest(Path("leaves"), rows, None, 0.2, 1).classes


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("10", "9", "1", "2", "10"), ("1", "2", "9", "10")),
        (("010", "9", "10"), ("9", "010", "10")),
        (("10", "9", "oak"), ("10", "9", "oak")),
        (("10", "9", ""), ("9", "10")),
        (("10", "9", "²"), ("10", "9", "²")),
        (("1" * 5000, "2"), ("2", "1" * 5000)),
    ],
)
def test_classes_are_sorted_as_numbers_when_all_are_numbers_and_as_text_otherwise(
    labels: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert classes_of(*labels) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 1), ("foreground",)),
        ((255, 255), ("foreground",)),
        ((1, 2), ("background", "class1", "class2")),
        ((0, 0), ("foreground",)),
    ],
)
def test_mask_classes_are_inferred_from_the_values_of_all_masks(
    tmp_path: Path, draw_leaf: Callable[..., None], values: tuple[int, ...], expected: tuple[str, ...]
) -> None:
    for n, value in enumerate(values):
        draw_leaf(tmp_path / f"{n}.png", tmp_path / f"m{n}.png", mask_value=value)
    rows = [Row(f"{n}.png", f"m{n}.png", "a", "train") for n in range(len(values))]
    assert build_manifest(tmp_path, rows, None, 0.2, 1).mask_classes == expected
    assert build_manifest(tmp_path, rows, ["vein"], 0.2, 1).mask_classes == ("vein",)


def test_masks_with_1_and_255_are_rejected_as_gray_levels(tmp_path: Path, draw_leaf: Callable[..., None]) -> None:
    for n, value in enumerate((1, 255)):
        draw_leaf(tmp_path / f"{n}.png", tmp_path / f"m{n}.png", mask_value=value)
    rows = [Row(f"{n}.png", f"m{n}.png", "a", "train") for n in range(2)]
    with pytest.raises(DataError, match=r"m1\.png has the pixel value 255"):
        build_manifest(tmp_path, rows, None, 0.2, 1)


def test_validation_is_held_out_only_when_it_is_missing() -> None:
    rows = [Row(f"{n}.png", label="a", split="train") for n in range(9)]
    given = [*rows, Row("v.png", label="a", split="val")]
    assert build_manifest(Path("leaves"), given, None, 0.5, 1).rows == tuple(given)
    assert sum(row.split == "val" for row in build_manifest(Path("leaves"), rows, None, 0.34, 1).rows) == 3
