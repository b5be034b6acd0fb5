"""A prediction has the image's own size, whatever the size of the network's input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xgboost
from PIL import Image
from scipy.special import softmax
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from mnsa.config import DataConfig
from mnsa.data.decode import read_image
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, DataError, ModelError
from mnsa.inference.postprocessing import ClassPostprocessing, MaskMaker, Postprocessing, ProbabilityMaker
from mnsa.inference.predictor import Predictor, load
from mnsa.inference.repair import Repair
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec, RunFolder
from mnsa.workflows.fit_trees import extract_features

SIZES = [(64, 64), (33, 71), (200, 31), (97, 130)]  # height, width
CLASSES, LAYERS = ("a", "b", "c"), ("background", "leaf", "vein")


@pytest.fixture
def random_image() -> Callable[..., Tensor]:
    """Makes a random image uint8 (3, H, W)."""
    return lambda size: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def untrained(make_config: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a predictor of an untrained network."""

    def make(
        classes: tuple[str, ...] = CLASSES,
        mask_classes: tuple[str, ...] = LAYERS,
        resize_mode: Any = "resize",
        **model: object,
    ) -> Predictor:
        torch.manual_seed(6)
        config = make_config(model=model).model
        network = build_network(config, len(classes), len(mask_classes))
        return Predictor(
            network, ModelSpec(config, DataConfig(size=(64, 64), resize_mode=resize_mode), classes, mask_classes)
        )

    return make


@pytest.mark.parametrize("size", SIZES)
def test_a_prediction_has_the_images_own_size_and_probabilities_that_sum_to_one(
    predictor: Any, random_image: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    prediction = predictor.predict_image(random_image(size), "leaf.jpg")
    assert prediction.path == "leaf.jpg"
    assert (prediction.mask.shape, prediction.mask.dtype) == (size, np.uint8)
    assert set(np.unique(prediction.mask)) <= {0, 1}
    assert (prediction.class_probs.shape, prediction.class_probs.dtype) == ((3,), np.float32)
    assert prediction.class_probs.sum() == pytest.approx(1, abs=1e-6)
    assert prediction.class_probs.min() >= 0
    assert 0 <= prediction.attention.min() <= prediction.attention.max() <= 1


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
@pytest.mark.parametrize("resolution", ["half", "full"])
def test_the_mask_is_the_networks_resized_to_the_image(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor], resize_mode: str, resolution: str
) -> None:
    predictor, image = untrained(resize_mode=resize_mode, mask_resolution=resolution), random_image((97, 130))
    inputs, _ = predictor.transform(image)
    assert inputs.shape == ((3, 64, 64) if resize_mode == "resize" else (3, 97, 130))
    with torch.inference_mode():
        logits = predictor.network(inputs[None]).mask_logits
    expected = F.resize(logits, [97, 130], antialias=False).argmax(1)[0]
    np.testing.assert_array_equal(predictor.predict_image(image).mask, expected.numpy())


def test_outputs_of_a_task_that_the_network_does_not_have_are_none(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor]
) -> None:
    classifier, segmenter = untrained(mask_classes=()), untrained(classes=())
    assert classifier.predict_image(random_image((64, 64))).mask is None
    prediction = segmenter.predict_image(random_image((64, 64)))
    assert prediction.class_probs is prediction.attention is None
    assert set(np.unique(prediction.mask)) <= {0, 1, 2}


def test_every_kind_of_input_gives_the_same_prediction(predictor: Any, dataset: Path) -> None:
    path = sorted((dataset / "images").iterdir())[0]
    tensor = read_image(path)
    expected = predictor.predict_image(tensor)
    array = tensor.permute(1, 2, 0).numpy()
    inputs = [path, str(path), array, tensor, Image.fromarray(array)]
    predictions = [predictor.predict(image) for image in inputs]
    for prediction in (*predictions, *predictor.predict(inputs), *predictor.predict(tuple(inputs))):
        np.testing.assert_array_equal(prediction.class_probs, expected.class_probs)
        np.testing.assert_array_equal(prediction.mask, expected.mask)
    assert [prediction.path for prediction in predictions] == [str(path), str(path), "", "", ""]
    assert [prediction.image is None for prediction in predictions] == [True, True, False, False, False]
    np.testing.assert_array_equal(predictions[3].image, array)


