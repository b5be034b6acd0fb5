"""CVAT XML, Labelme JSON and VIA JSON: the same outlines give the same masks, invalid files are rejected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniature_datasets import masks_of, write_image
from mnsa.data.formats.shapes import import_cvat, import_labelme, import_via
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


def cvat_text(shapes: str, size: str = 'width="10" height="8"') -> str:
    points = {name: ";".join(f"{x}.0,{y}.0" for x, y in shape) for name, shape in (("LEAF", LEAF), ("VEIN", VEIN))}
    for name, text in points.items():
        shapes = shapes.replace(name, text)
    labels = "".join(f"<label><name>{name}</name><color>#fff</color></label>" for name in ("leaf", "vein"))
    images = f'<image id="0" name="a.png" subset="Train" {size}>{shapes}</image>'
    images += f'<image id="1" name="b.png" subset="Validation" {size}><tag label="leaf"/></image>'
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta><task><labels>{labels}</labels></task></meta>{images}</annotations>"
    )


CVAT = (
    '<polygon label="vein" points="VEIN" z_order="1"><attribute name="side">left</attribute></polygon>'
    '<box label="leaf" xtl="1" ytl="1" xbr="9" ybr="7" z_order="0"/>'
)


def cvat(root: Path, text: str = "") -> Manifest:
    images = write_images(root)
    (root / "annotations.xml").write_text(text or cvat_text(CVAT))
    return import_cvat(root / "annotations.xml", root / "set", images=images)


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
    [cvat, labelme, via, lambda root: via(root, is_project=False), lambda root: via(root, "part", color="red")],
    ids=["CVAT", "Labelme", "VIA project", "VIA export", "VIA attribute"],
)
def test_each_format_gives_the_masks_of_its_outlines(tmp_path: Path, read: Callable[[Path], Manifest]) -> None:
    manifest = read(tmp_path)
    assert manifest.mask_classes == ("background", "leaf", "vein")
    first, second = masks_of(manifest)
    assert (first == EXPECTED).all()
    assert not second.any()
    assert sorted(row.split for row in manifest.rows) == ["train", "val"]


@pytest.mark.parametrize("rotation", [0, 90, 180])
def test_an_ellipse_has_its_area_and_its_sides(tmp_path: Path, rotation: int) -> None:
    ellipse = f'<ellipse label="leaf" cx="5" cy="4" rx="4" ry="2" rotation="{rotation}"/>'
    mask = masks_of(cvat(tmp_path, cvat_text(ellipse)))[0]
    y, x = np.mgrid[:8, :10] + 0.5
    if rotation == 90:
        expected = ((x - 5) / 2) ** 2 + ((y - 4) / 4) ** 2 <= 1
    else:
        expected = ((x - 5) / 4) ** 2 + ((y - 4) / 2) ** 2 <= 1
    assert ((mask > 0) == expected).all()


def test_a_circle_of_labelme_has_its_radius(tmp_path: Path) -> None:
    circle = {"label": "leaf", "points": [[5, 4], [5, 7]], "shape_type": "circle"}
    mask = masks_of(labelme(tmp_path, shapes=[circle]))[0]
    y, x = np.mgrid[:8, :10] + 0.5
    assert (mask == ((x - 5) ** 2 + (y - 4) ** 2 <= 9)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "can't be read as XML"),
        ("<annotations></annotations>", "names no image"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "has a document type"),
        ('<annotations><track id="0"/></annotations>', "export of a video"),
        (cvat_text("").replace("a.png", "../a.png").replace("b.png", "../../etc/b"), "there is no image '../../etc/b'"),
        (cvat_text("", 'width="8" height="10"'), "has 10 x 8 pixels, upright"),
        (cvat_text("", 'width="?" height="10"'), "has no numbers for width"),
        (cvat_text('<polyline label="vein" points="VEIN"/>'), "polyline 1 is a 'polyline', which is not read"),
        (cvat_text('<mask label="vein" rle="1,2"/>'), "is a 'mask', which is not read"),
        (cvat_text('<polygon label="vein" points="1,2;3"/>'), "expected x,y;x,y"),
        (cvat_text('<polygon label="vein" points="1,2;3,4;x,6"/>'), "NaN or infinite"),
        (cvat_text('<polygon label="vein" points="1,2;3,4;99,6"/>'), r"corner at \(99, 6\), outside"),
        (cvat_text('<polygon points="VEIN"/>'), "has the label None"),
    ],
)
def test_invalid_cvat_files_are_rejected_and_leave_nothing(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cvat(tmp_path, text)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": None}, "expected Labelme's list of shapes"),
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
