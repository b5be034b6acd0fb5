"""CVAT XML: polygons, boxes, ellipses and brush masks become the pixels that CVAT shows; invalid files are rejected."""

from pathlib import Path

import numpy as np
import pytest

from miniature_datasets import masks_of, write_image
from mnsa.data.formats.cvat import import_cvat
from mnsa.data.manifest import Manifest
from mnsa.errors import DataError

LEAF, VEIN = [(1, 1), (9, 1), (9, 7), (1, 7)], [(2, 3), (8, 3), (8, 5), (2, 5)]
BOX = 'left="2" top="3" width="4" height="3"'


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
    for name in ("a.png", "b.png"):
        write_image(root / "images" / name)
    (root / "annotations.xml").write_text(text or cvat_text(CVAT))
    return import_cvat(root / "annotations.xml", root / "set", images=root / "images")


def test_shapes_are_painted_by_layer_and_subsets_are_splits(tmp_path: Path) -> None:
    manifest = cvat(tmp_path)
    expected = np.zeros((8, 10), np.uint8)
    expected[1:7, 1:9] = 1
    expected[3:5, 2:8] = 2
    assert manifest.mask_classes == ("background", "leaf", "vein")
    first, second = masks_of(manifest)
    np.testing.assert_array_equal(first, expected)
    assert not second.any()
    assert [row.split for row in manifest.rows] == ["train", "val"]


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


def decode_runs(text: str, left: int, top: int, width: int, height: int) -> np.ndarray:
    """As CVAT's maintainers decode it: pixel after pixel along the rows of the box, background first."""
    mask = np.zeros((8, 10), bool)
    offset, value = 0, False
    for run in map(int, text.split(",")):
        for place in range(offset, offset + run):
            row, column = divmod(place, width)
            mask[top + row, left + column] = value
        offset, value = offset + run, not value
    assert offset == width * height
    return mask


@pytest.mark.parametrize("runs", ["3, 2, 2, 5", "0, 12", "0,1,1,1,1,1,1,1,1,1,1,1,1", "12", "5, 3, 4"])
def test_a_brush_mask_has_the_pixels_of_its_runs(tmp_path: Path, runs: str) -> None:
    mask = masks_of(cvat(tmp_path, cvat_text(f'<mask label="leaf" rle="{runs}" {BOX} z_order="0"></mask>')))[0]
    np.testing.assert_array_equal(mask, decode_runs(runs, 2, 3, 4, 3))


def test_a_brush_mask_of_the_whole_image_is_read(tmp_path: Path) -> None:
    expected = np.random.default_rng(0).random((8, 10)) < 0.5
    changes = np.flatnonzero(np.diff(expected.ravel(), prepend=False))
    runs = ",".join(map(str, np.diff(changes, prepend=0, append=80)))
    shape = f'<mask label="leaf" rle="{runs}" left="0" top="0" width="10" height="8"/>'
    np.testing.assert_array_equal(masks_of(cvat(tmp_path, cvat_text(shape)))[0], expected)


def test_a_brush_mask_lies_over_what_is_below_it(tmp_path: Path) -> None:
    shapes = f'<mask label="vein" rle="0, 12" {BOX} z_order="2"/><box label="leaf" xtl="0" ytl="0" xbr="10" ybr="8"/>'
    mask = masks_of(cvat(tmp_path, cvat_text(shapes)))[0]
    assert (mask == np.where(decode_runs("0, 12", 2, 3, 4, 3), 2, 1)).all()


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 200.5])
def test_a_box_is_turned_clockwise_around_its_center(tmp_path: Path, degrees: float) -> None:
    box = f'<box label="leaf" xtl="1.25" ytl="2.6" xbr="8.25" ybr="5.8" rotation="{degrees}"/>'
    mask = masks_of(cvat(tmp_path, cvat_text(box)))[0]
    y, x = np.mgrid[:8, :10] + 0.5
    back = np.exp(-1j * np.radians(degrees)) * ((x - 4.75) + 1j * (y - 4.2))  # into the box's own directions
    np.testing.assert_array_equal(mask, (abs(back.real) < 3.5) & (abs(back.imag) < 1.6))


def test_a_turned_box_that_leaves_the_image_is_cut_off(tmp_path: Path) -> None:
    box = '<box label="leaf" xtl="0" ytl="3.3" xbr="10" ybr="4.9" rotation="90"/>'
    expected = np.zeros((8, 10), bool)
    expected[:, 4:6] = True
    mask = masks_of(cvat(tmp_path, cvat_text(box)))[0]
    np.testing.assert_array_equal(mask, expected)


def test_names_of_labels_have_no_spaces_around_them(tmp_path: Path) -> None:
    manifest = cvat(tmp_path, cvat_text(CVAT).replace("<name>leaf<", "<name> leaf <").replace('"leaf"', '"leaf "'))
    assert manifest.mask_classes == ("background", "leaf", "vein")


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
        (cvat_text('<mask label="vein" rle="1,2"/>'), "has no numbers for left"),
        (cvat_text(f'<mask label="vein" rle="1,x" {BOX}/>'), "has the runs '1,x'; expected pixel counts"),
        (cvat_text(f'<mask label="vein" rle="1,2" {BOX}/>'), "runs of 3 pixels in all; expected 12"),
        (cvat_text(f'<mask label="vein" rle="{"9" * 5000}" {BOX}/>'), "expected pixel counts"),
        (cvat_text('<mask label="vein" rle="12" left="7" top="3" width="4" height="3"/>'), "a box outside the image"),
        (cvat_text('<box label="leaf" xtl="1" ytl="1" xbr="?" ybr="7"/>'), "has no numbers for"),
        (cvat_text('<box label="leaf" xtl="1" ytl="1" xbr="99" ybr="7"/>'), r"outside the image"),
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
