"""Varied leaves: reproducible, every kind occurs, and the masks lie on what is visible in the images."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.synthetic import VariedLeaf, draw_varied_leaf, synthesize_varied
from mnsa.data.synthetic.varied_layers import (
    VIEWS,
    sample_view,
)
from mnsa.data.synthetic.varied_photo import BACKGROUNDS, IMAGING, sample_appearance
from mnsa.data.synthetic.varied_shape import OUTLINES, PINNATE, sample_species
from mnsa.errors import DataError
from varied_species import rng


@cache
def leaf(index: int, size_px: int = 128) -> VariedLeaf:
    return draw_varied_leaf(3, index, size_px)


def test_an_image_depends_on_seed_index_and_size_alone() -> None:
    again = draw_varied_leaf(3, 5, 128)
    assert_array_equal(again.image, leaf(5).image)
    assert_array_equal(again.vein_orders, leaf(5).vein_orders)
    assert (leaf(5).image != leaf(6).image).any()
    assert (leaf(5).image != draw_varied_leaf(4, 5, 128).image).any()


def test_masks_have_the_size_of_the_image_and_the_documented_values() -> None:
    for index in range(8):
        drawn = leaf(index)
        assert drawn.image.shape == (128, 128, 3)
        assert drawn.image.dtype == np.uint8
        assert set(np.unique(drawn.vein_orders)) <= {0, 1, 2, 3}
        assert set(np.unique(drawn.leaf_mask)) <= {0, 255}
        assert_array_equal(drawn.vein_mask() > 0, drawn.vein_orders > 0)
        assert_array_equal(drawn.vein_mask(1) > 0, drawn.vein_orders == 1)


def test_secondary_and_finer_veins_are_inside_the_leaf() -> None:
    for index in range(12):
        finer = leaf(index).vein_orders >= 2
        assert leaf(index).leaf_mask[finer].all()


def test_every_outline_venation_view_imaging_and_background_occurs() -> None:
    species = [sample_species(rng(seed)) for seed in range(300)]
    appearances = [sample_appearance(rng(seed)) for seed in range(400)]
    assert {one.outline for one in species} == set(OUTLINES)
    assert {one.venation for one in species} == {*PINNATE, "palmate", "parallel"}
    assert {one.imaging for one in appearances} == set(IMAGING)
    assert {one.background for one in appearances} == {name for names in BACKGROUNDS.values() for name in names}
    assert {sample_view(rng(seed)) for seed in range(100)} == set(VIEWS)


def test_veins_differ_from_the_blade_beside_them() -> None:
    """Either in lightness or by shading: the contrast at the midrib and the secondary veins is that of a line."""
    contrasts = []
    for index in range(14):
        drawn = leaf(index)
        gray = drawn.image.astype(np.float64).mean(axis=2)
        veins = (drawn.vein_orders > 0) & (drawn.vein_orders <= 2)
        beside = binary_dilation(veins, iterations=4) & ~binary_dilation(veins) & (drawn.leaf_mask > 0)
        if veins.sum() > 50 and beside.sum() > 50:
            detail = np.abs(gray - gaussian_filter(gray, 4.0))
            contrasts.append(detail[veins].mean() / detail[beside].mean())
    assert len(contrasts) > 8
    assert np.median(contrasts) > 1.15


def test_a_shifted_mask_fits_the_image_less() -> None:
    def fit(drawn: VariedLeaf, shift: int) -> float:
        gray = gaussian_filter(drawn.image.astype(np.float64).mean(axis=2), 0.7)
        ridge = np.abs(gray - gaussian_filter(gray, 3.0))
        veins = np.roll(drawn.vein_orders, (shift, shift), axis=(0, 1)) > 0
        return float(ridge[veins & (drawn.leaf_mask > 0)].mean())

    drawn = [leaf(index) for index in range(14) if 200 < (leaf(index).vein_orders > 0).sum() < 3000]
    better = [fit(one, 0) > max(fit(one, 5), fit(one, -5)) for one in drawn]
    assert np.mean(better) > 0.75


def test_the_scale_and_the_width_of_the_midrib_agree_with_the_mask() -> None:
    """The width from the table is that in the middle of the midrib, so it is between the mask's thin and thick end."""
    for index in range(12):
        drawn = leaf(index)
        midrib = drawn.vein_orders == 1
        assert 2.0 <= drawn.px_per_mm <= 40.0
        if drawn.view == "whole" and drawn.midrib_width_px > 2.0:
            widest = 2.0 * distance_transform_edt(midrib).max()
            assert 0.5 < drawn.midrib_width_px / widest < 1.5


@pytest.fixture(scope="module")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("varied") / "leaves"
    return synthesize_varied(out, images=20, size_px=64, seed=1, workers=1, class_per_order=True)


def test_a_data_set_holds_the_drawn_images(drawn_set: Manifest) -> None:
    assert read_manifest(drawn_set.root) == drawn_set
    assert drawn_set.mask_classes == ("vein1", "vein2", "vein3")
    assert [len(drawn_set.split(name).rows) for name in ("train", "val", "test")] == [18, 1, 1]
    row, drawn = drawn_set.rows[7], draw_varied_leaf(1, 7, 64)
    assert_array_equal(np.asarray(Image.open(drawn_set.mask_path(row))), drawn.vein_orders)
    assert_array_equal(np.asarray(Image.open(drawn_set.root / row.extra["leaf_mask"])), drawn.leaf_mask)
    assert row.px_per_mm == drawn.px_per_mm
    assert row.extra["outline"] == drawn.outline


def test_one_class_can_be_limited_to_the_lower_orders(tmp_path: Path) -> None:
    manifest = synthesize_varied(tmp_path / "set", images=3, size_px=64, seed=1, workers=1, max_order=2)
    assert manifest.mask_classes == ("vein",)
    for index, row in enumerate(manifest.rows):
        expected = draw_varied_leaf(1, index, 64).vein_mask(2)
        assert_array_equal(np.asarray(Image.open(manifest.mask_path(row))), expected)


@pytest.mark.slow
def test_the_number_of_processes_changes_no_image(drawn_set: Manifest, tmp_path: Path) -> None:
    other = synthesize_varied(tmp_path / "set", images=20, size_px=64, seed=1, workers=2, class_per_order=True)
    assert other.rows == drawn_set.rows
    for row in other.rows:
        assert other.image_path(row).read_bytes() == drawn_set.image_path(row).read_bytes()
        assert other.mask_path(row).read_bytes() == drawn_set.mask_path(row).read_bytes()


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--max-order is 0"):
        synthesize_varied(tmp_path / "set", images=2, size_px=64, seed=1, workers=1, max_order=0)
    assert not (tmp_path / "set").exists()
