"""Distributions are weighted; trait columns depend on the scale."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnsa.errors import ConfigError
from mnsa.traits import Roles, TraitMeasurer
from mnsa.traits.records import enlarge_columns, summarize, to_numbers


def test_weights_act_as_repetitions() -> None:
    values = np.sort(np.random.default_rng(1).standard_normal(400))
    weights = np.arange(400) % 5
    found, repeated = summarize(values, weights.astype(float)), np.repeat(values, weights)
    assert found.mean == pytest.approx(repeated.mean())
    assert found.sd == pytest.approx(repeated.std())
    assert (found.p05, found.p50, found.p95) == pytest.approx(np.quantile(repeated, [0.05, 0.5, 0.95]), abs=0.1)


def test_percentiles_without_weights_equal_those_of_numpy() -> None:
    values = np.random.default_rng(2).standard_normal(2001)
    found = summarize(values)
    assert (found.p05, found.p50, found.p95) == pytest.approx(np.quantile(values, [0.05, 0.5, 0.95]), abs=0.01)


def test_values_with_weight_zero_are_ignored() -> None:
    values = np.array([100.0, 2.0, 3.0, -50.0])
    assert summarize(values, np.array([0, 1, 1, 0])) == summarize(np.array([2.0, 3.0]))


def test_an_empty_distribution_is_nan() -> None:
    assert np.isnan(summarize(np.empty(0))).all()
    assert np.isnan(summarize(np.ones(3), np.zeros(3))).all()


ROLES = Roles(vein=(2,), leaf=(1,), lesion=(3,))


@pytest.fixture(scope="module")
def mask(draw: SimpleNamespace) -> Any:
    """A disk-shaped leaf with a grid of veins and a lesion."""
    mask = draw.disk(90).astype(np.uint8)
    mask[draw.grid(3, 40, 3, 20)] = 2
    mask[110:117, 115:122] = 3
    return mask


def test_without_a_scale_columns_are_in_pixels(mask: np.ndarray) -> None:
    row = TraitMeasurer(ROLES).measure_row(mask)
    assert [name for name in row if "mm" in name] == []
    assert {"leaf_area_px2", "vein_length_px", "vein_density_px_per_px2", "vein_width_p50_px", "areole_count"} <= set(
        row
    )


def test_with_a_scale_columns_are_in_millimeters(mask: np.ndarray) -> None:
    row = TraitMeasurer(ROLES, px_per_mm=20.0).measure_row(mask)
    assert [name for name in row if "px" in name] == []
    assert {"leaf_area_mm2", "vein_length_mm", "vein_density_mm_per_mm2", "vein_width_p50_mm", "areole_count"} <= set(
        row
    )


def test_values_are_converted_to_the_unit_of_the_column(mask: np.ndarray) -> None:
    px, mm = TraitMeasurer(ROLES).measure_row(mask), TraitMeasurer(ROLES, px_per_mm=20.0).measure_row(mask)
    for name, factor in (("leaf_area_px2", 1 / 400), ("vein_length_px", 1 / 20), ("vein_density_px_per_px2", 20)):
        assert float(mm[name.replace("px", "mm")]) == pytest.approx(float(px[name]) * factor, rel=1e-5)
    same = [name for name in px if "px" not in name]
    assert [px[name] for name in same] == [mm[name] for name in same]
    assert {"leaf_circularity", "vein_area_fraction", "vein_tortuosity_mean", "lesion_count"} <= set(same)


@pytest.mark.parametrize("scale", [None, 20.0])
@pytest.mark.parametrize(
    "roles", [ROLES, Roles((1,), (), ()), Roles((), (1,), ()), Roles((), (1,), (2,)), Roles((), (), (1,))]
)
def test_columns_do_not_depend_on_the_mask(mask: np.ndarray, roles: Roles, scale: float | None) -> None:
    measurer = TraitMeasurer(roles, px_per_mm=scale)
    assert list(measurer.measure_row(mask)) == measurer.columns


def test_undefined_values_are_empty_text() -> None:
    row = TraitMeasurer(ROLES).measure_row(np.zeros((9, 9), dtype=np.uint8))
    assert row["leaf_area_px2"] == row["vein_length_px"] == row["areole_count"] == row["lesion_count"] == "0"
    assert row["leaf_length_px"] == row["vein_density_px_per_px2"] == row["lesion_area_fraction"] == ""
    assert "nan" not in row.values()


def test_numbers_equal_the_text_and_undefined_ones_are_nan(mask: np.ndarray) -> None:
    for measured in (mask, np.zeros((9, 9), dtype=np.uint8)):
        measurer = TraitMeasurer(ROLES, px_per_mm=20.0)
        texts, numbers = measurer.measure_row(measured), to_numbers(measurer.measure(measured), 20.0)
        assert set(texts) - set(numbers) == {"vein_reference"}
        for name, number in numbers.items():
            assert isinstance(number, float)
            assert number == pytest.approx(float(texts[name] or "nan"), rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("scale", [0.0, -2.0, float("nan"), float("inf")])
def test_an_invalid_scale_is_an_error(scale: float) -> None:
    with pytest.raises(ConfigError, match=r"--px-per-mm.*expected a positive number"):
        TraitMeasurer(ROLES, px_per_mm=scale)


def test_traits_of_a_shrunk_mask_become_those_of_the_large_image_under_the_same_names(mask: np.ndarray) -> None:
    row = TraitMeasurer(ROLES).measure_row(mask)
    larger = enlarge_columns(row, 3.0)
    assert list(larger) == list(row)
    for name, factor in (("leaf_area_px2", 9), ("vein_length_px", 3), ("vein_density_px_per_px2", 1 / 3)):
        assert float(larger[name]) == pytest.approx(float(row[name]) * factor, rel=1e-5)
    same = [name for name in row if "px" not in name]
    assert [larger[name] for name in same] == [row[name] for name in same]