def test_a_list_gives_a_list_and_one_image_gives_one_prediction(
    predictor: Any, random_image: Callable[..., Tensor]
) -> None:
    images = [random_image((64, 64)), random_image((33, 71))]
    assert [prediction.mask.shape for prediction in predictor.predict(images)] == [(64, 64), (33, 71)]
    assert predictor.predict([]) == []
    assert len(predictor.predict(images[:1])) == 1
    assert predictor.predict(images[0]).mask.shape == (64, 64)


def test_a_folder_and_a_glob_give_the_predictions_of_their_images(predictor: Any, dataset: Path) -> None:
    photos = sorted((dataset / "images").glob("*_0001.jpg"))
    predictions = predictor.predict(str(dataset / "images" / "*_0001.jpg"))
    assert [prediction.path for prediction in predictions] == [str(path) for path in photos]
    with pytest.raises(DataError, match=r"names no image file"):
        predictor.predict(str(dataset / "images" / "none*.jpg"))


def test_an_array_of_another_type_is_an_error(predictor: Any) -> None:
    with pytest.raises(DataError, match=r"dtype int64; expected uint8"):
        predictor.predict(np.zeros((64, 64, 3), int))
    with pytest.raises(DataError, match=r"shape \(2, 64, 64, 3\)"):
        predictor.predict(np.zeros((2, 64, 64, 3), np.uint8))


def test_a_prediction_has_the_names_of_its_classes(predictor: Any, random_image: Callable[..., Tensor]) -> None:
    prediction = predictor.predict(random_image((64, 64)))
    assert (prediction.classes, prediction.mask_classes) == (predictor.classes, predictor.mask_classes)
    assert prediction.predicted == predictor.classes[prediction.class_probs.argmax()]
    row = prediction.to_row()
    assert row["predicted"] == prediction.predicted
    assert row["area_fraction_vein"] == prediction.mask.mean()
    assert predictor.prediction_table().values(prediction, "") == row


def test_a_trained_network_has_its_transform_and_the_names_of_its_classes(finished: RunFolder, predictor: Any) -> None:
    loaded: Any = load(str(finished.path))
    assert loaded.classes == predictor.classes == ("cultivar_01", "cultivar_02", "cultivar_03")
    assert loaded.mask_classes == ("vein",)
    outputs = loaded(loaded.transform(torch.zeros(3, 50, 80, dtype=torch.uint8))[0][None])
    assert outputs.class_logits.shape == (1, 3)
    assert not outputs.class_logits.requires_grad


