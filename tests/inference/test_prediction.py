"""A prediction becomes a row, a dict and HTML."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.inference.prediction import NamedPrediction
from mnsa.visualize.palette import class_color

IMAGE = np.full((40, 60, 3), 90, np.uint8)
MASK = np.zeros((40, 60), np.uint8)
MASK[:, :30] = 1

PREDICTION = NamedPrediction(
    "leaf.jpg",
    np.array([0.25, 0.75], np.float32),
    MASK,
    None,
    classes=("ash", "elm"),
    mask_classes=("vein",),
    image=IMAGE,
)
UNSURE = replace(PREDICTION, threshold=0.8)


def drawn_image(html: str) -> np.ndarray:
    """The image that the HTML holds as a data URI."""
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert found is not None
    return np.array(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_a_row_is_flat_and_holds_numbers() -> None:
    assert PREDICTION.to_row() == {
        "image": "leaf.jpg",
        "predicted": "elm",
        "probability": 0.75,
        "top5": "elm 0.7500; ash 0.2500",
        "area_fraction_vein": 0.5,
    }


def test_a_dict_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(PREDICTION.to_dict())) == {
        "image": "leaf.jpg",
        "predicted": "elm",
        "probabilities": {"ash": 0.25, "elm": 0.75},
        "area_fractions": {"vein": 0.5},
    }


def test_below_the_threshold_row_dict_and_html_have_the_class_unknown() -> None:
    assert UNSURE.predicted == UNSURE.to_row()["predicted"] == UNSURE.to_dict()["predicted"] == "unknown"
    assert "<th>predicted</th><td>unknown</td>" in UNSURE._repr_html_()
    assert UNSURE.to_row()["probability"] == 0.75


def test_a_task_that_the_network_does_not_have_is_left_out() -> None:
    classifier, segmenter = replace(PREDICTION, mask=None), replace(PREDICTION, class_probs=None)
    assert list(classifier.to_row()) == ["image", "predicted", "probability", "top5"]
    assert list(segmenter.to_row()) == ["image", "area_fraction_vein"]
    assert classifier.to_dict()["area_fractions"] is None
    assert segmenter.predicted is None
    assert segmenter.to_dict()["probabilities"] is None
    assert "area of" not in classifier._repr_html_()
    assert "predicted" not in segmenter._repr_html_()


def test_html_shows_the_overlay_the_classes_and_the_area_fractions() -> None:
    html = PREDICTION._repr_html_()
    for cell in ("<th>elm</th><td>75.0%</td>", "<th>ash</th><td>25.0%</td>", "<th>area of vein</th><td>50.0%</td>"):
        assert cell in html
    pixels = drawn_image(html)
    assert pixels.shape == (40, 60, 3)
    tinted = 0.4 * 90 + 0.6 * np.array(class_color(1))
    np.testing.assert_allclose(pixels[20, 10], tinted, atol=8)
    np.testing.assert_allclose(pixels[20, 50], 90, atol=8)


def test_names_are_escaped_in_html() -> None:
    named = replace(PREDICTION, path='<a href="x">.jpg', classes=("<b>", "a & b"), mask_classes=("<i>",))
    html = named._repr_html_()
    assert not re.search(r"<a |<b>|<i>|& b", html)
    assert "&lt;a href=&quot;x&quot;&gt;.jpg" in html
    assert "a &amp; b" in html


def test_an_image_from_a_file_is_read_again_to_be_drawn(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "leaf.png")
    of_file = replace(PREDICTION, path=str(tmp_path / "leaf.png"), image=None)
    np.testing.assert_array_equal(drawn_image(of_file._repr_html_()), drawn_image(PREDICTION._repr_html_()))
    (tmp_path / "leaf.png").unlink()
    html = of_file._repr_html_()
    assert "<img" not in html
    assert "75.0%" in html


@pytest.mark.parametrize(("size", "drawn"), [((3_000, 5_000), (192, 320)), ((20, 5_000), (2, 320))])
def test_a_large_image_is_drawn_small(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    large = replace(PREDICTION, image=np.zeros((*size, 3), np.uint8), mask=np.ones(size, np.uint8))
    drawing = large.draw()
    assert drawing is not None
    assert drawing.size == drawn[::-1]
    np.testing.assert_allclose(np.array(drawing)[0, 0], 0.6 * np.array(class_color(1)), atol=2)
