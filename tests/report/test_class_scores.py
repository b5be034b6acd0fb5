"""What a confusion matrix says of each class, against torchmetrics."""

import pytest
import torch
from torchmetrics.functional import classification as theirs

from mnsa.report.split_sections import class_scores, most_confused

NAMES = ("oak", "elm", "ash", "yew")


@pytest.fixture
def answers():
    drawn = torch.Generator().manual_seed(7)
    labels = torch.randint(0, 3, (60,), generator=drawn)  # no yew
    said = torch.where(torch.rand(60, generator=drawn) < 0.6, labels, torch.randint(0, 4, (60,), generator=drawn))
    return said, labels


@pytest.fixture
def confusion(answers):
    return theirs.multiclass_confusion_matrix(*answers, 4).tolist()


def test_recall_precision_and_f1_are_torchmetrics(answers, confusion):
    found = {one.name: one for one in class_scores(NAMES, confusion)}
    for kind, score in (("recall", theirs.multiclass_recall), ("precision", theirs.multiclass_precision)):
        expected = score(*answers, 4, average="none").tolist()
        assert [getattr(found[name], kind) or 0.0 for name in NAMES] == pytest.approx(expected)
    assert [found[name].f1 for name in NAMES] == pytest.approx(theirs.multiclass_f1_score(*answers, 4, average="none"))
    assert [found[name].images for name in NAMES] == torch.bincount(answers[1], minlength=4).tolist()


def test_the_worst_come_first_and_those_without_an_image_last(confusion):
    found = class_scores(NAMES, confusion)
    assert found[-1].name == "yew"
    assert found[-1].recall is None
    scores = [one.f1 for one in found[:-1]]
    assert scores == sorted(scores)


def test_a_class_names_what_it_is_mostly_taken_for():
    found = {one.name: one.mostly for one in class_scores(NAMES, [[5, 1, 2, 0], [0, 3, 0, 0], [0, 0, 0, 4], [0] * 4])}
    assert found == {"oak": "ash", "elm": "", "ash": "yew", "yew": ""}


def test_the_most_confused_pairs_come_first():
    found = most_confused(NAMES, [[5, 1, 2, 0], [0, 3, 0, 0], [0, 1, 0, 4], [0] * 4], 3)
    assert [tuple(one) for one in found] == [("ash", "yew", 4, 0.8), ("oak", "ash", 2, 0.25), ("ash", "elm", 1, 0.2)]
