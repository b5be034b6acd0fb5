"""The worst and the best images, in order, with what is wrong with them."""

import re

import pytest

from mnsa.report.run_record import read_run_record
from mnsa.report.split_sections import class_gallery, mask_gallery


@pytest.fixture
def split(reported):
    """The training split: twelve images."""
    return next(split for split in read_run_record(reported).evaluated if split.key == "train")


def titles(parts):
    return [re.sub("<[^>]*>", "", found) for found in re.findall(r"<h4>(.*?)</h4>", "".join(parts))]


def test_masks_come_by_iou_six_worst_and_three_best(split):
    shown = [float(title.rpartition(" ")[2]) for title in titles(mask_gallery(split))]
    ious = sorted(float(row["iou"]) for row in split.rows)
    assert shown == [round(value, 3) for value in [*ious[:6], *reversed(ious[-3:])]]


def test_classes_come_by_the_probability_of_the_truth_and_a_wrong_answer_says_both(split):
    rows = sorted(split.rows, key=lambda row: float(row["true_probability"]))
    for title, row in zip(titles(class_gallery(split)), [*rows[:6], *reversed(rows[-3:])], strict=True):
        assert title.startswith(
            f"{row['label']} {row['image']}: predicted {row['predicted']} ({float(row['probability']):.0%})"
        )
        assert ("true class" in title) == (row["predicted"] != row["label"])


def test_each_image_has_its_panels_with_their_names(split):
    first = next(part for part in mask_gallery(split) if "<h4>" in part)
    assert re.findall("<figcaption>(.*?)</figcaption>", first) == [
        "image", "true mask", "predicted mask", "difference",
    ]  # fmt: skip


def test_the_difference_has_a_key(split):
    key = next(mask_gallery(split))
    assert all(word in key for word in ("found", "missed", "invented", "another class", "rgb(0, 158, 115)"))


def test_pictures_that_are_gone_are_left_out(own_reported):
    for path in (own_reported.predictions_folder / "train" / "pictures").glob("*_truth.jpg"):
        path.unlink()
    split = next(split for split in read_run_record(own_reported).evaluated if split.key == "train")
    text = "".join(mask_gallery(split))
    assert "true mask" not in text.replace("outlines of the true mask", "")
    assert "predicted mask" in text
