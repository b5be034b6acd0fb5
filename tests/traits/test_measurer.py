"""Mask classes get roles by usual or given names. Processes measure as this one does, and end with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from mnsa.errors import ConfigError, DataError
from mnsa.traits import Roles, TraitMeasurer, find_roles
from mnsa.traits.measurer import find_roles_or_none, measurement_pool
from mnsa.traits.regions import convex_hull
from narrowing import some

VEINS = Roles(vein=(1,), leaf=(), lesion=())

MEASURER = TraitMeasurer(find_roles(["vein"]), px_per_mm=4.0)
BEGIN = """
import os, numpy as np
from multiprocessing import active_children
from mnsa.traits.measurer import measurement_pool
from mnsa.traits import TraitMeasurer, find_roles
if __name__ == "__main__":
    with measurement_pool(TraitMeasurer(find_roles(["vein"])), images=100, processes=1) as measure:
        measure(np.zeros((9, 9), np.uint8), None)
        print(*(child.pid for child in active_children()), flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    ("classes", "roles"),
    [
        (["vein"], Roles(vein=(1,), leaf=(), lesion=())),
        (["foreground"], Roles(vein=(1,), leaf=(), lesion=())),
        (["leaf"], Roles(vein=(), leaf=(1,), lesion=())),
        (["background", "leaf", "symptom"], Roles(vein=(), leaf=(1,), lesion=(2,))),
        (["background", "Leaf", "Veins"], Roles(vein=(2,), leaf=(1,), lesion=())),
    ],
)
def test_usual_names_have_their_roles(classes: list[str], roles: Roles) -> None:
    assert find_roles(classes) == roles


def test_given_names_replace_only_the_usual_names_of_their_role() -> None:
    classes = ["background", "leaf", "rust", "miner", "lesion", "nerve"]
    roles = find_roles(classes, vein=["nerve"], lesion=["rust", "miner"])
    assert roles == Roles(vein=(5,), leaf=(1,), lesion=(2, 3))


def test_a_given_role_replaces_the_usual_role_of_a_name() -> None:
    assert find_roles(["background", "vein", "leaf"], lesion=["vein"]) == Roles(vein=(), leaf=(2,), lesion=(1,))


