"""Pictures that explain an answer: attention and Grad-CAM over the image, of the class that was said."""

import numpy as np
import pytest
import torch
from PIL import Image

from mnsa.batch.predict_files import find_images, predict_files
from mnsa.batch.prediction_folder import PredictionFolder
from mnsa.batch.prediction_images import EXPLANATION_PX, write_explanation
from mnsa.data.decode import read_image
from mnsa.errors import ModelError, RunError
from mnsa.inference.grad_cam import grad_cam
from mnsa.inference.predictor import Predictor, load
from mnsa.model_folder import load_network
from mnsa.structures import Prediction


@pytest.fixture
def images(dataset):
    return find_images([str(dataset / "images" / "cultivar_01_000*.jpg")])


@pytest.fixture
def explaining(finished):
    return load(finished.path, explain=True)


def brightest(path):
    """Where a picture is lightest, as shares of its height and width."""
    with Image.open(path) as image:
        light = np.asarray(image.convert("L"), float)
    return np.divide(np.unravel_index(light.argmax(), light.shape), light.shape)


def test_an_answer_explains_the_class_that_it_says(explaining, finished, images):
    answer = explaining.predict(images[0])
    network, _ = load_network(finished.path)  # BatchNorms as they were trained
    inputs = explaining.preprocess(read_image(images[0]))
    expected = grad_cam(network, inputs[None], torch.tensor([answer.class_probs.argmax()]))[0]
    np.testing.assert_allclose(answer.grad_cam, expected, rtol=1e-2, atol=1e-5)
    assert answer.grad_cam.shape == answer.attention.shape


def test_who_did_not_ask_gets_none(predictor, images):
    assert predictor.predict(images[0]).grad_cam is None


def test_predict_draws_both_for_each_image_and_answers_the_same(explaining, predictor, images, tmp_path):
    plain = predict_files(predictor, images, tmp_path / "plain")
    explained = predict_files(explaining, images, tmp_path / "explained")
    assert explained.table.read_bytes() == plain.table.read_bytes()
    for kind in ("attention", "grad_cam"):
        kept = sorted((tmp_path / "explained" / kind).iterdir())
        assert [path.name for path in kept] == [f"{image.stem}.jpg" for image in images]
        assert not (tmp_path / "plain" / kind).exists()


def test_answers_with_and_without_are_not_mixed(explaining, predictor, images, tmp_path):
    predict_files(predictor, images, tmp_path / "answers")
    with pytest.raises(RunError, match="other explained"):
        predict_files(explaining, images, tmp_path / "answers")


def test_each_map_lies_where_it_belongs_and_large_photos_are_shrunk(tmp_path):
    attention, seen = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    attention[0, 0], seen[2, 3] = 0.6, 7.0
    answer = Prediction("a.jpg", None, None, attention, seen)
    folder = PredictionFolder(tmp_path)
    write_explanation(answer, np.full((1500, 2000, 3), 128, np.uint8), folder, "a")
    assert (brightest(folder.image_path("attention", "a")) < 0.3).all()
    assert (brightest(folder.image_path("grad_cam", "a")) > 0.7).all()
    with Image.open(folder.image_path("grad_cam", "a")) as image:
        assert image.size == (EXPLANATION_PX, EXPLANATION_PX * 3 // 4)


def test_a_network_without_attention_is_explained_by_grad_cam_alone(tmp_path):
    answer = Prediction("a.jpg", None, None, None, np.ones((2, 2), np.float32))
    write_explanation(answer, np.zeros((64, 64, 3), np.uint8), PredictionFolder(tmp_path), "a")
    assert [path.name for path in tmp_path.iterdir()] == ["grad_cam"]


def test_what_has_no_gradient_is_refused(fitted_trees, finished):
    with pytest.raises(ModelError, match="boosted trees have none"):
        load(fitted_trees.path, head="trees", explain=True)
    with pytest.raises(ModelError, match="no gradients"):
        Predictor(*load_network(finished.path), engine=lambda images: None, explain=True)


def test_the_verb_says_so_too(mnsa, refused, finished, fitted_trees, images, tmp_path):
    options = ("--head", "trees", "--explain", "--out", tmp_path / "no")
    assert "boosted trees have none" in refused("predict", fitted_trees.path, images[0], *options)
    assert mnsa("predict", finished.path, images[0], "--explain", "--out", tmp_path / "answers").code == 0
    assert (tmp_path / "answers" / "grad_cam" / f"{images[0].stem}.jpg").is_file()