def test_a_broken_file_is_named(predictor: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg is not an image"):
        predictor.predict(path)
    with pytest.raises(DataError, match="does not exist"):
        predictor.predict(Path("nowhere.png"))


def test_with_trees_only_the_class_probabilities_differ(
    fitted_trees: RunFolder, predictor: Any, random_image: Callable[..., Tensor]
) -> None:
    image, with_trees = random_image((70, 90)), load(fitted_trees.path, head="trees")
    with_trees_prediction: Any = with_trees.predict_image(image)
    prediction = predictor.predict_image(image)
    assert with_trees_prediction.class_probs.sum() == pytest.approx(1, abs=1e-6)
    assert not np.allclose(with_trees_prediction.class_probs, prediction.class_probs, atol=1e-3)
    np.testing.assert_array_equal(with_trees_prediction.mask, prediction.mask)
    np.testing.assert_array_equal(with_trees_prediction.attention, prediction.attention)
    own_head: Any = load(fitted_trees.path, head="network").predict_image(image)
    np.testing.assert_array_equal(own_head.class_probs, prediction.class_probs)


def test_with_trees_the_probabilities_are_those_of_xgboost(fitted_trees: RunFolder, dataset: Path) -> None:
    predictor: Any = load(fitted_trees.path, head="trees")
    manifest = read_manifest(dataset)
    pooled = extract_features(predictor, manifest)
    booster = xgboost.Booster(model_file=fitted_trees.trees_folder / "model.ubj")
    expected = booster.predict(xgboost.DMatrix(pooled.features.numpy(), nthread=1))
    predictions = np.stack([predictor.predict(manifest.image_path(row)).class_probs for row in manifest.rows])
    np.testing.assert_allclose(predictions, expected, atol=1e-6)


def test_an_unknown_head_is_named(finished: RunFolder) -> None:
    with pytest.raises(ModelError, match=r"no head 'tree'\. Expected network or trees"):
        load(finished.path, head="tree")  # type: ignore[arg-type]


def save_in_all_modes(folder: Path) -> list[Path]:
    """Save one image, 40 x 56 px, in every mode that cameras, scanners and editors write."""
    rgb = np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8)
    image, sideways = Image.fromarray(rgb), Image.Exif()
    sideways[0x0112] = 6
    gray = image.convert("L")
    wide = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    wide.save(folder / "gray16.png")
    wide.save(folder / "gray16.tif")
    gray.save(folder / "gray.png")
    image.save(folder / "plain.png")
    image.save(folder / "plain.bmp")
    image.save(folder / "webp.webp", lossless=True)
    image.convert("RGBA").save(folder / "alpha.png")
    gray.convert("LA").save(folder / "gray_alpha.png")
    gray.convert("1").save(folder / "bits.tif")
    image.convert("CMYK").save(folder / "cmyk.tif")
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    image.quantize(16).save(folder / "palette.png")
    image.quantize(16).save(folder / "clear_palette.png", transparency=b"\x00\x80\xff\xff")
    Image.fromarray(np.rot90(rgb).copy()).save(folder / "exif.png", exif=sideways)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_an_image_of_any_mode_is_predicted_as_its_rgb_image(
    untrained: Callable[..., Any], tmp_path: Path, resize_mode: str
) -> None:
    predictor, files = untrained(resize_mode=resize_mode), save_in_all_modes(tmp_path)
    predictions = {path.name: predictor.predict(path) for path in files}
    for name, prediction in predictions.items():
        assert prediction.mask.shape == (40, 56), name
        assert prediction.class_probs.sum() == pytest.approx(1, abs=1e-6), name
    in_color = ("plain.png", "plain.bmp", "webp.webp", "alpha.png", "exif.png")
    in_gray = ("gray.png", "gray16.png", "gray16.tif", "gray_alpha.png")
    for first, *others in (in_color, in_gray):
        for name in others:
            np.testing.assert_array_equal(predictions[name].class_probs, predictions[first].class_probs, err_msg=name)
            np.testing.assert_array_equal(predictions[name].mask, predictions[first].mask, err_msg=name)


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
@pytest.mark.parametrize("size", [(16, 16), (16, 200), (31, 40), (20, 5_000), (3_000, 16)])
def test_small_and_narrow_images_have_a_prediction_at_their_own_size(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor], resize_mode: str, size: tuple[int, int]
) -> None:
    prediction = untrained(resize_mode=resize_mode).predict_image(random_image(size))
    assert prediction.mask.shape == size
    assert prediction.class_probs.sum() == pytest.approx(1, abs=1e-6)


def test_a_small_image_is_padded_with_black_as_in_training(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor]
) -> None:
    predictor, image = untrained(resize_mode="crop"), random_image((20, 25))
    black = torch.zeros(3, 32, 32, dtype=torch.uint8)
    black[:, :20, :25] = image
    small, padded = predictor.predict_image(image), predictor.predict_image(black)
    np.testing.assert_array_equal(small.mask, padded.mask[:20, :25])
    np.testing.assert_array_equal(small.class_probs, padded.class_probs)


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
@pytest.mark.parametrize("size", [(15, 40), (70_000, 15), (1, 1)])
def test_an_image_that_is_too_small_is_named(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor], resize_mode: str, size: tuple[int, int]
) -> None:
    with pytest.raises(DataError, match=rf"dot\.png has {size[1]} x {size[0]} pixels; at least 16 a side"):
        untrained(resize_mode=resize_mode).predict_image(random_image(size), "dot.png")


def in_one_piece(predictor: Any, image: Tensor) -> Any:
    """Predict without tiles, however large the image is."""
    return predictor.predict_batch(predictor.preprocess(image)[None], [tuple(image.shape[-2:])], [""])[0]


