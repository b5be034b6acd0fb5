"""The scores of each class are torchmetrics'; diagrams and captions show what the files contain."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as theirs

from mnsa.metrics.calibration import reliability_bins
from mnsa.metrics.scores import Evaluation, SampleSize, Score
from mnsa.report.run_page import render_run_page
from mnsa.report.run_record import read_run_record
from mnsa.report.scores import (
    MAX_COUNTED_CLASSES,
    MAX_NAMED_CLASSES,
    class_scores,
    most_confused,
    plot_confusion_matrix,
    plot_reliability,
    reliability_figures,
    topology_table,
)
from mnsa.run_folder import RunFolder
from narrowing import some

NAMES = ("oak", "elm", "ash", "yew")


@pytest.fixture
def predictions() -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(7)
    labels = torch.randint(0, 3, (60,), generator=drawn)  # no yew
    predicted = torch.where(torch.rand(60, generator=drawn) < 0.6, labels, torch.randint(0, 4, (60,), generator=drawn))
    return predicted, labels


@pytest.fixture
def confusion(predictions: tuple[torch.Tensor, torch.Tensor]) -> Any:
    return theirs.multiclass_confusion_matrix(*predictions, 4).tolist()


def test_recall_precision_and_f1_are_torchmetrics(
    predictions: tuple[torch.Tensor, torch.Tensor], confusion: Any
) -> None:
    found = {one.name: one for one in class_scores(NAMES, confusion)}
    for kind, score in (("recall", theirs.multiclass_recall), ("precision", theirs.multiclass_precision)):
        expected = score(*predictions, 4, average="none").tolist()
        assert [getattr(found[name], kind) or 0.0 for name in NAMES] == pytest.approx(expected)
    assert [found[name].f1 for name in NAMES] == pytest.approx(
        theirs.multiclass_f1_score(*predictions, 4, average="none")
    )
    assert [found[name].images for name in NAMES] == torch.bincount(predictions[1], minlength=4).tolist()


def test_classes_stand_in_the_order_of_the_matrix(confusion: Any) -> None:
    found = class_scores(NAMES, confusion)
    assert [one.name for one in found] == list(NAMES)
    assert found[-1].recall is None  # a class without an image


@pytest.mark.parametrize(
    ("confusion", "interval", "at_chance"),
    [
        ([[9, 1], [1, 9]], (0.7, 0.99), False),
        ([[9, 1], [9, 1]], (0.3, 0.7), True),
        ([[18, 0], [2, 0]], None, True),  # one class for every image: accuracy 0.9
        ([[20, 0], [0, 0]], (0.8, 1.0), False),  # images of one class alone have no chance to compare with
        ((), None, False),
    ],
)
def test_an_accuracy_that_naming_one_class_may_reach_is_chance(confusion: Any, interval: Any, at_chance: bool) -> None:
    correct = sum(confusion[n][n] for n in range(len(confusion))) / max(1, sum(map(sum, confusion)))
    accuracy = Score("accuracy", correct, interval, "fraction", "classification", "accuracy")
    found = Evaluation("leaves", 20, False, {}, (accuracy,) if confusion else (), ("oak", "elm"), confusion)
    assert found.at_chance == at_chance


def test_a_class_has_the_class_it_is_mostly_confused_with() -> None:
    found = {
        one.name: one.confused_with for one in class_scores(NAMES, [[5, 1, 2, 0], [0, 3, 0, 0], [0, 0, 0, 4], [0] * 4])
    }
    assert found == {"oak": "ash", "elm": "", "ash": "yew", "yew": ""}


def test_the_most_confused_pairs_come_first() -> None:
    found = most_confused(NAMES, [[5, 1, 2, 0], [0, 3, 0, 0], [0, 1, 0, 4], [0] * 4], 3)
    assert [tuple(one) for one in found] == [("ash", "yew", 4, 0.8), ("oak", "ash", 2, 0.25), ("ash", "elm", 1, 0.2)]


@pytest.mark.parametrize("classes", [2, MAX_COUNTED_CLASSES, MAX_COUNTED_CLASSES + 1, MAX_NAMED_CLASSES + 1, 300])
def test_a_matrix_shows_shares_of_rows_and_leaves_out_labels_that_are_too_many(classes: Any) -> None:
    counts = np.random.default_rng(1).integers(0, 5, (classes, classes))
    axes: Any = plot_confusion_matrix([f"class {n}" for n in range(classes)], counts.tolist()).axes[0]
    correct, wrong = (image.get_array().filled(0) for image in axes.images)
    assert not np.diag(wrong).any()
    np.testing.assert_array_equal(correct, np.diag(np.diag(correct)))
    np.testing.assert_allclose(correct + wrong, counts / np.maximum(counts.sum(1, keepdims=True), 1))
    assert len(axes.get_xticks()) == (classes if classes <= MAX_NAMED_CLASSES else 0)
    assert len(axes.texts) == (np.count_nonzero(counts) if classes <= MAX_COUNTED_CLASSES else 0)


def test_topology_has_a_row_per_score_and_two_columns_per_thin_class() -> None:
    scores = [
        score
        for name in ("vein", "midrib")
        for score in (
            Score("cldice", 0.853, (0.84, 0.86), "fraction", "topology", "clDice", name),
            Score("length_bias", -0.29, None, "relative", "topology", "length bias", name),
        )
    ]
    sizes = {"topology": SampleSize(9, "images", 9)}
    table = some(topology_table(Evaluation("leaves", 9, calibrated=False, sizes=sizes, scores=tuple(scores))))
    assert table.head == ("score", "vein", "95 % interval", "midrib", "95 % interval")
    assert table.rows == [
        ("clDice", "0.853", "0.840 to 0.860", "0.853", "0.840 to 0.860"),
        ("length bias", "-0.290", "", "-0.290", ""),
    ]
    assert topology_table(Evaluation("leaves", 9, calibrated=False, sizes={}, scores=())) is None


def test_a_reliability_diagram_has_the_bars_of_an_independent_count() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.2, 1, 400)
    correct = rng.random(400) < confidence
    axes: Any = plot_reliability(reliability_bins(confidence, correct), threshold=0.8).axes
    upper, lower = axes
    place = np.minimum((confidence * 15).astype(int), 14)
    bins = sorted(set(place.tolist()))
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([correct[place == n].mean() for n in bins])
    assert [bar.get_x() for bar in upper.patches] == pytest.approx([n / 15 for n in bins])
    assert [bar.get_height() for bar in lower.patches] == [np.sum(place == n) for n in bins]
    dots = next(line for line in upper.lines if line.get_label() == "mean confidence")
    assert list(dots.get_xdata()) == pytest.approx([confidence[place == n].mean() for n in bins])


def test_a_diagram_without_images_is_empty() -> None:
    assert not plot_reliability(reliability_bins(np.zeros(0), np.zeros(0, bool))).axes[0].patches


def test_captions_have_split_state_and_error(reported: RunFolder, evaluation: dict[str, Evaluation]) -> None:
    captions = [caption for _, caption in reliability_figures(read_run_record(reported))]
    calibration = json.loads((reported.path / "calibration.json").read_text())
    for split in ("test", "train"):
        error, images = evaluation[split].value("ece"), evaluation[split].sizes["classification"].images
        assert f"Split {split}, calibrated: calibration error {error:.3f}, {images} images." in captions
    before, after = (f"calibration error {calibration['ece'][when]:.3f}, 15 images." for when in ("before", "after"))
    assert [caption for caption in captions if caption.startswith("Split val")] == [
        f"Split val, before the temperature: {before}",
        f"Split val, after it, on the images it was fitted to: {after}",
    ]


def test_a_run_whose_validation_predictions_are_all_correct_has_temperature_1(own_reported: RunFolder) -> None:
    file = own_reported.path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fitted": False, "threshold": None, "temperature": 1.0}))
    text = render_run_page(read_run_record(own_reported))
    assert "Every prediction on split val is correct, so the temperature stays 1." in text
    assert "No threshold reaches the target accuracy of 95%." in text
