"""Varied leaves: reproducible, every kind occurs, and the masks lie on what is visible in the images."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.synthetic import VariedLeaf, draw_varied_leaf, synthesize_varied
from mnsa.data.synthetic.major_veins import Vein
from mnsa.data.synthetic.varied_layers import (
    VIEWS,
    Layers,
    PlacedLeaf,
    bend_walls,
    draw_net,
    place_leaves,
    rasterize,
    sample_view,
)
from mnsa.data.synthetic.varied_photo import BACKGROUNDS, IMAGING, sample_appearance, visible_orders
from mnsa.data.synthetic.varied_shape import OUTLINES, PINNATE, Blade, Species, draw_blade, ribbon, sample_species
from mnsa.errors import DataError


@cache
def leaf(index: int, size_px: int = 128) -> VariedLeaf:
    return draw_varied_leaf(3, index, size_px)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def a_species(**changes: object) -> Species:
    species = sample_species(rng(1))
    while species.outline != "simple" or species.venation not in PINNATE:
        species = sample_species(rng(int(1e6 * species.aspect)))
    return replace(species, **changes)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("outline", OUTLINES)
def test_a_blade_of_every_outline_has_veins_of_order_1_and_2(outline: str) -> None:
    seeds = (seed for seed in range(500) if sample_species(rng(seed)).outline == outline)
    species = sample_species(rng(next(seeds)))
    blade = draw_blade(species, rng(2))
    assert {1, 2} <= {vein.order for vein in blade.veins}
    points = np.concatenate([vein.points for vein in blade.veins])
    assert np.isfinite(points).all()
    assert np.abs(points).max() < 1.6  # of a length of 1


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


def test_a_leaf_is_as_large_as_its_view_says() -> None:
    species = a_species()
    for view, low, high in (("whole", 0.55, 1.1), ("closeup", 1.25, 2.7)):
        placed = place_leaves(species, view, 100, rng(4))
        corners = np.concatenate([polygon for each in placed for polygon in each.blade.polygons])
        extent = (corners.max(axis=0) - corners.min(axis=0)).max() / 100.0
        assert low < extent < high
    patch = rasterize(place_leaves(a_species(aspect=0.8), "patch", 96, rng(5)), species, 96, rng(6))
    assert patch.blade.mean() > 0.9


def test_masks_and_images_are_drawn_at_the_same_place() -> None:
    """The centers of a vein in mask, coverage and geometry are the same, to a fifth of a pixel."""
    corners = np.array([[0.0, 0.0], [64.0, 0.0], [64.0, 64.0], [0.0, 64.0]])
    columns, centers = np.arange(64) + 0.5, []
    for x in np.linspace(30.0, 31.0, 9):
        upright = Vein(np.stack([np.full(9, x), np.linspace(-9.0, 73.0, 9)], axis=1), np.full(9, 1.5), 2)
        outside = Vein(upright.points - 500.0, upright.radii, 1)
        species = a_species(areole_size=0.01, tertiary_spacing=0.01)
        layers = rasterize([PlacedLeaf(Blade([corners], outside, [upright]), 100.0)], species, 64, rng(1))
        coverage, mask = layers.veins[1][32], layers.orders[32] == 2
        assert (coverage * columns).sum() / coverage.sum() == pytest.approx(x, abs=0.2)
        assert columns[mask].mean() == pytest.approx(x, abs=0.51)
        assert 3 <= mask.sum() <= 4
        centers.append(float(columns[mask].mean() - x))
    assert np.mean(centers) == pytest.approx(0.0, abs=0.2)


def test_a_net_has_cells_of_the_asked_size_and_none_below_the_finest() -> None:
    walls = draw_net(np.zeros((0, 2, 2)), 12.0, 120, rng(7))
    inside = ((walls > 0) & (walls < 120)).all(axis=(1, 2))
    length = np.hypot(*(walls[inside, 1] - walls[inside, 0]).T).sum()
    # Regular hexagons a distance d apart have 2 / d of wall per area, each shared by two cells.
    assert length / 120**2 == pytest.approx(2.0 / 12.0, rel=0.2)
    assert draw_net(np.zeros((0, 2, 2)), 2.0, 120, rng(8)).shape == (0, 2, 2)


def test_bent_walls_keep_their_ends() -> None:
    walls = 50.0 * rng(9).random((20, 2, 2))
    bent = bend_walls(walls, rng(10))
    assert_array_equal(bent[:, 0], walls[:, 0])
    assert np.allclose(bent[:, -1], walls[:, 1])
    assert_array_equal(bend_walls(walls / 100.0, rng(11)), walls / 100.0)


def test_a_ribbon_is_twice_as_wide_as_its_radii() -> None:
    around = ribbon(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), np.array([0.1, 0.2, 0.3]))
    assert np.allclose(np.abs(around[:, 1]), [0.1, 0.2, 0.3, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("contrast", "width", "gap", "expected"),
    [
        (40.0, 4.0, 40.0, (1, 2, 3, 4)),
        (-40.0, 4.0, 40.0, (1, 2, 3, 4)),
        (0.0, 4.0, 40.0, ()),
        (40.0, 0.6, 40.0, (1, 2)),
        (40.0, 4.0, 10.0, (1, 2, 3)),
    ],
)
def test_faint_thin_or_crowded_veins_are_in_no_mask(
    contrast: float, width: float, gap: float, expected: tuple[int, ...]
) -> None:  # fmt: skip
    flat = np.ones((96, 96), np.float32)
    orders = np.zeros((96, 96), np.uint8)
    for order in (1, 2, 3, 4):
        orders[:, 20 * order : 20 * order + 2] = order
    layers = Layers(flat, 0 * flat, (flat,) * 4, flat, orders, (width,) * 4, (gap,) * 4)
    gray = 120.0 + contrast * (orders > 0) + 3.0 * rng(12).standard_normal((96, 96))
    image = np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)
    assert visible_orders(image, layers) == expected


def test_finer_veins_are_left_out_where_coarser_ones_are_invisible() -> None:
    flat = np.ones((96, 96), np.float32)
    orders = np.zeros((96, 96), np.uint8)
    orders[:, 30:32], orders[:, 60:62] = 2, 3
    layers = Layers(flat, 0 * flat, (flat,) * 4, flat, orders, (4.0,) * 4, (40.0,) * 4)
    gray = 120.0 + 40.0 * (orders == 3) + 3.0 * rng(13).standard_normal((96, 96))
    assert visible_orders(np.repeat(gray[..., None], 3, axis=2).astype(np.uint8), layers) == (1,)


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
