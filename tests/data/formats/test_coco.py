"""COCO: valid files are imported, invalid files are rejected."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniature_datasets import masks_of, write_image
from mnsa.data.formats.coco import import_coco
from mnsa.errors import DataError

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]


def coco(root: Path, **changes: Any) -> Path:
    """A file of two images, with a leaf in polygons and a spot over it in plain run lengths. changes: other entries."""
    for name in ("a.png", "b.png"):
        write_image(root / "images" / name)
    tree = {
        "images": [{"id": 7, "file_name": "a.png", "height": 8, "width": 10}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 30, "name": "spot"}, {"id": 4, "name": "leaf"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 4, "segmentation": [SQUARE, [8, 0, 9, 0, 9, 1, 8, 1]]},
            {"id": 2, "image_id": 7, "category_id": 30, "segmentation": {"size": [8, 10], "counts": [18, 2, 60]}},
        ],
    }
    path = root / "instances_train2017.json"
    path.write_text(json.dumps({**tree, **changes}))
    return path


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 5, "image_id": 7, "category_id": 4, "segmentation": [SQUARE], **changes}]


def runs(counts: object, size: Iterable[object] = (8, 10)) -> list[dict[str, Any]]:
    return annotation(segmentation={"size": list(size), "counts": counts})


def test_coco_polygons_and_run_lengths_are_drawn_in_order(tmp_path: Path) -> None:
    manifest = import_coco(coco(tmp_path), tmp_path / "set", images=tmp_path / "images")
    assert manifest.mask_classes == ("background", "leaf", "spot")
    assert sorted(row.split for row in manifest.rows) == ["train", "val"]
    first, second = masks_of(manifest)
    expected = np.zeros((8, 10), np.uint8)
    expected[2:6, 2:6] = 1
    expected[0, 8] = 1
    expected[2:4, 2] = 2
    assert (first == expected).all()
    assert not second.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "expected COCO's list of images"),
        ({"images": [{"id": 1, "file_name": "../c.png"}]}, "there is no image"),
        ({"images": [{"id": 1, "file_name": "/etc/c.png"}]}, "there is no image"),
        ({"images": [{"id": 1, "file_name": "..\\c.png"}]}, "there is no image"),
        ({"images": [{"id": 1, "file_name": "a\0.png"}]}, "there is no image"),
        ({"images": [{"id": 1, "file_name": "\ud800.png"}]}, "can't be read as JSON"),
        ({"images": [{"id": 1, "file_name": "a.svg"}]}, "there is no image"),
        ({"images": [{"id": 1, "file_name": "c.png"}], "annotations": []}, "there is no image"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "used before"),
        ({"images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "./a.png"}]}, "listed before"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 10**9, "width": 10**9}]}, "has 10 x 8 pixels"),
        ({"images": [{"id": True, "file_name": "a.png"}]}, "expected a whole number"),
        ({"categories": []}, "no category of the id 4"),
        ({"categories": [{"id": 4, "name": "x"}, {"id": 30, "name": "x"}]}, "'x' is named twice"),
        ({"annotations": annotation(image_id=1)}, "no image of the id 1"),
        ({"annotations": annotation(segmentation=[])}, "id 5.*boxes are no masks"),
        ({"annotations": annotation(segmentation=[[1, 2, 3]])}, "no list of x, y"),
        ({"annotations": annotation(segmentation=[["1", 2, 3, 4, 5, 6]])}, "no list of x, y"),
        ({"annotations": annotation(segmentation=[[1, 1, 10**400, 4, 5, 6]])}, "can't be read as JSON|too large"),
        ({"annotations": annotation(segmentation=[[1, 1, float("nan"), 4, 5, 6]])}, "NaN is not a number"),
        ({"annotations": annotation(segmentation=[[1, 1, -9, 4, 5, 6]])}, "outside the image"),
        ({"annotations": runs([18, 2, 61])}, "81 pixels in all; expected 80"),
        ({"annotations": runs([10**12])}, "no pixel counts"),
        ({"annotations": runs("P" * 9)}, "compressed runs?"),
        ({"annotations": runs([80], (10**6, 10**6))}, "run lengths of the size"),
        ({"annotations": runs(None)}, "expected a list or COCO's text"),
    ],
)  # fmt: skip
def test_invalid_coco_files_are_rejected_and_leave_nothing(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        import_coco(coco(tmp_path, **changes), tmp_path / "set", images=tmp_path / "images")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "instances_train2017.json"]


def test_an_image_that_is_a_link_out_of_its_folder_is_rejected(tmp_path: Path) -> None:
    source = coco(tmp_path)
    write_image(tmp_path / "secret.png")
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="outside the data set's root"):
        import_coco(source, tmp_path / "set", images=tmp_path / "images")
