"""A mask, its classes' roles and a leaf of its own become traits; no mask breaks the ruler."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from mnsa.errors import DataError
from mnsa.traits import Roles, Ruler
from mnsa.traits.hull import convex_hull

VEINS = Roles(vein=(1,), leaf=(), lesion=())


def test_lesions_are_counted_and_measured():
    mask = np.ones((40, 50), dtype=np.uint8)
    mask[:, :10] = 0
    mask[5:7, 20:25] = mask[7, 25] = 2  # 8-connected: one
    mask[30:33, 30:33] = 2
    lesion = Ruler(Roles(vein=(), leaf=(1,), lesion=(2,))).measure(mask).lesion
    assert lesion.count == 2
    assert lesion.area_share == 20 / 1600
    assert (lesion.area_px2.mean, lesion.area_px2.p50) == (10, 10)
    assert Ruler(Roles(vein=(), leaf=(), lesion=(2,))).measure(mask).lesion.count == 2


def test_parts_without_a_class_are_none(draw):
    traits = Ruler(VEINS).measure(draw.line(100, 3, 0).astype(np.uint8))
    assert traits.leaf is None
    assert traits.lesion is None
    assert (traits.vein.free_ending_count, traits.areole.count) == (2, 0)


def test_without_a_leaf_density_relates_to_the_hull_or_the_image(draw):
    veins = draw.grid(4, 40, 2, 30)
    hull, image = (Ruler(VEINS, ground=ground).measure(veins.astype(np.uint8)).vein for ground in ("hull", "image"))
    assert (hull.ground, image.ground) == ("hull", "image")
    assert hull.ground_area_px2 == convex_hull(veins).sum()
    assert image.ground_area_px2 == veins.size
    assert hull.length_px == image.length_px
    assert hull.density_px_per_px2 == pytest.approx(hull.length_px / hull.ground_area_px2)


def test_a_leaf_that_comes_apart_is_the_ground_and_nothing_outside_counts(draw):
    leaf, veins = draw.disk(70), draw.grid(4, 40, 2, 0)
    ruler = Ruler(Roles(vein=(1,), leaf=(), lesion=(2,)), leaf_apart=True)
    mask = veins.astype(np.uint8)
    mask[:10, :10] = 2
    apart = ruler.measure(mask, leaf.astype(np.uint8) * 255)
    assert apart.vein.ground == "leaf"
    assert apart.vein.ground_area_px2 == apart.leaf.area_px2 == leaf.sum()
    assert apart.vein.area_share == (veins & leaf).sum() / leaf.sum()
    assert apart.lesion.count == 0
    assert ruler.columns[0] == "leaf_area_px2"


def test_a_leaf_of_another_size_is_an_error(draw):
    with pytest.raises(DataError, match="20 x 10 pixels; expected 241 x 241"):
        Ruler(VEINS, leaf_apart=True).measure(draw.disk(9).astype(np.uint8), np.ones((10, 20), dtype=np.uint8))


def test_a_mask_straight_from_a_1_bit_image_is_measured(draw, tmp_path):
    veins = draw.grid(4, 40, 3, 15)
    Image.fromarray(veins).save(tmp_path / "veins.png")
    with Image.open(tmp_path / "veins.png") as image:
        raw = np.asarray(image)
    assert raw.dtype == bool  # with 255 for True inside, which thinning would take for an index
    assert Ruler(VEINS).row(raw) == Ruler(VEINS).row(veins.astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3)),
    st.sampled_from(["hull", "image"]),
    st.booleans(),
)
def test_any_mask_can_be_measured(mask, ground, has_leaf):
    ruler = Ruler(Roles(vein=(2,), leaf=(1,) if has_leaf else (), lesion=(3,)), ground=ground)
    traits = ruler.measure(mask)
    assert list(ruler.row(mask)) == ruler.columns
    assert 0 <= traits.vein.length_px <= 3 * (mask == 2).sum()
    assert traits.vein.branch_count >= 0
    assert not (traits.vein.width_px.p05 > traits.vein.width_px.p95)
