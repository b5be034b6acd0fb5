"""The answer for one image is at the image's own size, whatever the network was fed."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xgboost
from PIL import Image
from torchvision.transforms.v2 import functional as F

from mnsa.config import DataConfig
from mnsa.data.decode import read_image
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, DataError, ModelError
from mnsa.inference.predictor import Predictor, load
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec
from mnsa.workflows.fit_trees import extract_features

SIZES = [(64, 64), (33, 71), (200, 31), (97, 130)]  # height, width
CLASSES, LAYERS = ("a", "b", "c"), ("background", "leaf", "vein")


@pytest.fixture
def picture():
    """A random image uint8 (3, H, W)."""
    return lambda size: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def untrained(make_config):
    """A predictor of an untrained network."""

    def make(classes=CLASSES, mask_classes=LAYERS, resize_mode="resize", **model):
        torch.manual_seed(6)
        config = make_config(model=model).model
        network = build_network(config, len(classes), len(mask_classes))
        return Predictor(
            network, ModelSpec(config, DataConfig(size=(64, 64), resize_mode=resize_mode), classes, mask_classes)
        )

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


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
@pytest.mark.parametrize("resolution", ["half", "full"])
def test_the_mask_is_the_networks_resized_to_the_image(untrained, picture, resize_mode, resolution):
    predictor, image = untrained(resize_mode=resize_mode, mask_resolution=resolution), picture((97, 130))
    inputs, _ = predictor.transform(image)
    assert inputs.shape == ((3, 64, 64) if resize_mode == "resize" else (3, 97, 130))
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
    pooled = extract_features(predictor, manifest)
    booster = xgboost.Booster(model_file=grown.trees_folder / "model.ubj")
    expected = booster.predict(xgboost.DMatrix(pooled.features.numpy(), nthread=1))
    answers = np.stack([predictor.predict(manifest.image_path(row)).class_probs for row in manifest.rows])
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_an_unknown_head_is_named(finished):
    with pytest.raises(ModelError, match=r"no head 'tree'\. Expected network or trees"):
        load(finished.path, head="tree")


def saved_in_many_ways(folder):
    """The same picture, 40 x 56 px, in every mode that a camera, scanner or editor leaves behind."""
    rgb = np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8)
    picture, sideways = Image.fromarray(rgb), Image.Exif()
    sideways[0x0112] = 6
    grey = picture.convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    wide.save(folder / "grey16.png")
    wide.save(folder / "grey16.tif")
    grey.save(folder / "grey.png")
    picture.save(folder / "plain.png")
    picture.save(folder / "plain.bmp")
    picture.save(folder / "webp.webp", lossless=True)
    picture.convert("RGBA").save(folder / "alpha.png")
    grey.convert("LA").save(folder / "grey_alpha.png")
    grey.convert("1").save(folder / "bits.tif")
    picture.convert("CMYK").save(folder / "cmyk.tif")
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.quantize(16).save(folder / "palette.png")
    picture.quantize(16).save(folder / "clear_palette.png", transparency=b"\x00\x80\xff\xff")
    Image.fromarray(np.rot90(rgb).copy()).save(folder / "exif.png", exif=sideways)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_an_image_of_any_mode_is_answered_for_as_its_rgb_is(untrained, tmp_path, resize_mode):
    predictor, files = untrained(resize_mode=resize_mode), saved_in_many_ways(tmp_path)
    answers = {path.name: predictor.predict(path) for path in files}
    for name, answer in answers.items():
        assert answer.mask.shape == (40, 56), name
        assert answer.class_probs.sum() == pytest.approx(1, abs=1e-6), name
    in_colour = ("plain.png", "plain.bmp", "webp.webp", "alpha.png", "exif.png")
    in_grey = ("grey.png", "grey16.png", "grey16.tif", "grey_alpha.png")
    for first, *others in (in_colour, in_grey):
        for name in others:
            np.testing.assert_array_equal(answers[name].class_probs, answers[first].class_probs, err_msg=name)
            np.testing.assert_array_equal(answers[name].mask, answers[first].mask, err_msg=name)


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
@pytest.mark.parametrize("size", [(16, 16), (16, 200), (31, 40), (20, 5_000), (3_000, 16)])
def test_small_and_narrow_images_have_an_answer_at_their_own_size(untrained, picture, resize_mode, size):
    answer = untrained(resize_mode=resize_mode).predict_image(picture(size))
    assert answer.mask.shape == size
    assert answer.class_probs.sum() == pytest.approx(1, abs=1e-6)


def test_what_is_missing_of_a_small_image_is_black_as_in_training(untrained, picture):
    predictor, image = untrained(resize_mode="crop"), picture((20, 25))
    black = torch.zeros(3, 32, 32, dtype=torch.uint8)
    black[:, :20, :25] = image
    small, padded = predictor.predict_image(image), predictor.predict_image(black)
    np.testing.assert_array_equal(small.mask, padded.mask[:20, :25])
    np.testing.assert_array_equal(small.class_probs, padded.class_probs)


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
@pytest.mark.parametrize("size", [(15, 40), (70_000, 15), (1, 1)])
def test_an_image_with_nothing_to_see_is_refused_by_name(untrained, picture, resize_mode, size):
    with pytest.raises(DataError, match=rf"dot\.png has {size[1]} x {size[0]} pixels; at least 16 a side"):
        untrained(resize_mode=resize_mode).predict_image(picture(size), "dot.png")


def in_one_piece(predictor, image):
    """The answer without tiles, however large the image."""
    return predictor.predict_batch(predictor.preprocess(image)[None], [tuple(image.shape[-2:])], [""])[0]


@pytest.mark.parametrize("classes", [CLASSES, ()])
@pytest.mark.parametrize("mask_classes", [LAYERS, ("vein",), ()])
def test_a_large_image_is_answered_tile_by_tile_and_nearly_as_in_one_piece(untrained, picture, classes, mask_classes):
    if not classes and not mask_classes:
        return
    predictor, size = untrained(classes, mask_classes, resize_mode="crop"), (352, 480)
    assert predictor.needs_tiling(size)
    tiled, whole = predictor.predict_image(picture(size), "scan.tif"), in_one_piece(predictor, picture(size))
    assert tiled.path == "scan.tif"
    if classes:
        np.testing.assert_allclose(tiled.class_probs, whole.class_probs, atol=0.01)
        np.testing.assert_allclose(tiled.attention, whole.attention, atol=0.1)
        assert tiled.class_probs.dtype == np.float32
    if mask_classes:
        assert (tiled.mask.dtype, tiled.mask.shape) == (np.uint8, size)
        assert (tiled.mask == whole.mask).mean() > 0.9


def test_an_image_that_is_stretched_is_never_cut(untrained):
    assert not untrained(resize_mode="resize").needs_tiling((20_000, 20_000))


def test_trees_read_the_features_of_the_whole_image(untrained, picture):
    predictor, size = untrained(resize_mode="crop"), (352, 480)
    seen = []

    class Trees(torch.nn.Module):
        def forward(self, pooled):
            seen.append(pooled)
            return pooled[:, :3]

    head = predictor.network.class_head
    linear, head.classifier = head.classifier, Trees()
    by_trees = predictor.predict_image(picture(size)).class_probs
    np.testing.assert_array_equal(by_trees, seen[-1][0, :3].softmax(0).numpy())
    head.classifier = linear
    by_network = predictor.predict_image(picture(size)).class_probs
    torch.testing.assert_close(predictor.pool_tiles(picture(size)), seen[-1])
    with torch.inference_mode():
        np.testing.assert_allclose(linear(seen[-1])[0].softmax(0).numpy(), by_network, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (352, 480)])
def test_another_engine_answers_for_tiles_too(untrained, picture, make_config, size):
    predictor = untrained(resize_mode="crop")
    card = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), CLASSES, LAYERS)
    exported = Predictor(predictor.network, card, engine=predictor.network.__call__)
    ours, theirs = predictor.predict_image(picture(size)), exported.predict_image(picture(size))
    np.testing.assert_allclose(theirs.class_probs, ours.class_probs, atol=1e-6 if size == (64, 64) else 0.01)
    np.testing.assert_array_equal(theirs.mask, ours.mask)


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_flips_give_a_mirrored_image_the_mirrored_answer(untrained, picture, make_config, resize_mode):
    network, size = untrained(resize_mode=resize_mode).network, (97, 130)
    card = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode=resize_mode), CLASSES, LAYERS)
    predictor, image = Predictor(network, card, tta=["flips"]), picture(size)
    answer, mirrored = predictor.predict_image(image), predictor.predict_image(image.flip(-1))
    assert answer.class_probs.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(mirrored.class_probs, answer.class_probs, atol=1e-5)
    assert (mirrored.mask[:, ::-1] == answer.mask).mean() > 0.999
    assert not np.allclose(
        answer.class_probs, untrained(resize_mode=resize_mode).predict_image(image).class_probs, atol=1e-5
    )


def test_flips_are_averaged_over_tiles_view_by_view(untrained, picture, make_config):
    network, size = untrained(resize_mode="crop").network, (352, 480)
    card = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), CLASSES, LAYERS)
    predictor, image = Predictor(network, card, tta=["flips"]), picture(size)
    tiled, whole = predictor.predict_image(image), in_one_piece(predictor, image)
    np.testing.assert_allclose(tiled.class_probs, whole.class_probs, atol=0.01)
    assert (tiled.mask == whole.mask).mean() > 0.9


def test_augmentations_are_given_by_name(finished, picture):
    predictor = load(finished.path, tta=("flips", "rot90", "scales"))
    assert len(predictor.views) == 24
    answer = predictor.predict_image(picture((70, 90)))
    assert answer.mask.shape == (70, 90)
    assert answer.class_probs.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="no augmentation 'mirrors'"):
        load(finished.path, tta=["mirrors"])
