"""Panels of an image beside its truth."""

import numpy as np
import pytest
import torch
from PIL import Image

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import read_manifest
from mnsa.inference.predictor import load
from mnsa.structures import Prediction, Sample
from mnsa.visualize.panels import (
    CORRECT_COLOR,
    FALSE_POSITIVE_COLOR,
    MISSED_COLOR,
    PANEL_PX,
    WRONG_CLASS_COLOR,
    class_panels,
    draw_difference,
    mask_panels,
    write_panel,
)


@pytest.fixture
def sample(dataset):
    manifest = read_manifest(dataset).split("test")
    return read_sample(manifest, manifest.rows[0])


def test_every_pixel_has_the_colour_of_what_became_of_it():
    truth, predicted = np.array([[0, 1, 1, 0, 2]], np.uint8), np.array([[0, 1, 0, 2, 1]], np.uint8)
    drawn = draw_difference(np.full((1, 5, 3), 200, np.uint8), truth, predicted)
    assert [tuple(pixel) for pixel in drawn[0, 1:].tolist()] == [
        CORRECT_COLOR,
        MISSED_COLOR,
        FALSE_POSITIVE_COLOR,
        WRONG_CLASS_COLOR,
    ]
    assert tuple(drawn[0, 0]) == (70, 70, 70)


def test_all_panels_of_an_image_have_one_size_and_its_shape(sample, predictor):
    answer = predictor.predict_image(sample.image)
    panels = {**mask_panels(sample, answer), **class_panels(predictor, sample, answer)}
    assert {"photo", "truth", "predicted", "difference", "attention", "grad_cam"} <= panels.keys()
    assert {panel.shape for panel in panels.values()} == {(PANEL_PX, PANEL_PX, 3)}


def test_the_true_class_is_explained_too_where_it_is_another(sample, predictor):
    answer = predictor.predict_image(sample.image)
    predicted = int(answer.class_probs.argmax())
    for label in range(3):
        other = Sample(sample.path, sample.image, sample.mask, label)
        assert ("grad_cam_true" in class_panels(predictor, other, answer)) == (label != predicted)


def test_trees_leave_attention_and_no_grad_cam(sample, grown):
    trees = load(grown.path, head="trees")
    assert class_panels(trees, sample, trees.predict_image(sample.image)).keys() == {"photo", "attention"}


def test_a_wide_photo_is_shrunk_by_its_longer_side_and_written_as_jpeg(tmp_path):
    mask = torch.zeros(300, 900, dtype=torch.uint8)
    mask[:, 450] = 1  # a vein of one pixel
    wide = Sample("wide.jpg", torch.full((3, 300, 900), 90, dtype=torch.uint8), mask, 0)
    panels = mask_panels(wide, Prediction("wide.jpg", None, np.zeros((300, 900), np.uint8), None))
    assert {panel.shape for panel in panels.values()} == {(round(PANEL_PX / 3), PANEL_PX, 3)}
    assert (panels["truth"] != panels["predicted"]).any()  # it can still be seen
    write_panel(panels["truth"], tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (PANEL_PX, round(PANEL_PX / 3)))


def test_without_a_mask_there_is_nothing_to_compare(sample, predictor):
    answer = predictor.predict_image(sample.image)
    assert mask_panels(Sample(sample.path, sample.image, None, 0), answer) == {}