@pytest.mark.parametrize("classes", [CLASSES, ()])
@pytest.mark.parametrize("mask_classes", [LAYERS, ("vein",), ()])
def test_a_large_image_is_predicted_in_tiles_nearly_as_in_one_piece(
    untrained: Callable[..., Any],
    random_image: Callable[..., Tensor],
    classes: tuple[str, ...],
    mask_classes: tuple[str, ...],
) -> None:
    if not classes and not mask_classes:
        return
    predictor, size = untrained(classes, mask_classes, resize_mode="crop"), (352, 480)
    assert predictor.needs_tiling(size)
    tiled, whole = predictor.predict_image(random_image(size), "scan.tif"), in_one_piece(predictor, random_image(size))
    assert tiled.path == "scan.tif"
    if classes:
        np.testing.assert_allclose(tiled.class_probs, whole.class_probs, atol=0.01)
        np.testing.assert_allclose(tiled.attention, whole.attention, atol=0.1)
        assert tiled.class_probs.dtype == np.float32
    if mask_classes:
        assert (tiled.mask.dtype, tiled.mask.shape) == (np.uint8, size)
        assert (tiled.mask == whole.mask).mean() > 0.9


def test_an_image_that_is_resized_is_never_cut_into_tiles(untrained: Callable[..., Any]) -> None:
    assert not untrained(resize_mode="resize").needs_tiling((20_000, 20_000))


def test_trees_get_the_features_of_the_whole_image(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor]
) -> None:
    predictor, size = untrained(resize_mode="crop"), (352, 480)
    seen = list[Tensor]()

    class Trees(torch.nn.Module):
        def forward(self, pooled: Tensor) -> Tensor:
            seen.append(pooled)
            return pooled[:, :3]

    head = predictor.network.class_head
    linear, head.classifier = head.classifier, Trees()
    by_trees = predictor.predict_image(random_image(size)).class_probs
    np.testing.assert_array_equal(by_trees, seen[-1][0, :3].softmax(0).numpy())
    head.classifier = linear
    by_network = predictor.predict_image(random_image(size)).class_probs
    torch.testing.assert_close(predictor.pool_tiles(random_image(size)), seen[-1])
    with torch.inference_mode():
        np.testing.assert_allclose(linear(seen[-1])[0].softmax(0).numpy(), by_network, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (352, 480)])
def test_another_engine_predicts_in_tiles_too(
    untrained: Callable[..., Any],
    random_image: Callable[..., Tensor],
    make_config: Callable[..., Any],
    size: tuple[int, int],
) -> None:
    predictor = untrained(resize_mode="crop")
    spec = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), CLASSES, LAYERS)
    exported: Any = Predictor(predictor.network, spec, engine=predictor.network.__call__)
    ours, theirs = predictor.predict_image(random_image(size)), exported.predict_image(random_image(size))
    np.testing.assert_allclose(theirs.class_probs, ours.class_probs, atol=1e-6 if size == (64, 64) else 0.01)
    np.testing.assert_array_equal(theirs.mask, ours.mask)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (352, 480)])
@pytest.mark.parametrize("tta", [(), ("flips",)])
def test_postprocessing_sees_the_probabilities_of_the_whole_image(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor], make_config: Callable[..., Any],
    size: tuple[int, int], tta: tuple[str, ...],
) -> None:  # fmt: skip
    """Also in tiles and with several views: no piece ends at a tile's border."""
    network = untrained(resize_mode="crop").network
    spec = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), CLASSES, LAYERS)
    chosen = Postprocessing(
        bias=(0.0, 0.8, -0.4),
        classes={"vein": ClassPostprocessing(low_threshold=0.3, repair=Repair(0.1, 0.15), min_area_px=30)},
    )

    def engine(images: Tensor) -> Any:  # an untrained network hardly tells classes apart
        outputs = network(images)
        return outputs._replace(mask_logits=40 * outputs.mask_logits)

    predictor: Any = Predictor(network, spec, engine=engine, postprocessing=chosen, tta=tta)
    found = predictor.predict_image(random_image(size)).mask
    predictor.mask_maker = ProbabilityMaker(chosen, LAYERS, spec.data)
    probs = predictor.predict_image(random_image(size)).mask
    assert probs.shape == (3, *size)
    maker = MaskMaker(chosen, LAYERS, spec.data)
    again = maker.finish(maker.decide_probs(torch.from_numpy(probs).double() / 255))
    assert (found != probs.argmax(0)).any()
    assert (found == again).mean() > 0.99  # but for the rounding of probabilities


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_with_flips_a_mirrored_image_has_the_mirrored_prediction(
    untrained: Callable[..., Any],
    random_image: Callable[..., Tensor],
    make_config: Callable[..., Any],
    resize_mode: Any,
) -> None:
    network, size = untrained(resize_mode=resize_mode).network, (97, 130)
    spec = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode=resize_mode), CLASSES, LAYERS)
    predictor: Any = Predictor(network, spec, tta=["flips"])
    image = random_image(size)
    prediction, mirrored = predictor.predict_image(image), predictor.predict_image(image.flip(-1))
    assert prediction.class_probs.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(mirrored.class_probs, prediction.class_probs, atol=1e-5)
    assert (mirrored.mask[:, ::-1] == prediction.mask).mean() > 0.999
    assert not np.allclose(
        prediction.class_probs, untrained(resize_mode=resize_mode).predict_image(image).class_probs, atol=1e-5
    )


