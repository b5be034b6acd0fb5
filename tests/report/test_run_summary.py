"""The first lines of a run's page."""

import json
import re

import pytest

from mnsa.report.run_page import summary_section
from mnsa.report.run_record import read_run_record


@pytest.fixture
def said():
    return lambda run: " ".join(re.sub("<[^>]*>", " ", part) for part in summary_section(read_run_record(run)))


def test_it_says_what_the_network_is_and_does(said, reported):
    text = said(reported)
    assert "tells 3 classes apart and finds vein pixel by pixel" in text
    assert "backbone test_efficientnet, attention mean_max, trained on images of 64 x 64 px" in text


def test_the_tiles_are_of_the_test_split_with_intervals(reported, evaluation):
    tiles = next(part for part in summary_section(read_run_record(reported)) if 'class="tiles"' in part)
    classes, vein = evaluation["test"]["classification"], evaluation["test"]["segmentation"]["classes"]["vein"]
    for value in (classes["accuracy"], classes["macro_f1"], classes["ece"], vein["iou"]):
        assert f"<b>{value:.3f}</b>" in tiles
    for low, high in (classes["accuracy_interval"], vein["iou_interval"]):
        assert f"95 %: {low:.3f} to {high:.3f}" in tiles


@pytest.mark.parametrize(("split", "words"), [("val", "Validation chose the epoch"), ("train", "has learned these")])
def test_scores_that_flatter_are_called_so_and_test_is_asked_for(said, own_reported, split, words):
    kept = json.loads(own_reported.evaluation_file.read_text())
    own_reported.evaluation_file.write_text(json.dumps({split: kept["test"]}))
    text = said(own_reported)
    assert words in text
    assert f"Scores on split  {split} , 3 images." in text
    assert f"mnsa evaluate {own_reported.path}" in text


def test_the_background_has_no_tile(own_reported):
    kept = json.loads(own_reported.evaluation_file.read_text())
    vein = kept["test"]["segmentation"]["classes"]["vein"]
    kept["test"]["segmentation"]["classes"] = {"background": vein, "leaf": vein, "rust": {**vein, "iou": None}}
    own_reported.evaluation_file.write_text(json.dumps(kept))
    tiles = next(part for part in summary_section(read_run_record(own_reported)) if 'class="tiles"' in part)
    assert re.findall("IoU of (\\w+)</span><b>(\\w+)", tiles) == [("leaf", "0"), ("rust", "none")]
