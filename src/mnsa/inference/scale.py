"""The scale at which the network looks at an image: the one at which its confidence in its own mask is highest.

Thin structures are found best where they are as wide as in training. How wide they are in a photo is not known, so the
network looks at the image at several scales, and rates its own mask at each: by the Dice score that its probabilities
expect, times the part of the centerlines that hang together. Inputs much smaller or larger than leaves in training
count less: in small ones any network is confident about the main veins that are left, and in large ones about a
texture. A mask that covers the image counts nothing.
The probabilities are then the mean of three scales: of the chosen one, and of half an octave below and above. Veins are
of several widths, and what is seen at one scale alone is often none.
`benchmarks/veins.py` compares that choice with the best scale, which only the truth knows.

H, W image size; h, w size of an input of the network, in pixels; M mask classes. A scale is a factor: h / H.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mnsa.data.decode import MIN_SIDE_PX
from mnsa.errors import ConfigError
from mnsa.inference.postprocessing import MaskMaker, ProbabilityMaker
from mnsa.inference.prediction import NamedPrediction
from mnsa.inference.vein_check import MAX_AREA, VeinCounts, check_veins, count_veins, find_vein_class
from mnsa.model.heads import resize_and_decide
from mnsa.run_folder import ModelSpec

Scale = float | Literal["auto"]

MIN_LONG_SIDE_PX, MAX_LONG_SIDE_PX = 256, 4096  # of the inputs that `choose_scale` compares

USUAL_PX = 640  # of the longer side; other inputs count less, as in a normal distribution of _OCTAVES octaves
_OCTAVES = 0.75

MAX_FACTOR = 2.0  # an enlarged image shows no more, but its veins are wider

LIMITS = (1 / 64, 8.0)  # of a given factor

WINDOW_PX = 384  # side of the windows of the network's input that stand for a large input

_WINDOWS = ((0.5, 0.5), (0.35, 0.35), (0.35, 0.65), (0.65, 0.35), (0.65, 0.65))  # centers, as parts of height and width


class PredictAtScale:
    """Predicts resized images. Masks have the images' own sizes: the probabilities are resized before they are decided.

    predict: predicts an image with a mask maker. maker: of the masks. spec: of the network.
    Raises: ConfigError when the network can't be used at other scales, or the scale is none.
    """

    def __init__(
        self,
        predict: Callable[[Tensor, str, MaskMaker], NamedPrediction],
        maker: MaskMaker,
        spec: ModelSpec,
        scale: Scale,
    ) -> None:
        validate_scale(scale)
        self._predict, self._maker, self._scale = predict, maker, scale
        self._vein = find_vein_class(spec)
        self._probs = ProbabilityMaker.replacing(maker)
        self._threshold = maker.postprocessing.threshold if len(spec.mask_classes) == 1 else 0.5

    def __call__(self, image: Tensor, path: str, mask_maker: MaskMaker | None = None) -> NamedPrediction:
        """Predict an image uint8 (3, H, W), at a scale of its own. mask_maker: in place of the own one."""
        maker = mask_maker or self._maker
        factor, others = self._scale, list[float]()
        if factor == "auto":
            factor = choose_scale(lambda part: self._find_probs(part)[1][self._vein], image, self._threshold).factor
            others = [other for other in _neighbors(factor) if max(image.shape[-2:]) * other <= MAX_LONG_SIDE_PX]
        found, probs = self._find_probs(resize_image(image, factor), path)
        probs = _mean_at_size(probs, (self._find_probs(resize_image(image, other))[1] for other in others))
        size = image.shape[-2], image.shape[-1]
        maps = resize_and_decide(torch.from_numpy(probs).float() / 255, size, maker.decide_probs)
        confidence, warning = check_veins(count_veins(probs[self._vein], self._threshold))
        mask = maker.finish(maps, scale=1 / factor)
        return replace(found, mask=mask, scale=factor, confidence=confidence, warning=warning)

    def _find_probs(self, image: Tensor, path: str = "") -> tuple[NamedPrediction, np.ndarray]:
        """Return the prediction, and the probabilities times 255 of the mask classes, uint8 (M, h, w)."""
        found = self._predict(image, path, self._probs)
        return found, np.asarray(found.mask)


class ScaleChoice(NamedTuple):
    """A factor, and the rating of the network's mask at every factor that was tried."""

    factor: float
    ratings: dict[float, float]


