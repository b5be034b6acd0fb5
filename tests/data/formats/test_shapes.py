"""Labelme JSON and VIA JSON: the same outlines give the same masks, invalid files are rejected."""

import io
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniature_datasets import masks_of, write_image
from mnsa.data.formats.shapes import import_labelme, import_via
from mnsa.data.manifest import Manifest
from mnsa.errors import DataError

LEAF, VEIN = [(1, 1), (9, 1), (9, 7), (1, 7)], [(2, 3), (8, 3), (8, 5), (2, 5)]
EXPECTED = np.zeros((8, 10), np.uint8)
EXPECTED[1:7, 1:9] = 1
EXPECTED[3:5, 2:8] = 2


def write_images(root: Path) -> Path:
    for name in ("a.png", "b.png"):
        write_image(root / "images" / name)
    return root / "images"


def labelme(root: Path, **changes: Any) -> Manifest:
    images = write_images(root)
    shapes = [
        {"label": "leaf", "points": [[9, 7], [1, 1]], "shape_type": "rectangle"},
        {"label": "vein", "points": [list(point) for point in VEIN], "shape_type": "polygon", "group_id": None},
    ]
    for name, own in (("a", shapes), ("b", [])):
        tree: dict[str, Any] = {"version": "5.4.1", "shapes": own, "imagePath": f"..\\photos\\{name}.png"}
        tree |= {"imageData": None, "imageHeight": 8, "imageWidth": 10, **(changes if name == "a" else {})}
        (images / f"{name}.json").write_text(json.dumps(tree))
    return import_labelme(images, root / "set")


def via_region(shape: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def via(root: Path, attribute: str | None = None, *, is_project: bool = True, **extra: str) -> Manifest:
    images = write_images(root)
    x, y = map(list, zip(*VEIN, strict=True))
    regions = [
        via_region({"name": "rect", "x": 1, "y": 1, "width": 8, "height": 6}, {"part": {"leaf": True}, **extra}),
        via_region({"name": "polygon", "all_points_x": x, "all_points_y": y}, {"part": "vein", **extra}),
    ]
    entries = {
        "a.png12": {"filename": "a.png", "size": 12, "regions": regions, "file_attributes": {}},
        "b.png12": {"filename": "b.png", "size": 12, "regions": {}, "file_attributes": {}},
    }
    tree = {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}} if is_project else entries
    (root / "via.json").write_text(json.dumps(tree))
    return import_via(root / "via.json", root / "set", images=images, attribute=attribute)


@pytest.mark.parametrize(
    "read",
    [labelme, via, lambda root: via(root, is_project=False), lambda root: via(root, "part", color="red")],
    ids=["Labelme", "VIA project", "VIA export", "VIA attribute"],
)
def test_each_format_gives_the_masks_of_its_outlines(tmp_path: Path, read: Callable[[Path], Manifest]) -> None:
    manifest = read(tmp_path)
    assert manifest.mask_classes == ("background", "leaf", "vein")
    first, second = masks_of(manifest)
    assert (first == EXPECTED).all()
    assert not second.any()
    assert sorted(row.split for row in manifest.rows) == ["train", "val"]


