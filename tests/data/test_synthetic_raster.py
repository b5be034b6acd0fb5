import numpy as np
import pytest
from skimage.draw import polygon2mask

from mnsa.data.synthetic.network import Pieces
from mnsa.data.synthetic.raster import EDGE_PX, fill_polygon, vein_depth


def piece(start: tuple[float, float], end: tuple[float, float], radius: float) -> Pieces:
    return Pieces(np.array([start]), np.array([end]), np.array([radius]), np.array([1]))


def test_a_polygon_covers_the_pixels_that_skimage_says() -> None:
    polygon = np.array([[10.2, 5.1], [50.7, 20.3], [40.4, 58.9], [8.8, 40.0]])
    ours = fill_polygon(polygon, 64) >= 0.5
    theirs = polygon2mask((64, 64), polygon[:, ::-1] - 0.5)  # rows first, and pixel centres on whole numbers
    assert (ours != theirs).sum() <= 0.02 * theirs.sum()


def test_cover_sums_to_the_area_of_the_polygon() -> None:
    square = np.array([[10.25, 10.25], [50.75, 10.25], [50.75, 50.75], [10.25, 50.75]])
    assert fill_polygon(square, 64).sum() == pytest.approx(40.5**2, rel=0.01)


def test_depth_is_the_radius_less_the_distance_to_the_centreline() -> None:
    depth = vein_depth(piece((8.5, 4.5), (8.5, 12.5), radius=3.0), 32)
    assert depth[8, 8] == pytest.approx(3.0)
    assert depth[8, 10] == pytest.approx(1.0)
    assert depth[2, 8] == pytest.approx(1.0)  # two pixels beyond the end
    assert depth[8, 20] == -EDGE_PX


def test_the_nearest_vein_counts() -> None:
    one, two = piece((4, 0), (4, 9), radius=1.0), piece((6, 0), (6, 9), radius=2.0)
    both = Pieces(*(np.concatenate(parts) for parts in zip(one, two, strict=True)))
    np.testing.assert_allclose(vein_depth(both, 12), np.maximum(vein_depth(one, 12), vein_depth(two, 12)))


def test_a_vein_that_leaves_the_image_is_cut_at_its_edge() -> None:
    depth = vein_depth(piece((-3.0, 4.5), (3.0, 4.5), radius=1.0), 16)
    assert (depth[4, :3] > 0.9).all()
    assert (depth[:, 8:] == -EDGE_PX).all()
