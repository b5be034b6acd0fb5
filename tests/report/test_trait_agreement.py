"""Traits of predicted masks beside those of true ones."""

import numpy as np
import pytest
from scipy import stats

from mnsa.report.trait_agreement import (
    MAX_NAMED_TRAIT_CLASSES,
    TraitPairs,
    _agreement_row,
    compute_agreement,
    plot_by_class,
    plot_true_vs_predicted,
    read_trait_pairs,
)


@pytest.fixture
def trait() -> TraitPairs:
    rng = np.random.default_rng(1)
    labels = [f"c{n % 5}" for n in range(40)]
    true = rng.uniform(1, 2, 40)
    return TraitPairs("vein density", "mm/mm²", labels, true, 0.8 * true + rng.normal(0, 0.05, 40))


def test_rows_become_traits_with_names_and_units_of_images_that_have_both() -> None:
    rows = [
        {"label": "a", "true_vein_density_mm_per_mm2": "0.5", "predicted_vein_density_mm_per_mm2": "0.25"},
        {"label": "b", "true_vein_density_mm_per_mm2": "0.7", "predicted_vein_density_mm_per_mm2": ""},
    ]
    rows = [
        row | {"true_areole_area_p50_px2": "9", "predicted_areole_area_p50_px2": "8", "true_x": "1"} for row in rows
    ]
    density, area = read_trait_pairs(rows)
    assert (density.axis, list(density.labels), density.true.tolist(), density.predicted.tolist()) == (
        "vein density, mm/mm²", ["a"], [0.5], [0.25],
    )  # fmt: skip
    assert (area.axis, list(area.labels)) == ("areole area, median, px²", ["a", "b"])
    assert read_trait_pairs([]) == read_trait_pairs([{"image": "a.jpg"}]) == []


def test_agreement_is_what_scipy_finds(trait: TraitPairs) -> None:
    found = compute_agreement(trait)
    assert found.r == pytest.approx(stats.pearsonr(trait.true, trait.predicted).statistic)
    assert found.rmse == pytest.approx(np.linalg.norm(trait.predicted - trait.true) / np.sqrt(40))
    assert found.bias == pytest.approx(found.predicted - found.true)
    assert found.images == 40


def test_what_does_not_vary_has_no_correlation(trait: TraitPairs) -> None:
    assert compute_agreement(trait._replace(predicted=np.ones(40))).r is None


def test_classes_stand_in_order_of_their_names_with_every_image(trait: TraitPairs) -> None:
    axes = plot_by_class(trait).axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == sorted(set(trait.labels))
    for line, values in zip(axes.lines, (trait.true, trait.predicted), strict=True):
        np.testing.assert_array_equal(np.sort(np.asarray(line.get_ydata())), np.sort(values))


def test_of_many_classes_the_names_are_left_out(trait: TraitPairs) -> None:
    many = trait._replace(labels=[f"c{n}" for n in range(40)])
    axes = plot_by_class(many).axes[0]
    assert MAX_NAMED_TRAIT_CLASSES < 40
    assert not len(axes.get_xticks())
    assert axes.get_xlabel() == "40 classes, by name"


def test_image_by_image_both_axes_are_alike_and_hold_every_dot(trait: TraitPairs) -> None:
    axes = plot_true_vs_predicted(trait).axes[0]
    assert axes.get_xlim() == axes.get_ylim()
    low, high = axes.get_xlim()
    assert low < min(trait.true.min(), trait.predicted.min())
    assert high > max(trait.true.max(), trait.predicted.max())
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.c_[trait.true, trait.predicted])


@pytest.mark.parametrize(
    ("value", "text"),
    [(44810.4, "44,810"), (1234.56, "1,235"), (3.14159, "3.142"), (-0.0005, "-0.0005000"), (0.0, "0"), (12.3, "12.30")],
)
def test_numbers_are_written_out(value: float, text: str) -> None:
    one = TraitPairs("a", "", ["c"], np.array([value]), np.array([value]))
    assert _agreement_row(one)[2] == text


def test_one_image_can_be_drawn(trait: TraitPairs) -> None:
    one = TraitPairs("a", "", ["c"], np.array([1.0]), np.array([1.0]))
    assert plot_true_vs_predicted(one).axes[0].get_xlim()[0] < 1
    assert plot_by_class(one)
