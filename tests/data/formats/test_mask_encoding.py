"""Run lengths, outlines and polygons: exact there and back, and the same as COCO's own tools and scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_tools
from skimage.draw import polygon2mask
from skimage.measure import label

from mnsa.data.formats.mask_encoding import (
    InvalidPolygonError,
    InvalidRleError,
    Region,
    compress_rle,
    encode_region,
    find_regions,
    paint_polygons,
    paint_rle,
    parse_compressed_rle,
    trace_outline,
)

# pycocotools 2.0.11 with numpy 2.4: what its own decode does to arrays
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDES = st.integers(1, 14)
MASKS = st.tuples(SIDES, SIDES).flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 3)))


def alone(region: Region, shape: tuple[int, ...]) -> np.ndarray:
    """The region in an image of its own, column by column in memory, as COCO's tools want it."""
    image = np.zeros(shape, np.uint8, order="F")
    height, width = region.inside.shape
    image[region.top : region.top + height, region.left : region.left + width] = region.inside
    return image


def ring_in_ring() -> np.ndarray:
    """Nested squares: regions with holes, that hold regions with holes; and two pixels that meet at a corner."""
    mask = np.zeros((40, 40), np.uint8)
    for depth in range(0, 18, 3):
        mask[depth : 40 - depth, depth : 40 - depth] = depth % 2 + 1
        mask[depth + 2 : 38 - depth, depth + 2 : 38 - depth] = 0
    mask[19, 19] = mask[20, 20] = 2
    return mask


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_run_lengths_equal_those_of_pycocotools_and_decode_to_the_same_mask(mask: np.ndarray) -> None:
    back = np.zeros_like(mask)
    for region in find_regions(mask):
        runs = encode_region(region, *mask.shape)
        assert compress_rle(runs) == coco_tools.encode(alone(region, mask.shape))["counts"].decode()
        assert parse_compressed_rle(compress_rle(runs), mask.size) == runs
        paint_rle(back, runs, region.value)
    assert (back == mask).all()


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_outlines_decode_to_the_same_pixels_also_with_pycocotools(mask: np.ndarray) -> None:
    back = np.zeros_like(mask)
    for region in find_regions(mask):
        corners = trace_outline(region)
        paint_polygons(back, [corners.astype(float)], region.value)
        expected = coco_tools.decode(coco_tools.frPyObjects([corners.ravel().astype(float).tolist()], *mask.shape))
        assert (expected[..., 0] == alone(region, mask.shape)).all()
    assert (back == mask).all()


def test_nested_rings_keep_their_holes() -> None:
    mask = ring_in_ring()
    back = np.zeros_like(mask)
    for region in find_regions(mask):
        paint_polygons(back, [trace_outline(region).astype(float)], region.value)
    assert (back == mask).all()


def test_regions_equal_those_of_scikit_image() -> None:
    mask = ring_in_ring()
    assert len(list(find_regions(mask))) == label(mask, connectivity=1, background=0).max()


def test_the_outline_of_a_square_has_four_corners() -> None:
    corners = trace_outline(Region(1, 3, 5, np.ones((2, 4), bool)))
    assert sorted(map(tuple, corners.tolist())) == [(5, 3), (5, 5), (9, 3), (9, 5)]


def test_a_slanted_polygon_covers_the_same_pixels_as_in_scikit_image() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        corners = rng.uniform(0, 30, (5, 2))
        painted = np.zeros((30, 30), np.uint8)
        paint_polygons(painted, [corners], 1)
        assert (
            painted == polygon2mask((30, 30), corners[:, ::-1] - 0.5)
        ).all()  # its pixels' centers are whole numbers


def test_pycocotools_differs_only_along_the_outline() -> None:
    rng = np.random.default_rng(4)
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    for _ in range(10):
        corners = 50 + rng.uniform(20, 45, (8, 1)) * np.column_stack((np.cos(angles), np.sin(angles)))
        painted = np.zeros((100, 100), np.uint8)
        paint_polygons(painted, [corners], 1)
        expected = coco_tools.decode(coco_tools.frPyObjects([corners.ravel().tolist()], 100, 100))[..., 0]
        length = np.hypot(*(corners - np.roll(corners, 1, axis=0)).T).sum()
        assert (painted != expected).sum() < length / 2


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([5, -1], "no pixel counts"),
        ([3], "3 pixels in all"),
        ([True, 8], "no pixel counts"),
        ([1.0, 8], "no pixel counts"),
        ([0] * 11, "11 runs"),
    ],
)
def test_runs_that_do_not_fit_the_image_are_rejected(runs: list[int], message: str) -> None:
    with pytest.raises(InvalidRleError, match=message):
        paint_rle(np.zeros((3, 3), np.uint8), runs, 1)


@pytest.mark.parametrize("text", ["é", " ", "o", "oooooooooo0", "n1O", "99999P"])
def test_invalid_compressed_text_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRleError):
        paint_rle(np.zeros((3, 3), np.uint8), parse_compressed_rle(text, 9), 1)


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_parsed_as_runs_of_the_image_or_rejected(text: str) -> None:
    try:
        runs = parse_compressed_rle(text, 100)
    except InvalidRleError:
        return
    assert all(0 <= run <= 100 for run in runs)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([(0, 0), (1, 1)], "2 corners"),
        ([(0, 0), (np.nan, 1), (2, 2)], "NaN or infinite"),
        ([(0, 0), (np.inf, 1), (2, 2)], "NaN or infinite"),
        ([(-3, 0), (1, 1), (2, 2)], "outside the image"),
        ([(0, 0), (1, 1e300), (2, 2)], "outside the image"),
    ],
)
def test_invalid_corners_are_rejected(corners: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(InvalidPolygonError, match=message):
        paint_polygons(np.zeros((9, 9), np.uint8), [np.array(corners)], 1)


def test_corners_a_little_outside_are_moved_to_the_border() -> None:
    mask = np.zeros((4, 6), np.uint8)
    paint_polygons(mask, [np.array([(-0.5, -0.5), (6.5, -0.5), (6.5, 4.5), (-0.5, 4.5)])], 1)
    assert mask.all()
