"""Gaps of thin structures are closed along probable paths, and nothing else is joined or grows."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from skimage.graph import route_through_array
from skimage.measure import euler_number
from skimage.morphology import skeletonize

from mnsa.config import DataConfig
from mnsa.inference.postprocessing import ClassPostprocessing, MaskMaker, Postprocessing
from mnsa.inference.repair import EIGHT, Repair, mean_width, thin_candidates

HIGH, LOW = 230, 3  # probabilities of a vein and of what lies between, times 255


def pieces(mask: np.ndarray) -> int:
    return int(label(mask, EIGHT)[1])


def holes(mask: np.ndarray) -> int:
    return pieces(mask) - int(euler_number(mask, connectivity=2))


def draw(*lines: tuple[slice | int, slice | int], gap: dict[tuple[int, int], float] | None = None) -> np.ndarray:
    """Draw veins of probability HIGH on 40 x 40 px; gap: probabilities of single pixels."""
    probs = np.full((40, 40), LOW, np.uint8)
    for line in lines:
        probs[line] = HIGH
    for place, value in (gap or {}).items():
        probs[place] = round(255 * value)
    return probs


def close(probs: np.ndarray, repair: Repair | None = None) -> np.ndarray:
    return (repair or Repair()).close_gaps(probs > 127, probs)


@pytest.mark.parametrize(("value", "closed"), [(0.3, True), (0.12, True), (0.08, False), (0.01, False)])
def test_a_gap_is_closed_where_its_probability_is_high_enough(value: float, closed: bool) -> None:
    probs = draw((20, slice(5, 35)), gap={(20, column): value for column in (18, 19, 20)})
    assert pieces(probs > 127) == 2
    repaired = close(probs)
    assert pieces(repaired) == (1 if closed else 2)
    assert repaired.sum() == 27 + 3 * closed


def test_the_path_follows_the_most_probable_pixels() -> None:
    """As the cheapest path of scikit-image does; the gap has a bent ridge inside a wide band of candidates."""
    probs = draw((20, slice(0, 12)), (20, slice(28, 40)))
    columns = np.arange(12, 28)
    bend = np.round(20 + 5 * np.sin(np.pi * (columns - 11) / 17)).astype(int)
    for column, row in zip(columns, bend, strict=True):
        for off in range(-3, 4):
            probs[row + off, column] = 90 - 18 * abs(off)
    added = close(probs) & ~(probs > 127)
    path, _ = route_through_array(1.0 / probs**2.0, (20, 11), (20, 28), fully_connected=True)
    distance = distance_transform_edt(~np.isin(np.arange(1600).reshape(40, 40), [r * 40 + c for r, c in path]))
    assert distance[added].max() <= 1.5
    assert set(np.nonzero(added)[1]) == set(columns)
    assert added.sum() <= len(path) + 2


def test_two_parallel_veins_are_not_joined() -> None:
    probs = draw((15, slice(5, 35)), (20, slice(5, 35)))
    smooth = gaussian_filter(probs.astype(float), 1.2)
    probs = np.maximum(probs, smooth.round().astype(np.uint8))
    assert probs[17, 20] > 255 * 0.02
    repaired = close(probs, Repair(min_prob=0.02, min_mean_prob=0.3))
    assert pieces(repaired) == 2
    np.testing.assert_array_equal(repaired, probs > 127)


def test_free_ends_and_the_sides_of_veins_do_not_grow() -> None:
    probs = draw((20, slice(5, 20)), gap={(20, column): 0.4 for column in range(20, 28)})
    probs[19, 5:20] = probs[21, 5:20] = 100
    np.testing.assert_array_equal(close(probs), probs > 127)


def test_candidates_away_from_the_mask_are_ignored() -> None:
    probs = draw((20, slice(5, 35)), gap={(5, column): 0.4 for column in range(5, 30)})
    np.testing.assert_array_equal(close(probs), probs > 127)
    empty = draw(gap={(5, 5): 0.4})
    assert not close(empty).any()


def test_a_path_separates_what_lies_on_both_sides() -> None:
    """A closed gap in a diagonal side of a polygon makes an areole, as background is 4-connected."""
    probs = draw((slice(5, 35), 5), (34, slice(5, 35)))
    diagonal = np.arange(5, 35)
    probs[diagonal, diagonal] = HIGH
    probs[diagonal[12:16], diagonal[12:16]] = 60
    assert (holes(probs > 127), holes(close(probs))) == (0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_thinning_keeps_the_topology_of_all_candidates(seed: int) -> None:
    """Compared with scikit-image: the same pieces and holes as before, and as Lee's skeleton; only paths are left."""
    noise = np.random.default_rng(seed).normal(size=(120, 90))
    probs = gaussian_filter(noise, 2)
    probs = np.clip(128 + 250 * probs / probs.std() / 4, 0, 255).astype(np.uint8)
    mask = probs > 190
    labels, _ = label(probs > 120, EIGHT)
    whole = np.isin(labels, np.unique(labels[mask])) & (labels > 0)
    left = thin_candidates(mask, whole & ~mask, probs)
    thinned = mask | left
    assert (pieces(thinned), holes(thinned)) == (pieces(whole), holes(whole))
    assert (pieces(thinned), holes(thinned)) == (
        pieces(skeletonize(whole, method="lee")),
        holes(skeletonize(whole, method="lee").astype(bool)),
    )
    assert 0 < left.sum() < (whole & ~mask).sum() / 4
    for place in np.argwhere(left):  # one less would change it
        one_less = thinned.copy()
        one_less[tuple(place)] = False
        assert (pieces(one_less), holes(one_less)) != (pieces(thinned), holes(thinned))


def test_the_image_border_is_background() -> None:
    probs = np.full((6, 8), 60, np.uint8)
    probs[:, 3] = HIGH
    np.testing.assert_array_equal(close(probs), probs > 127)
    assert close(np.full((6, 8), HIGH, np.uint8)).all()


def test_paths_are_as_wide_as_the_veins() -> None:
    probs = np.full((40, 60), LOW, np.uint8)
    probs[16:23, 5:55] = HIGH
    probs[16:23, 28:31] = 80
    repaired = close(probs)
    assert (repaired[:, 29].sum(), pieces(repaired)) == (7, 1)


@pytest.mark.parametrize("width", [1, 3, 5, 9])
@pytest.mark.parametrize("angle", [0, 30, 45])
def test_the_mean_width_of_a_strip(width: int, angle: int) -> None:
    rows, columns = np.mgrid[:300, :300] - 149.75
    across = rows * np.cos(np.radians(angle)) + columns * np.sin(np.radians(angle))
    mask = np.abs(across) < width / 2
    inner = mask[60:240, 60:240]
    assert mean_width(np.pad(inner, 1)) == pytest.approx(width, rel=0.3, abs=0.6)
    assert mean_width(np.zeros((5, 5), bool)) == 0


def test_repair_comes_before_specks_are_removed() -> None:
    """A short piece behind a gap is part of its vein then, and a speck that nothing leads to goes."""
    probs = draw((20, slice(5, 30)), (20, slice(32, 35)), (5, slice(5, 8)), gap={(20, 30): 0.3, (20, 31): 0.3})
    refined = ClassPostprocessing(repair=Repair(), min_area_px=6)
    maker = MaskMaker(
        Postprocessing(classes={"vein": refined}), ("vein",), DataConfig(size=(64, 64), resize_mode="crop")
    )
    mask = maker.finish(torch.from_numpy(np.stack([(probs > 127).astype(np.uint8), probs])))
    assert mask.sum() == 30
    assert mask[20, 5:35].all()
