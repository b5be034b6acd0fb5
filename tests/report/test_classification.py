"""The scores of each class are torchmetrics'; the confusion matrix shows shares of rows."""

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as theirs

from mnsa.report.classification import (
    MAX_COUNTED_CLASSES,
    MAX_NAMED_CLASSES,
    class_scores,
    most_confused,
    plot_confusion_matrix,
)
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


def test_the_worst_come_first_and_those_without_an_image_last(confusion: Any) -> None:
    found = class_scores(NAMES, confusion)
    assert found[-1].name == "yew"
    assert found[-1].recall is None
    scores = [some(one.f1) for one in found[:-1]]
    assert scores == sorted(scores)


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