def test_flips_are_averaged_over_tiles_view_by_view(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor], make_config: Callable[..., Any]
) -> None:
    network, size = untrained(resize_mode="crop").network, (352, 480)
    spec = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), CLASSES, LAYERS)
    predictor: Any = Predictor(network, spec, tta=["flips"])
    image = random_image(size)
    tiled, whole = predictor.predict_image(image), in_one_piece(predictor, image)
    np.testing.assert_allclose(tiled.class_probs, whole.class_probs, atol=0.01)
    assert (tiled.mask == whole.mask).mean() > 0.9


def test_augmentations_are_given_by_name(finished: RunFolder, random_image: Callable[..., Tensor]) -> None:
    predictor: Any = load(finished.path, tta=("flips", "rot90", "scales"))
    assert len(predictor.views) == 24
    prediction = predictor.predict_image(random_image((70, 90)))
    assert prediction.mask.shape == (70, 90)
    assert prediction.class_probs.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="no augmentation 'mirrors'"):
        load(finished.path, tta=["mirrors"])


def test_class_probabilities_are_scipys_softmax_of_the_networks_logits(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor]
) -> None:
    predictor, image = untrained(), random_image((97, 130))
    with torch.no_grad():
        predictor.network.class_head.classifier.weight.mul_(40)  # logits far from each other
    for temperature in (1.0, 2.5):
        predictor.temperature = temperature
        logits = predictor(predictor.preprocess(image)[None]).class_logits[0].numpy()
        probs = predictor.predict(image).class_probs
        np.testing.assert_allclose(probs, softmax(logits / temperature), atol=1e-6)
        assert probs.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [(97, 130), (352, 480)])
def test_with_flips_probabilities_are_averaged_and_not_logits(
    untrained: Callable[..., Any],
    random_image: Callable[..., Tensor],
    make_config: Callable[..., Any],
    size: tuple[int, int],
) -> None:
    """Also in tiles: the views of a large image are averaged after the classifier."""
    network = untrained(resize_mode="crop").network
    spec = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), CLASSES, LAYERS)
    predictor: Any = Predictor(network, spec, tta=["flips"])
    logits = torch.tensor([[20.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])  # one view is confident

    class Classifier(nn.Module):
        """The logits of one view after the other, or of all views at once."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, pooled: Tensor) -> Tensor:
            self.calls += 1
            return logits if len(pooled) == 4 else logits[(self.calls - 1) % 4][None]

    predictor.network.class_head.classifier = Classifier()
    expected = softmax(logits.numpy(), axis=1).mean(0)
    assert np.abs(expected - softmax(logits.numpy().mean(0))).max() > 0.1
    np.testing.assert_allclose(predictor.predict(random_image(size)).class_probs, expected, atol=1e-6)


@pytest.mark.parametrize(("threshold", "unknown"), [(None, False), (0.0, False), (1.0, True)])
def test_below_the_calibrated_threshold_a_prediction_is_unknown(
    untrained: Callable[..., Any], random_image: Callable[..., Tensor], threshold: float | None, unknown: bool
) -> None:
    predictor = untrained()
    predictor.threshold = threshold
    prediction = predictor.predict(random_image((64, 64)))
    expected = "unknown" if unknown else CLASSES[prediction.class_probs.argmax()]
    assert prediction.predicted == prediction.to_row()["predicted"] == prediction.to_dict()["predicted"] == expected
    assert predictor.prediction_table().row(prediction, "")["predicted"] == expected
    assert predictor.class_name(prediction.class_probs) == expected
