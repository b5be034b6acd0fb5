"""Veins whose traits are known in closed form, at any rotation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes, distance_transform_edt
from scipy.spatial import Voronoi

from mnsa.traits.records import VeinTraits
from mnsa.traits.veins import measure_veins

DEGREES = range(0, 91, 5)


def measured(veins: Any, leaf: Any = None) -> VeinTraits:
    return measure_veins(veins, np.ones_like(veins), "image", leaf)


@pytest.mark.parametrize("width", [1, 2, 3, 6.4, 14])
@pytest.mark.parametrize("degrees", DEGREES)
def test_a_line_has_the_expected_length_and_width(draw: SimpleNamespace, degrees: int, width: float) -> None:
    traits = measured(draw.line(150, width, degrees))
    assert traits.length_px == pytest.approx(150, rel=0.03)
    assert traits.width_px.mean == pytest.approx(width, abs=0.5)
    assert traits.width_px.p50 == pytest.approx(width, abs=0.5)
    assert (traits.branch_count, traits.free_ending_count) == (0, 2)
    assert traits.tortuosity.mean == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("width", [1, 2, 3, 6.4, 12])
@pytest.mark.parametrize("degrees", DEGREES)
def test_a_grid_has_the_expected_traits(draw: SimpleNamespace, degrees: int, width: float) -> None:
    traits = measured(draw.grid(4, 40, width, degrees))
    assert traits.length_px == pytest.approx(8 * 160, rel=0.03)
    assert traits.width_px.mean == pytest.approx(width, abs=0.5)
    assert (traits.branch_count, traits.free_ending_count) == (16, 16)
    assert traits.order1_length_px > 0.95 * traits.length_px
    assert traits.order1_length_px + traits.order2_length_px + traits.order3_length_px == pytest.approx(
        traits.length_px
    )


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("radius", [12, 25, 80])
def test_a_ring_has_the_expected_length_and_width(draw: SimpleNamespace, radius: int, width: int) -> None:
    traits = measured(draw.ring(radius, width))
    assert traits.length_px == pytest.approx(2 * np.pi * radius, rel=0.03)
    assert traits.width_px.mean == pytest.approx(width, abs=0.5)
    assert (traits.branch_count, traits.free_ending_count) == (0, 0)


@pytest.mark.parametrize("radius", [1, 3, 20])
def test_a_disk_is_not_a_vein(draw: SimpleNamespace, radius: int) -> None:
    traits = measured(draw.disk(radius))
    assert (traits.length_px, traits.branch_count, traits.free_ending_count) == (0, 0, 0)
    assert np.isnan(traits.width_px.mean)
    assert traits.area_fraction > 0


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("cell", [12, 40])
def test_a_net_of_straight_walls_is_as_long_as_its_walls(cell: int, width: int) -> None:
    rng, side = np.random.default_rng(3), 240
    lattice = np.stack(np.meshgrid(*[np.arange(-1, side / cell + 2)] * 2), axis=-1).reshape(-1, 2)
    diagram = Voronoi(cell * (lattice + 0.2 * rng.standard_normal(lattice.shape)))
    walls = diagram.vertices[[ridge for ridge in diagram.ridge_vertices if min(ridge) >= 0]]  # (N, 2, 2)
    walls = walls[((walls > 8) & (walls < side - 8)).all(axis=(1, 2))]
    step = walls[:, 1] - walls[:, 0]
    pixel = np.moveaxis(np.indices((side, side)), 0, -1)
    mask = np.zeros((side, side), dtype=bool)
    for wall, along in zip(walls, step, strict=True):
        first, last = (wall.min(axis=0) - width).astype(int), (wall.max(axis=0) + width + 2).astype(int)
        near = slice(first[0], last[0]), slice(first[1], last[1])
        place = pixel[near] - wall[0]
        share = np.clip(place @ along / (along @ along), 0, 1)
        mask[near] |= np.hypot(*np.moveaxis(place - share[..., None] * along, -1, 0)) <= width / 2
    assert measured(mask).length_px == pytest.approx(np.hypot(*step.T).sum(), rel=0.03)


@pytest.mark.parametrize("angle", [75, 90])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_a_crossing_is_one_branch_point_though_thinning_may_split_it(
    draw: SimpleNamespace, width: int, angle: int
) -> None:
    counts = {measured(draw.cross(150, width, degrees, angle)).branch_count for degrees in range(0, 90, 15)}
    assert counts == {1}


@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_bumps_on_a_thick_vein_are_not_branches(draw: SimpleNamespace, degrees: int) -> None:
    vein = draw.line(150, 16, degrees)
    edge = binary_dilation(vein) & ~binary_erosion(vein)
    rough = vein ^ (edge & (np.random.default_rng(1).random(vein.shape) < 0.3))
    traits = measured(binary_fill_holes(rough))
    assert (traits.branch_count, traits.free_ending_count) == (0, 2)
    assert traits.length_px == pytest.approx(150, rel=0.05)


def test_a_short_branch_outside_of_the_vein_is_kept() -> None:
    vein = np.zeros((60, 100), dtype=bool)
    vein[28:35, 5:95] = True
    vein[15:28, 50:52] = True
    traits = measured(vein)
    assert (traits.branch_count, traits.free_ending_count) == (1, 3)
    assert traits.length_px == pytest.approx(90 + 13 + 3.5, rel=0.03)  # from the branch's tip to the vein's middle


def test_an_end_that_the_image_or_the_leaf_cuts_off_is_not_free() -> None:
    vein = np.zeros((40, 90), dtype=bool)
    vein[18:22, :70] = True
    assert measured(vein).free_ending_count == 1
    assert measured(vein).length_px == pytest.approx(70, abs=1)
    leaf = np.zeros_like(vein)
    leaf[5:35, 10:80] = True
    assert measured(vein & leaf, leaf).free_ending_count == 1
    leaf[:, 70:] = False
    assert measured(vein & leaf, leaf).free_ending_count == 0


def test_vein_orders_depend_on_width() -> None:
    mask = np.zeros((200, 200), dtype=bool)
    mask[96:108] = True  # 12 px
    mask[:, 40:45] = mask[:, 150:155] = True  # 5 px: less than half
    mask[30:32] = mask[170:172] = True  # 2 px: less than a quarter
    traits = measured(mask)
    assert traits.order1_length_px == pytest.approx(200, abs=15)
    assert traits.order2_length_px == pytest.approx(400, abs=15)
    assert traits.order3_length_px == pytest.approx(400, abs=15)
    assert traits.width_px.p05 == pytest.approx(2, abs=0.5)
    assert traits.width_px.p50 == pytest.approx(5, abs=0.5)
    assert traits.width_px.p95 == pytest.approx(12, abs=0.5)


def test_the_tortuosity_of_a_half_circle_is_pi_halves(draw: SimpleNamespace) -> None:
    half = draw.ring(60, 3)
    half[:, : half.shape[1] // 2] = False
    assert measured(half).tortuosity.mean == pytest.approx(np.pi / 2, rel=0.02)


def test_distances_are_measured_to_the_edge_of_the_nearest_vein(draw: SimpleNamespace) -> None:
    veins = draw.grid(4, 40, 3, 25)
    distances = distance_transform_edt(~veins)[~veins] - 0.5
    traits = measured(veins)
    assert traits.distance_px.mean == pytest.approx(distances.mean())
    assert traits.distance_px.p95 == pytest.approx(np.quantile(distances, 0.95), abs=0.1)


def test_density_and_area_fraction_relate_to_the_reference_area() -> None:
    veins = np.zeros((50, 100), dtype=bool)
    veins[20:24] = True
    traits = measured(veins)
    assert traits.reference_area_px2 == 5000
    assert traits.area_fraction == 400 / 5000
    assert traits.density_px_per_px2 == pytest.approx(100 / 5000, rel=0.02)


def test_an_empty_mask_has_no_length_and_no_width() -> None:
    traits = measured(np.zeros((20, 30), dtype=bool))
    assert (traits.length_px, traits.density_px_per_px2, traits.area_fraction) == (0, 0, 0)
    assert (traits.branch_count, traits.free_ending_count) == (0, 0)
    assert np.isnan([*traits.width_px, *traits.tortuosity, *traits.distance_px]).all()