def validate_scale(scale: Scale) -> None:
    """Do nothing for `auto` and for a factor within the limits. Raises: ConfigError."""
    if scale != "auto" and not (isinstance(scale, int | float) and LIMITS[0] <= scale <= LIMITS[1]):
        raise ConfigError(
            f"The scale is {scale!r}; expected 'auto', or a factor from 1/64 to 8 by which images are resized for the "
            "network, such as 0.5."
        )


def resize_image(image: Tensor, factor: float) -> Tensor:
    """Resize an image uint8 (3, H, W) by a factor, with antialiasing; a side keeps at least MIN_SIDE_PX."""
    size = [max(MIN_SIDE_PX, round(side * factor)) for side in image.shape[-2:]]
    if size == list(image.shape[-2:]):
        return image
    resized: Tensor = F.resize_image(image, size, InterpolationMode.BILINEAR, antialias=True)
    return resized


def choose_scale(find_probs: Callable[[Tensor], np.ndarray], image: Tensor, threshold: float) -> ScaleChoice:
    """Choose the scale for an image uint8 (3, H, W): octaves first, then half an octave around the best.

    find_probs: makes probabilities times 255, uint8 (h, w), of an image uint8 (3, h, w). threshold: of the mask.
    Of a large input, only windows are predicted: in the middle, and around it.
    """
    tried, long_side_px = dict[float, float](), max(image.shape[-2:])

    def rate(factor: float) -> float:
        if factor not in tried:
            first, *others = (count_veins(find_probs(part), threshold) for part in _windows(image, factor))
            tried[factor] = _rate(sum(others, start=first), factor * long_side_px)
        return tried[factor]

    best = max(_octaves(long_side_px), key=rate)
    best = max([best, *_neighbors(best)], key=rate)
    return ScaleChoice(best, tried)


def _neighbors(factor: float) -> list[float]:
    """Half an octave below, and above if it is at most MAX_FACTOR."""
    return [near for near in (factor * 2**-0.5, factor * 2**0.5) if near <= MAX_FACTOR]


def _mean_at_size(probs: np.ndarray, others: Iterable[np.ndarray]) -> np.ndarray:
    """Average maps at the size of the first, uint8 (M, h, w); the others (M, h', w') are resized to it."""
    count, total = 1, torch.from_numpy(probs).float()
    for other in others:
        total += F.resize_image(torch.from_numpy(other).float(), list(probs.shape[-2:]), antialias=True)
        count += 1
    mean: np.ndarray = (total / count).round().to(torch.uint8).numpy()
    return mean


def _rate(counts: VeinCounts, long_side_px: float) -> float:
    if counts.area > MAX_AREA:
        return 0.0
    octaves = math.log2(long_side_px / USUAL_PX) / _OCTAVES
    return counts.expected_dice * counts.connected_part * math.exp(-(octaves**2) / 2)


def _octaves(long_side_px: int) -> list[float]:
    """Factors whose longer side of the input is 256, 512, 1024, ... px, at most 4096 px and MAX_FACTOR."""
    sides = [MIN_LONG_SIDE_PX * 2**n for n in range(round(math.log2(MAX_LONG_SIDE_PX / MIN_LONG_SIDE_PX)) + 1)]
    return [side / long_side_px for side in sides if side <= MAX_FACTOR * long_side_px] or [MAX_FACTOR]


def _windows(image: Tensor, factor: float) -> Iterator[Tensor]:
    """Yield the resized image, or windows of it, each at least WINDOW_PX a side after resizing where there is room."""
    height, width = image.shape[-2:]
    if height * width * factor**2 <= len(_WINDOWS) * WINDOW_PX**2:
        yield resize_image(image, factor)
        return
    rows, columns = (min(side, math.ceil(WINDOW_PX / factor)) for side in (height, width))
    for down, right in _WINDOWS:
        top, left = round(down * height - rows / 2), round(right * width - columns / 2)
        top, left = max(0, min(top, height - rows)), max(0, min(left, width - columns))
        yield resize_image(image[:, top : top + rows, left : left + columns], factor)
