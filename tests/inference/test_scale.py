"""An image is seen at the scale at which the network is surest of its mask; masks have the image's own size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnsa.config import DataConfig
from mnsa.errors import ConfigError
from mnsa.inference.postprocessing import MaskMaker, Postprocessing
from mnsa.inference.prediction import NamedPrediction
from mnsa.inference.predictor import Predictor, load
from mnsa.inference.scale import WINDOW_PX, PredictAtScale, ScaleChoice, choose_scale, resize_image
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec
from narrowing import some

LINE_PX = 4.0  # the width of the lines that `find_probs` knows


def stripes(size: tuple[int, int], width: int) -> Tensor:
    """Black lines of a width on white, uint8 (3, H, W), nine times as far apart as they are wide."""
    rows = torch.arange(size[0])[:, None].expand(*size)
    return ((rows % (10 * width) >= width) * 255).to(torch.uint8).expand(3, *size).contiguous()


def find_probs(image: Tensor) -> np.ndarray:
    """A network in small: it is sure of dark lines of LINE_PX, less sure of others."""
    dark = image[0].numpy() < 128
    lines = np.count_nonzero(dark[1:, 0] & ~dark[:-1, 0]) + int(dark[0, 0])
    width = (255 - image[0, :, 0].numpy()).sum() / 255 / max(lines, 1)
    sure = np.exp(-4 * np.log(max(width, 0.1) / LINE_PX) ** 2)
    return np.where(dark, 255 * sure, 0).astype(np.uint8)


@pytest.mark.parametrize("size", [(1024, 700), (600, 1500), (3000, 4000)])
@pytest.mark.parametrize("width", [8, 16, 32])
def test_lines_of_any_width_are_seen_at_the_width_that_the_network_knows(size: tuple[int, int], width: int) -> None:
    chosen = choose_scale(find_probs, stripes(size, width), 0.5)
    assert chosen.factor * width == pytest.approx(LINE_PX, rel=0.45)
    assert chosen.ratings[chosen.factor] == max(chosen.ratings.values())


def test_thin_lines_are_enlarged_at_most_twice() -> None:
    assert choose_scale(find_probs, stripes((400, 500), 1), 0.5).factor <= 2
    assert choose_scale(find_probs, stripes((40, 50), 1), 0.5).factor == 2


def test_of_a_large_image_only_windows_are_predicted() -> None:
    seen = list[tuple[int, ...]]()

    def record(image: Tensor) -> np.ndarray:
        seen.append(tuple(image.shape[-2:]))
        return np.zeros(image.shape[-2:], np.uint8)

    choose_scale(record, torch.zeros(3, 3000, 4000, dtype=torch.uint8), 0.5)
    assert max(height * width for height, width in seen) <= 5 * WINDOW_PX**2
    assert max(map(max, seen)) < 1100


def test_a_scale_at_which_everything_is_vein_is_not_chosen() -> None:
    def cover_small_inputs(image: Tensor) -> np.ndarray:
        dark = image[0].numpy() < 128
        return np.where(dark | (max(image.shape) < 500), 230, 0).astype(np.uint8)

    assert choose_scale(cover_small_inputs, stripes((700, 1024), 16), 0.5).factor * 1024 > 500


def test_an_image_without_anything_still_has_a_scale() -> None:
    blank = choose_scale(lambda image: np.zeros(image.shape[-2:], np.uint8), stripes((300, 300), 300), 0.5)
    assert 0 < blank.factor <= 2


@pytest.mark.parametrize("size", [(64, 96), (5, 4000)])
def test_a_resized_image_keeps_its_proportions_but_no_side_vanishes(size: tuple[int, int]) -> None:
    resized = resize_image(torch.zeros(3, *size, dtype=torch.uint8), 0.5)
    assert tuple(resized.shape[-2:]) == (max(16, size[0] // 2), size[1] // 2)


@pytest.fixture
def veins(make_config: Callable[..., Any]) -> Callable[..., Predictor]:
    """Makes a predictor of an untrained network that keeps the scale."""

    def make(
        mask_classes: tuple[str, ...] = ("vein",), scale: Any = None, resize_mode: Any = "crop", **options: Any
    ) -> Predictor:
        torch.manual_seed(6)
        model = make_config().model
        spec = ModelSpec(model, DataConfig(size=(64, 64), resize_mode=resize_mode), (), mask_classes)
        return Predictor(build_network(model, 0, len(mask_classes)), spec, scale=scale, **options)

    return make


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mask_classes", [("vein",), ("background", "leaf", "vein")])
def test_at_scale_1_the_mask_is_that_of_no_scale(
    veins: Callable[..., Predictor], image: Tensor, mask_classes: tuple[str, ...]
) -> None:
    plain, scaled = (veins(mask_classes, scale).predict_image(image, "a.jpg") for scale in (None, 1.0))
    assert (some(plain.mask) == some(scaled.mask)).mean() > 0.95  # probabilities are rounded to 1/255
    assert (plain.scale, plain.confidence, plain.warning) == (None, None, "")
    assert scaled.scale == 1
    assert 0 <= some(scaled.confidence) <= 1


@pytest.mark.parametrize("scale", [0.5, 2.0, "auto"])
def test_masks_have_the_images_size_at_any_scale(veins: Callable[..., Predictor], image: Tensor, scale: Any) -> None:
    prediction = veins(scale=scale).predict_image(image)
    assert some(prediction.mask).shape == (90, 130)
    assert scale in ("auto", prediction.scale)
    assert list(prediction.to_row())[-3:] == ["scale", "confidence", "warning"]


@pytest.mark.parametrize(("chosen", "below", "above", "is_vein"), [(240, 0, 130, False), (60, 210, 210, True)])
def test_a_pixel_is_vein_by_its_mean_probability_at_three_scales(
    make_config: Callable[..., Any],
    image: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    chosen: int,
    below: int,
    above: int,
    is_vein: bool,
) -> None:
    spec = ModelSpec(make_config().model, DataConfig(size=(64, 64), resize_mode="crop"), (), ("vein",))
    maker, probs = MaskMaker(Postprocessing(), ("vein",), spec.data), {90: chosen, 64: below, 127: above}
    monkeypatch.setattr("mnsa.inference.scale.choose_scale", lambda *_: ScaleChoice(1.0, {}))

    def predict(seen: Tensor, path: str, _maker: Any) -> NamedPrediction:
        height, width = seen.shape[-2:]
        return NamedPrediction(path, None, attention=None, mask=np.full((1, height, width), probs[height], np.uint8))

    mask = PredictAtScale(predict, maker, spec, "auto")(image, "a.jpg").mask
    assert (some(mask) == is_vein).all()


def test_the_network_sees_the_resized_image(veins: Callable[..., Predictor], image: Tensor) -> None:
    half, plain = veins(scale=0.5), veins()
    seen = some(plain.predict_image(resize_image(image, 0.5)).mask)
    mask = some(half.predict_image(image).mask)
    assert (mask[::2, ::2] == seen).mean() > 0.8  # up to the interpolation between its pixels


def test_pieces_are_removed_by_their_size_in_the_networks_input(
    veins: Callable[..., Predictor], image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, scales = veins(scale=0.25, postprocessing=Postprocessing(threshold=0.4)), list[float]()
    finish = predictor.mask_maker.finish

    def record(maps: Tensor, scale: float) -> np.ndarray:
        scales.append(scale)
        return finish(maps, scale)

    monkeypatch.setattr(predictor.mask_maker, "finish", record)
    predictor.predict_image(image)
    assert scales == [4.0]


def test_each_image_is_predicted_alone(veins: Callable[..., Predictor]) -> None:
    assert veins(scale="auto").predicts_alone((64, 64))
    assert not veins().predicts_alone((64, 64))


@pytest.mark.parametrize("scale", [0, -1, 100, float("nan"), "best"])
def test_a_scale_out_of_range_is_an_error(veins: Callable[..., Predictor], scale: Any) -> None:
    with pytest.raises(ConfigError, match=r"The scale is .*; expected 'auto', or a factor"):
        veins(scale=scale)


def test_networks_that_resize_or_have_no_veins_have_no_scale(veins: Callable[..., Predictor], predictor: Any) -> None:
    with pytest.raises(ConfigError, match=r"resize_mode = 'crop'"):
        load(predictor.source, scale="auto")
    with pytest.raises(ConfigError, match="the mask classes of this one are: background, spot"):
        veins(("background", "spot"), "auto")
