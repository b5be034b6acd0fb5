"""What a split has to show: the tables and the captions say what the files say."""

import json
import re
import shlex

import pytest

from mnsa.metrics.evaluation_folder import read_image_rows
from mnsa.report.run_record import read_run_record
from mnsa.report.split_sections import calibration_section, split_sections
from mnsa.report.trait_figures import compute_agreement, read_trait_pairs


@pytest.fixture
def shown(read_page):
    """The sections of a run's split, read."""

    def read(run, key):
        record = read_run_record(run)
        split = next(split for split in record.evaluated if split.key == key)
        return read_page("<h2>split</h2>" + "".join(split_sections(record, split)))

    return read


def captions(parts):
    return re.findall("<figcaption>(.*?)</figcaption>", "".join(parts))


def test_the_classes_are_those_of_the_confusion_matrix(shown, reported, evaluation):
    rows = shown(reported, "train").table(
        "class", "images", "called so", "recall", "precision", "F1", "when wrong, mostly"
    )
    classes = evaluation["train"]["classification"]
    found = {row[0]: row for row in rows}
    for k, name in enumerate(classes["classes"]):
        true, said = classes["confusion"][k], [line[k] for line in classes["confusion"]]
        assert found[name][1:4] == [str(sum(true)), str(sum(said)), f"{true[k] / sum(true):.3f}"]


def test_the_mask_classes_are_those_of_evaluation_json(shown, reported, evaluation):
    head = ("mask class", "IoU", "95 % interval", "Dice", "IoU per image", "Dice per image", "images without any")
    (row,), vein = shown(reported, "test").table(*head), evaluation["test"]["segmentation"]["classes"]["vein"]
    low, high = vein["iou_interval"]
    assert row[:4] == ["vein", f"{vein['iou']:.3f}", f"{low:.3f} to {high:.3f}", f"{vein['dice']:.3f}"]


def test_the_traits_are_those_of_the_rows(shown, reported):
    page, run = shown(reported, "train"), read_run_record(reported)
    split = next(split for split in run.evaluated if split.key == "train")
    table = page.table("trait", "images", "true, mean", "predicted, mean", "bias", "RMSE", "correlation")
    traits = read_trait_pairs(read_image_rows(split.folder))
    assert [row[0] for row in table] == [trait.axis for trait in traits]
    assert "vein density, mm/mm²" in [row[0] for row in table]
    assert [float(row[4]) for row in table] == pytest.approx([compute_agreement(t).bias for t in traits], rel=1e-3)


def test_the_diagrams_name_split_state_and_error(reported, evaluation):
    said = captions(calibration_section(read_run_record(reported)))
    calibration = json.loads((reported.path / "calibration.json").read_text())
    for split in ("test", "train"):
        error = f"{evaluation[split]['classification']['ece']:.3f}"
        images = evaluation[split]["classification"]["images"]
        assert f"Split {split}, calibrated: calibration error {error}, {images} images." in said
    before, after = (f"calibration error {calibration['ece'][when]:.3f}, 15 images." for when in ("before", "after"))
    assert [caption for caption in said if caption.startswith("Split val")] == [
        f"Split val, before the temperature: {before}",
        f"Split val, after it, on the images it was fitted to: {after}",
    ]


def test_scores_of_an_earlier_version_name_the_command_that_adds_bars(own_reported):
    kept = json.loads(own_reported.evaluation_file.read_text())
    for name in ("reliability", "ece", "calibrated"):
        del kept["train"]["classification"][name]
    own_reported.evaluation_file.write_text(json.dumps(kept))
    text = "".join(calibration_section(read_run_record(own_reported)))
    assert f"mnsa evaluate {shlex.quote(str(own_reported.path))} --split train" in text
    assert captions([text])


def test_a_run_whose_validation_answers_are_all_right_says_so(own_reported):
    file = own_reported.path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fitted": False, "threshold": None, "temperature": 1.0}))
    text = "".join(calibration_section(read_run_record(own_reported)))
    assert "Every answer on split val is right, so the temperature stays 1." in text
    assert "No threshold reaches the target of 95% right answers." in text
