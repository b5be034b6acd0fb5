"""The figures of a run show its records' numbers."""

import numpy as np
import pytest

from mnsa.metrics.calibration import reliability_bins
from mnsa.report.run_figures import (
    MAX_COUNTED_CLASSES,
    MAX_NAMED_CLASSES,
    best_epochs,
    plot_confusion_matrix,
    plot_losses,
    plot_reliability,
    plot_scores,
)

EPOCHS = [
    {"stage": "first", "epoch": "1", "loss": "2.5", "val_accuracy": "0.5", "val_score": "0.5"},
    {"stage": "first", "epoch": "2", "loss": "1.5", "val_accuracy": "0.7", "val_score": "0.7"},
    {"stage": "first", "epoch": "3", "loss": "1.2", "val_accuracy": "0.7", "val_score": "0.7"},
    {"stage": "second", "epoch": "1", "loss": "0.9", "val_iou": "0.3", "val_score": "0.3", "val_accuracy": ""},
    {"stage": "second", "epoch": "2", "loss": "0.8", "val_iou": "0.4", "val_score": "0.4", "val_accuracy": ""},
]


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def test_curves_go_on_over_stages_and_an_epoch_without_a_score_has_no_dot():
    drawn = lines(plot_scores(EPOCHS).axes[0])
    assert list(drawn["accuracy"].get_xdata()) == [1, 2, 3]
    assert list(drawn["IoU"].get_xdata()) == [4, 5]
    assert list(drawn["IoU"].get_ydata()) == [0.3, 0.4]
    assert list(lines(plot_losses(EPOCHS).axes[0])["loss"].get_ydata()) == [2.5, 1.5, 1.2, 0.9, 0.8]


def test_each_stage_keeps_its_first_best_epoch():
    assert best_epochs(EPOCHS) == [2, 5]


def test_stages_have_their_names_where_there_are_several():
    assert [text.get_text() for text in plot_losses(EPOCHS).axes[0].texts] == ["first", "second"]
    assert not plot_losses(EPOCHS[:3]).axes[0].texts


@pytest.mark.parametrize("classes", [2, MAX_COUNTED_CLASSES, MAX_COUNTED_CLASSES + 1, MAX_NAMED_CLASSES + 1, 300])
def test_a_matrix_shows_shares_of_rows_and_leaves_out_what_could_not_be_read(classes):
    counts = np.random.default_rng(1).integers(0, 5, (classes, classes))
    axes = plot_confusion_matrix([f"class {n}" for n in range(classes)], counts.tolist()).axes[0]
    right, wrong = (image.get_array().filled(0) for image in axes.images)
    assert not np.diag(wrong).any()
    np.testing.assert_array_equal(right, np.diag(np.diag(right)))
    np.testing.assert_allclose(right + wrong, counts / np.maximum(counts.sum(1, keepdims=True), 1))
    assert len(axes.get_xticks()) == (classes if classes <= MAX_NAMED_CLASSES else 0)
    assert len(axes.texts) == (np.count_nonzero(counts) if classes <= MAX_COUNTED_CLASSES else 0)


def test_a_reliability_diagram_has_the_bars_of_an_independent_count():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.2, 1, 400)
    right = rng.random(400) < confidence
    upper, lower = plot_reliability(reliability_bins(confidence, right), threshold=0.8).axes
    place = np.minimum((confidence * 15).astype(int), 14)
    bins = sorted(set(place.tolist()))
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([right[place == n].mean() for n in bins])
    assert [bar.get_x() for bar in upper.patches] == pytest.approx([n / 15 for n in bins])
    assert [bar.get_height() for bar in lower.patches] == [np.sum(place == n) for n in bins]
    dots = lines(upper)["mean confidence"]
    assert list(dots.get_xdata()) == pytest.approx([confidence[place == n].mean() for n in bins])


def test_a_diagram_without_an_image_is_empty():
    assert not plot_reliability(reliability_bins(np.zeros(0), np.zeros(0, bool))).axes[0].patches