@pytest.mark.parametrize(
    ("classes", "given", "words"),
    [
        (["background", "class1"], {}, ["background, class1", "--vein NAME"]),
        ([], {}, ["none"]),
        (["background", "leaf"], {"vein": ["nerve"]}, ["no mask class 'nerve'", "background, leaf"]),
        (["background", "leaf"], {"vein": ["leaf"], "leaf": ["leaf"]}, ["can't have two roles"]),
    ],
)
def test_ambiguous_or_unknown_roles_are_errors(classes: Any, given: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        find_roles(classes, **given)
    assert [word for word in words if word not in str(error.value)] == []


def test_veins_and_lesions_belong_to_the_leaf() -> None:
    mask = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    roles = Roles(vein=(3,), leaf=(1,), lesion=(2,))
    assert some(roles.select_pixels(mask, "leaf")).tolist() == [[False, True, True, True]]
    assert some(roles.select_pixels(mask, "lesion")).tolist() == [[False, False, True, False]]
    assert Roles(vein=(3,), leaf=(), lesion=()).select_pixels(mask, "leaf") is None


def test_mask_classes_without_usual_names_have_no_roles() -> None:
    assert find_roles_or_none(["stem", "pot"]) is None
    assert find_roles_or_none(["stem", "pot"], vein=["stem"]) == find_roles(["stem", "pot"], vein=["stem"])
    assert find_roles_or_none(["vein"]) == find_roles(["vein"])
    with pytest.raises(ConfigError, match="no mask class"):
        find_roles_or_none(["stem"], vein=["twig"])


def test_lesions_are_counted_and_measured() -> None:
    mask = np.ones((40, 50), dtype=np.uint8)
    mask[:, :10] = 0
    mask[5:7, 20:25] = mask[7, 25] = 2  # 8-connected: one
    mask[30:33, 30:33] = 2
    lesion = some(TraitMeasurer(Roles(vein=(), leaf=(1,), lesion=(2,))).measure(mask).lesion)
    assert lesion.count == 2
    assert lesion.area_fraction == 20 / 1600
    assert (lesion.area_px2.mean, lesion.area_px2.p50) == (10, 10)
    assert some(TraitMeasurer(Roles(vein=(), leaf=(), lesion=(2,))).measure(mask).lesion).count == 2


def test_parts_without_a_class_are_none(draw: SimpleNamespace) -> None:
    traits = TraitMeasurer(VEINS).measure(draw.line(100, 3, 0).astype(np.uint8))
    assert traits.leaf is None
    assert traits.lesion is None
    assert (some(traits.vein).free_ending_count, some(traits.areole).count) == (2, 0)


def test_without_a_leaf_density_relates_to_the_hull_or_the_image(draw: SimpleNamespace) -> None:
    veins = draw.grid(4, 40, 2, 30)
    hull, image = (
        some(TraitMeasurer(VEINS, reference_area=reference_area).measure(veins.astype(np.uint8)).vein)
        for reference_area in ("hull", "image")
    )
    assert (hull.reference, image.reference) == ("hull", "image")
    assert hull.reference_area_px2 == convex_hull(veins).sum()
    assert image.reference_area_px2 == veins.size
    assert hull.length_px == image.length_px
    assert hull.density_px_per_px2 == pytest.approx(hull.length_px / hull.reference_area_px2)


def test_a_separate_leaf_mask_is_the_reference_area(draw: SimpleNamespace) -> None:
    leaf, veins = draw.disk(70), draw.grid(4, 40, 2, 0)
    measurer = TraitMeasurer(Roles(vein=(1,), leaf=(), lesion=(2,)), separate_leaf_mask=True)
    mask = veins.astype(np.uint8)
    mask[:10, :10] = 2
    apart = measurer.measure(mask, leaf.astype(np.uint8) * 255)
    vein = some(apart.vein)
    assert vein.reference == "leaf"
    assert vein.reference_area_px2 == some(apart.leaf).area_px2 == leaf.sum()
    assert vein.area_fraction == (veins & leaf).sum() / leaf.sum()
    assert some(apart.lesion).count == 0
    assert measurer.columns[0] == "leaf_area_px2"


def test_a_leaf_mask_of_another_size_is_an_error(draw: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="20 x 10 pixels; expected 241 x 241"):
        TraitMeasurer(VEINS, separate_leaf_mask=True).measure(
            draw.disk(9).astype(np.uint8), np.ones((10, 20), dtype=np.uint8)
        )


def test_a_mask_from_a_1_bit_image_is_measured(draw: SimpleNamespace, tmp_path: Path) -> None:
    veins = draw.grid(4, 40, 3, 15)
    Image.fromarray(veins).save(tmp_path / "veins.png")
    with Image.open(tmp_path / "veins.png") as image:
        raw = np.asarray(image)
    assert raw.dtype == bool  # with 255 for True inside, which thinning would take for an index
    assert TraitMeasurer(VEINS).measure_row(raw) == TraitMeasurer(VEINS).measure_row(veins.astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3)),
    st.sampled_from(["hull", "image"]),
    st.booleans(),
)
def test_any_mask_can_be_measured(mask: np.ndarray, reference_area: Literal["hull", "image"], has_leaf: bool) -> None:
    measurer = TraitMeasurer(
        Roles(vein=(2,), leaf=(1,) if has_leaf else (), lesion=(3,)), reference_area=reference_area
    )
    vein = some(measurer.measure(mask).vein)
    assert list(measurer.measure_row(mask)) == measurer.columns
    assert 0 <= vein.length_px <= 3 * (mask == 2).sum()
    assert vein.branch_count >= 0
    assert not (vein.width_px.p05 > vein.width_px.p95)


def cross(size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[size // 2 - 1 : size // 2 + 2] = mask[:, size // 2 - 1 : size // 2 + 2] = 1
    return mask


def test_few_images_are_measured_without_a_pool() -> None:
    with measurement_pool(MEASURER, images=3, processes=2) as measure:
        assert measure(cross(40), None) == MEASURER.measure_row(cross(40))
        assert measure == MEASURER.measure_row_at
        assert measure(cross(40), 8.0) == replace(MEASURER, px_per_mm=8.0).measure_row(cross(40))


class Fatal(TraitMeasurer):
    """Kills the process that measures a mask of 7 rows."""

    def measure_row_at(self, mask: np.ndarray, px_per_mm: float | None) -> dict[str, str]:
        if len(mask) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return MEASURER.measure_row(mask)


@pytest.mark.slow
def test_a_pool_measures_the_same_also_after_a_process_was_killed() -> None:
    with measurement_pool(Fatal(VEINS), images=100, processes=1) as measure:
        assert measure(cross(40), None) == MEASURER.measure_row(cross(40))
        (child,) = multiprocessing.active_children()
        os.kill(some(child.pid), signal.SIGKILL)
        assert measure(cross(40), None) == MEASURER.measure_row(cross(40))
        with pytest.raises(DataError, match="killed twice"):
            measure(cross(7), None)
        assert measure(cross(40), None) == MEASURER.measure_row(cross(40))


@pytest.mark.slow
def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "begin.py"
    script.write_text(BEGIN)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    (child,) = map(int, ended.stdout.split())
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it still runs")
