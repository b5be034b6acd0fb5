"""The answer for one image is at the image's own size, whatever the network was fed."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xgboost
from torchvision.transforms.v2 import functional as F

from mnsa.config import DataConfig
from mnsa.data.images import read_image
from mnsa.data.manifest import read_manifest
from mnsa.errors import DataError, ModelError
from mnsa.inference.predictor import Predictor, load
from mnsa.inference.run_trees import pool_split
from mnsa.model.network import build_network
from mnsa.run_folder import ModelCard

SIZES = [(64, 64), (33, 71), (200, 31), (97, 130)]  # height, width
CLASSES, LAYERS = ("a", "b", "c"), ("background", "leaf", "vein")


@pytest.fixture
def picture():
    """A random image uint8 (3, H, W)."""
    return lambda size: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def untrained(make_config):
    """A predictor of an untrained network."""

    def make(classes=CLASSES, mask_classes=LAYERS, fit="stretch", **model):
        torch.manual_seed(6)
        config = make_config(model=model).model
        network = build_network(config, len(classes), len(mask_classes))
        return Predictor(network, ModelCard(config, DataConfig(size=(64, 64), fit=fit), classes, mask_classes))

    return make


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_has_the_images_own_size_and_probabilities_that_sum_to_one(predictor, picture, size):
    answer = predictor.predict_image(picture(size), "leaf.jpg")
    assert answer.path == "leaf.jpg"
    assert (answer.mask.shape, answer.mask.dtype) == (size, np.uint8)
    assert set(np.unique(answer.mask)) <= {0, 1}
    assert (answer.class_probs.shape, answer.class_probs.dtype) == ((3,), np.float32)
    assert answer.class_probs.sum() == pytest.approx(1, abs=1e-6)
    assert answer.class_probs.min() >= 0
    assert 0 <= answer.attention.min() <= answer.attention.max() <= 1


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("resolution", ["half", "full"])
def test_the_mask_is_the_networks_resized_to_the_image(untrained, picture, fit, resolution):
    predictor, image = untrained(fit=fit, mask_resolution=resolution), picture((97, 130))
    inputs, _ = predictor.transform(image)
    assert inputs.shape == ((3, 64, 64) if fit == "stretch" else (3, 97, 130))
    with torch.inference_mode():
        logits = predictor.network(inputs[None]).mask_logits
    expected = F.resize(logits, [97, 130], antialias=False).argmax(1)[0]
    np.testing.assert_array_equal(predictor.predict_image(image).mask, expected.numpy())


def test_a_network_without_a_task_has_no_answer_for_it(untrained, picture):
    classifier, segmenter = untrained(mask_classes=()), untrained(classes=())
    assert classifier.predict_image(picture((64, 64))).mask is None
    answer = segmenter.predict_image(picture((64, 64)))
    assert answer.class_probs is answer.attention is None
    assert set(np.unique(answer.mask)) <= {0, 1, 2}


def test_a_file_is_answered_as_its_pixels_are(predictor, dataset):
    path = sorted((dataset / "images").iterdir())[0]
    of_file, of_pixels = predictor.predict(str(path)), predictor.predict_image(read_image(path))
    assert of_file.path == str(path)
    np.testing.assert_array_equal(of_file.class_probs, of_pixels.class_probs)
    np.testing.assert_array_equal(of_file.mask, of_pixels.mask)


def test_a_trained_network_knows_its_transform_and_its_names(finished, predictor):
    loaded = load(str(finished.path))
    assert loaded.classes == predictor.classes == ("cultivar_01", "cultivar_02", "cultivar_03")
    assert loaded.mask_classes == ("vein",)
    outputs = loaded(loaded.transform(torch.zeros(3, 50, 80, dtype=torch.uint8))[0][None])
    assert outputs.class_logits.shape == (1, 3)
    assert not outputs.class_logits.requires_grad


def test_a_broken_file_is_named(predictor, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg is not an image"):
        predictor.predict(path)
    with pytest.raises(DataError, match="does not exist"):
        predictor.predict(Path("nowhere.png"))


def test_trees_say_the_class_and_the_network_everything_else(grown, predictor, picture):
    with_trees, image = load(grown.path, head="trees"), picture((70, 90))
    theirs, ours = with_trees.predict_image(image), predictor.predict_image(image)
    assert theirs.class_probs.sum() == pytest.approx(1, abs=1e-6)
    assert not np.allclose(theirs.class_probs, ours.class_probs, atol=1e-3)
    np.testing.assert_array_equal(theirs.mask, ours.mask)
    np.testing.assert_array_equal(theirs.attention, ours.attention)
    own_head = load(grown.path, head="network").predict_image(image)
    np.testing.assert_array_equal(own_head.class_probs, ours.class_probs)


def test_trees_answer_xgboosts_own_probabilities(grown, dataset):
    predictor = load(grown.path, head="trees")
    manifest = read_manifest(dataset)
    pooled = pool_split(predictor, manifest)
    booster = xgboost.Booster(model_file=grown.trees_folder / "model.ubj")
    expected = booster.predict(xgboost.DMatrix(pooled.features.numpy(), nthread=1))
    answers = np.stack([predictor.predict(manifest.image_path(row)).class_probs for row in manifest.rows])
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_an_unknown_head_is_named(finished):
    with pytest.raises(ModelError, match=r"no head 'tree'\. Expected network or trees"):
        load(finished.path, head="tree")
