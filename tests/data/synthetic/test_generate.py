"""Masks, veins and true traits of a drawn leaf agree. A data set depends on its numbers and its seed only."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from skimage.draw import polygon2mask
from skimage.measure import euler_number, label
from skimage.morphology import skeletonize

from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.synthetic import DrawnLeaf, draw_leaf, make_cultivar, synthesize
from mnsa.data.synthetic.generate import (
    EDGE_PX,
    count_areoles,
    fill_polygon,
    fill_single_pixels,
    polygon_area,
    vein_depth,
)
from mnsa.data.synthetic.minor_veins import VeinSegments
from mnsa.errors import DataError


def synth(
    out: Path, *, cultivars: int = 2, per_cultivar: int = 5, size_px: int = 64, seed: int = 1, workers: int = 1
) -> Manifest:
    return synthesize(out, cultivars=cultivars, per_cultivar=per_cultivar, size_px=size_px, seed=seed, workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "dataset.toml")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return synth(tmp_path_factory.mktemp("synth") / "leaves")


def test_the_returned_manifest_equals_the_one_on_disk(drawn: Manifest) -> None:
    assert read_manifest(drawn.root) == drawn
    assert drawn.classes == ("cultivar_01", "cultivar_02")
    assert drawn.mask_classes == ("vein",)
    assert len(drawn.rows) == 10


def test_each_cultivar_is_split_three_to_one_to_one(drawn: Manifest) -> None:
    expected = {"train": 3, "val": 1, "test": 1}
    for name in drawn.classes:
        assert Counter(row.split for row in drawn.rows if row.label == name) == expected


def test_images_and_masks_exist_at_the_paths_of_the_manifest(drawn: Manifest) -> None:
    for row in drawn.rows:
        with Image.open(drawn.image_path(row)) as image, Image.open(drawn.mask_path(row)) as mask:
            assert (image.size, image.mode) == ((64, 64), "RGB")
            assert (mask.size, mask.mode) == ((64, 64), "L")
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert (drawn.root / row.extra["leaf_mask"]).is_file()


def test_a_row_contains_the_true_traits_of_the_leaf(drawn: Manifest) -> None:
    row = drawn.rows[6]  # the second individual of the second cultivar
    source = np.random.SeedSequence([1, 1, 1])
    leaf = draw_leaf(make_cultivar(1, 1), np.random.Generator(np.random.PCG64(source)), 64)
    assert np.array_equal(np.asarray(Image.open(drawn.mask_path(row))), leaf.vein_mask)
    assert np.array_equal(np.asarray(Image.open(drawn.root / row.extra["leaf_mask"])), leaf.leaf_mask)
    assert int(row.extra["areole_count"]) == leaf.traits.areole_count
    assert float(row.extra["vein_length_px"]) == pytest.approx(leaf.traits.vein_length_px, rel=1e-4)
    assert float(row.extra["leaf_area_px2"]) == pytest.approx(leaf.traits.leaf_area_px2, rel=1e-4)
    assert row.px_per_mm is not None
    length_mm = np.ptp(np.nonzero(leaf.leaf_mask)[0]) / row.px_per_mm
    assert 60.0 < length_mm < 100.0


def test_the_number_of_workers_changes_nothing(drawn: Manifest, tmp_path: Path) -> None:
    again = synth(tmp_path / "leaves", workers=2)
    assert contents(again.root) == contents(drawn.root)
    assert again.digest() == drawn.digest()


def test_a_longer_data_set_begins_with_the_same_leaves(drawn: Manifest, tmp_path: Path) -> None:
    longer = synth(tmp_path / "longer", cultivars=1, per_cultivar=6)
    for row in longer.rows[:5]:
        assert longer.image_path(row).read_bytes() == (drawn.root / row.image).read_bytes()


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="exists already"):
        synth(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnsa.data.synthetic.generate.draw_leaf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        synth(tmp_path / "leaves")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cultivars": 0}, "--cultivars is 0; expected 1 or more"),
        ({"per_cultivar": -1}, "--per-cultivar is -1; expected 1 or more"),
        ({"size_px": 63}, "--size is 63; expected 64 or more"),
        ({"size_px": 5000}, "--size is 5000; expected 2048 or less"),
        ({"seed": -1}, "--seed is -1; expected 0 or more"),
        ({"workers": 0}, "--workers is 0; expected 1 or more"),
    ],
)
def test_a_number_out_of_range_is_an_error(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        synth(tmp_path / "leaves", **wrong)
    assert not (tmp_path / "leaves").exists()


def leaf_of(seed: int, index: int, individual: int, size_px: int) -> DrawnLeaf:
    source = np.random.SeedSequence([seed, index, individual])
    return draw_leaf(make_cultivar(seed, index), np.random.Generator(np.random.PCG64(source)), size_px)


@pytest.fixture(scope="module")
def leaves() -> list[DrawnLeaf]:
    return [leaf_of(seed, index, individual=seed, size_px=256) for seed in range(3) for index in range(3)]


def skeleton_length(mask: np.ndarray) -> float:
    """8-connected length: 1 per side neighbor, sqrt(2) per diagonal one that no side neighbor bridges."""
    s = skeletonize(mask)
    straight = (s[1:] & s[:-1]).sum() + (s[:, 1:] & s[:, :-1]).sum()
    falling = s[1:, 1:] & s[:-1, :-1] & ~s[1:, :-1] & ~s[:-1, 1:]
    rising = s[1:, :-1] & s[:-1, 1:] & ~s[1:, 1:] & ~s[:-1, :-1]
    return float(straight + math.sqrt(2.0) * (falling.sum() + rising.sum()))


def test_the_same_seed_draws_the_same_leaf() -> None:
    one, two = leaf_of(5, 1, 2, 128), leaf_of(5, 1, 2, 128)
    assert_array_equal(one.image, two.image)
    assert_array_equal(one.vein_mask, two.vein_mask)
    assert one.traits == two.traits


def test_individuals_of_a_cultivar_differ() -> None:
    one, two = leaf_of(5, 1, 2, 128), leaf_of(5, 1, 3, 128)
    assert (one.vein_mask != two.vein_mask).mean() > 0.02
    assert one.traits != two.traits


def test_the_pixels_of_one_leaf_do_not_change() -> None:
    leaf = leaf_of(seed=1, index=0, individual=0, size_px=256)
    assert leaf.traits.areole_count == 149 - 24  # 24 regions of one pixel are no areoles
    assert np.count_nonzero(leaf.vein_mask) == 2679 + 24


def test_image_and_masks_have_the_given_size_and_type() -> None:
    leaf = leaf_of(0, 0, 0, 100)
    assert (leaf.image.shape, leaf.image.dtype) == ((100, 100, 3), np.dtype(np.uint8))
    for mask in (leaf.vein_mask, leaf.leaf_mask):
        assert (mask.shape, mask.dtype) == ((100, 100), np.dtype(np.uint8))
        assert set(np.unique(mask)) == {0, 255}


def test_veins_are_inside_the_leaf(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        assert not (leaf.vein_mask[leaf.leaf_mask == 0]).any()


@pytest.mark.parametrize("size_px", [128, 192, 256, 512])
def test_veins_cover_two_to_ten_percent_of_the_image(size_px: int) -> None:
    shares = [(leaf_of(seed, 3 * seed, seed, size_px).vein_mask > 0).mean() for seed in range(4)]
    assert min(shares) >= 0.02
    assert max(shares) <= 0.10


def test_veins_are_paler_than_the_blade(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        brightness = leaf.image.astype(float).mean(axis=2)
        vein, blade = leaf.vein_mask > 0, (leaf.leaf_mask > 0) & (leaf.vein_mask == 0)
        assert brightness[vein].mean() > brightness[blade].mean() + 8.0


def test_the_vein_network_is_connected(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        sizes = np.bincount(label(leaf.vein_mask > 0, connectivity=2).ravel())[1:]
        assert sizes.max() / sizes.sum() > 0.98


def test_areoles_are_the_holes_of_the_vein_mask(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        veins = leaf.vein_mask > 0
        holes = label(veins, connectivity=2).max() - euler_number(veins, connectivity=2)
        assert abs(holes - leaf.traits.areole_count) <= 2


def test_no_areole_is_a_single_pixel(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        regions = label(leaf.vein_mask == 0, connectivity=1)
        assert np.bincount(regions.ravel()).min() > 1


def test_single_pixels_are_filled_only_where_veins_enclose_them() -> None:
    veins = np.array([list(row) for row in ("111110", "101011", "111001", "001111")]) == "1"
    filled = np.array([list(row) for row in ("111110", "111011", "111001", "001111")]) == "1"
    assert np.array_equal(fill_single_pixels(veins), filled)


def test_regions_at_the_margin_are_not_areoles() -> None:
    leaf = np.zeros((9, 9), dtype=bool)
    leaf[1:8, 1:8] = True
    cross, ring = np.zeros_like(leaf), np.zeros_like(leaf)
    cross[4, 1:8] = cross[1:8, 4] = True
    ring[2:7, 2:7] = True
    ring[3:6, 3:6] = False
    assert count_areoles(leaf, cross) == 0
    assert count_areoles(leaf, ring) == 1
    assert count_areoles(leaf, ring | cross) == 4


def test_vein_length_equals_the_length_of_the_skeleton(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        assert skeleton_length(leaf.vein_mask > 0) == pytest.approx(leaf.traits.vein_length_px, rel=0.1)


def test_leaf_area_equals_the_area_of_the_mask(leaves: list[DrawnLeaf]) -> None:
    for leaf in leaves:
        assert np.count_nonzero(leaf.leaf_mask) == pytest.approx(leaf.traits.leaf_area_px2, rel=0.01)


def test_the_area_of_a_triangle_is_correct() -> None:
    assert polygon_area(np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])) == pytest.approx(6.0)


def test_traits_scale_with_the_image_size() -> None:
    small, large = (leaf_of(2, 1, 0, size_px).traits for size_px in (256, 512))
    assert large.leaf_area_px2 == pytest.approx(4.0 * small.leaf_area_px2)
    assert large.vein_length_px == pytest.approx(2.0 * small.vein_length_px)
    assert large.vein_density_px_per_px2 == pytest.approx(0.5 * small.vein_density_px_per_px2)
    assert large.areole_count == pytest.approx(small.areole_count, rel=0.15)


def test_a_larger_image_shows_the_same_leaf() -> None:
    small, large = leaf_of(2, 1, 0, 128), leaf_of(2, 1, 0, 256)
    reduced = large.image.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small.image).mean() < 6.0
    agree = (large.leaf_mask[::2, ::2] > 0) == (small.leaf_mask > 0)
    assert agree.mean() > 0.98


def make_segment(start: tuple[float, float], end: tuple[float, float], radius: float) -> VeinSegments:
    return VeinSegments(np.array([start]), np.array([end]), np.array([radius]), np.array([1]))


def test_a_polygon_covers_the_same_pixels_as_in_scikit_image() -> None:
    polygon = np.array([[10.2, 5.1], [50.7, 20.3], [40.4, 58.9], [8.8, 40.0]])
    ours = fill_polygon(polygon, 64) >= 0.5
    theirs = polygon2mask((64, 64), polygon[:, ::-1] - 0.5)  # rows first, and pixel centers on whole numbers
    assert (ours != theirs).sum() <= 0.02 * theirs.sum()


def test_the_sum_of_covered_fractions_is_the_area_of_the_polygon() -> None:
    square = np.array([[10.25, 10.25], [50.75, 10.25], [50.75, 50.75], [10.25, 50.75]])
    assert fill_polygon(square, 64).sum() == pytest.approx(40.5**2, rel=0.01)


def test_depth_is_the_radius_minus_the_distance_to_the_centerline() -> None:
    depth = vein_depth(make_segment((8.5, 4.5), (8.5, 12.5), radius=3.0), 32)
    assert depth[8, 8] == pytest.approx(3.0)
    assert depth[8, 10] == pytest.approx(1.0)
    assert depth[2, 8] == pytest.approx(1.0)  # two pixels beyond the end
    assert depth[8, 20] == -EDGE_PX


def test_depth_refers_to_the_nearest_vein() -> None:
    one, two = make_segment((4, 0), (4, 9), radius=1.0), make_segment((6, 0), (6, 9), radius=2.0)
    both = VeinSegments(*(np.concatenate(parts) for parts in zip(one, two, strict=True)))
    np.testing.assert_allclose(vein_depth(both, 12), np.maximum(vein_depth(one, 12), vein_depth(two, 12)))


def test_a_vein_is_cut_at_the_edge_of_the_image() -> None:
    depth = vein_depth(make_segment((-3.0, 4.5), (3.0, 4.5), radius=1.0), 16)
    assert (depth[4, :3] > 0.9).all()
    assert (depth[:, 8:] == -EDGE_PX).all()