def png_text(inside: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(inside).save(data, "PNG")
    return b64encode(data.getvalue()).decode()


@pytest.mark.parametrize("inside", [np.eye(3, 4, dtype=bool), np.ones((3, 4), bool), np.zeros((3, 4), bool)])
def test_a_mask_of_labelme_lies_in_its_box(tmp_path: Path, inside: np.ndarray) -> None:
    """Labelme's `shape_to_mask`: mask[y1 : y2 + 1, x1 : x2 + 1] = the PNG."""
    shape = {"label": "leaf", "points": [[2, 1], [5, 3]], "shape_type": "mask", "mask": png_text(inside)}
    expected = np.zeros((8, 10), bool)
    expected[1 : 3 + 1, 2 : 5 + 1] = inside
    assert (masks_of(labelme(tmp_path, shapes=[shape]))[0] == expected).all()


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle"])
def test_a_box_of_four_corners_is_its_polygon(tmp_path: Path, kind: str) -> None:
    shape = {"label": "leaf", "points": [[1, 4], [5, 0], [9, 4], [5, 8]], "shape_type": kind}
    y, x = np.mgrid[:8, :10] + 0.5
    mask = masks_of(labelme(tmp_path, shapes=[shape]))[0]
    np.testing.assert_array_equal(mask[:, :5], (abs(x - 5) + abs(y - 4) <= 4)[:, :5])  # the right border is outside


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("?", "not base64"),
        (None, "is empty"),
        (png_text(np.ones((3, 20), bool)), "box outside the image of 10 x 8 px"),
        (b64encode(b"no image").decode(), "is not an image"),
    ],
)
def test_an_invalid_mask_of_labelme_is_named(tmp_path: Path, mask: str | None, message: str) -> None:
    shape = {"label": "leaf", "points": [[2, 1], [5, 3]], "shape_type": "mask", "mask": mask}
    with pytest.raises(DataError, match=message) as refusal:
        labelme(tmp_path, shapes=[shape])
    assert "a.json, shape 1" in str(refusal.value)


@pytest.mark.parametrize("center", [(0, 0), (10, 4), (5, 8), (5, 4)])
def test_a_circle_that_leaves_the_image_is_cut_off(tmp_path: Path, center: tuple[int, int]) -> None:
    circle = {"name": "circle", "cx": center[0], "cy": center[1], "r": 6}
    (tmp_path / "images").mkdir()
    images = write_images(tmp_path)
    entry = {"filename": "a.png", "regions": [via_region(circle, {"part": "leaf"})]}
    (tmp_path / "via.json").write_text(json.dumps({"a.png": entry}))
    mask = masks_of(import_via(tmp_path / "via.json", tmp_path / "set", images=images))[0]
    y, x = np.mgrid[:8, :10] + 0.5
    np.testing.assert_array_equal(mask, (x - center[0]) ** 2 + (y - center[1]) ** 2 <= 36)


def test_a_circle_of_labelme_has_its_radius(tmp_path: Path) -> None:
    circle = {"label": "leaf", "points": [[5, 4], [5, 7]], "shape_type": "circle"}
    mask = masks_of(labelme(tmp_path, shapes=[circle]))[0]
    y, x = np.mgrid[:8, :10] + 0.5
    assert (mask == ((x - 5) ** 2 + (y - 4) ** 2 <= 9)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": None}, "expected Labelme's list"),
        ({"imagePath": "c.png"}, "there is no image 'c.png'"),
        ({"imagePath": None}, "names no image"),
        ({"imagePath": "b.png"}, "listed before"),
        ({"imageHeight": 9}, "has 10 x 8 pixels, upright"),
        ({"shapes": [{"label": "vein", "points": [[1, 2], [3, 4]], "shape_type": "linestrip"}]}, "is a 'linestrip'"),
        ({"shapes": [{"label": "vein", "points": [[1, 2], [3]]}]}, "expected pairs of x and y"),
        ({"shapes": [{"label": "", "points": [[1, 2]]}]}, "expected the name of a class"),
        ({"shapes": [{"label": "vein", "points": [[1, 2], [1, 3]]}]}, "polygon of 2 corners"),
        ({"shapes": [7]}, "shape 1: expected a mapping"),
    ],
)
def test_invalid_labelme_files_are_rejected_and_leave_nothing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        labelme(tmp_path, **changes)
    assert not (tmp_path / "set").exists()


def test_several_attributes_of_via_need_the_name_of_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has the attributes part, color; expected one.*--attribute"):
        via(tmp_path, color="red")
    with pytest.raises(DataError, match="has the label None"):
        via(tmp_path, "side")
