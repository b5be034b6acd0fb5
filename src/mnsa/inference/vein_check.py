"""Whether veins can be trusted: a confidence of each image, and a warning where a leaf or its veins can't be seen.

h, w size of the network's input, in pixels.
"""

import math

import numpy as np
from scipy.ndimage import label

from mnsa.errors import ConfigError
from mnsa.inference.repair import EIGHT
from mnsa.metrics.topology import thin
from mnsa.run_folder import ModelSpec
from mnsa.traits.measurer import find_roles_or_none

MIN_LENGTH = 0.5  # centerlines of a leaf are longer than this part of the mean side of the image

MIN_CONNECTED = 0.5  # veins hang together: the least part of the centerlines in pieces that are not short

SHORT = 0.1  # of the mean side of the image; letters are shorter, also those of a title

MIN_CONFIDENCE = 0.5

NO_LEAF = "no leaf found"

NOT_VISIBLE = "veins not visible at this resolution: photograph closer"

WARNINGS = (NO_LEAF, NOT_VISIBLE)


def find_vein_class(spec: ModelSpec) -> int:
    """The index of the mask class whose probability is checked: the only one, or the one with a usual name of veins.

    Raises: ConfigError when there is none, or several, or the network does not keep the scale of images.
    """
    if spec.data.resize_mode != "crop":
        raise ConfigError(
            "A scale is for networks that keep the scale of images (data.resize_mode = 'crop'); this one resizes them."
        )
    names = spec.mask_classes
    roles = None if len(names) < 2 else find_roles_or_none(names)
    veins = (0,) if len(names) == 1 else roles.vein if roles else ()
    if len(veins) != 1:
        raise ConfigError(
            "A scale is for networks with one mask class of veins; the mask classes of this one are: "
            f"{', '.join(names) or 'none'}."
        )
    return veins[0]


def check_veins(probs: np.ndarray, threshold: float) -> tuple[float, str]:
    """Return the confidence of a mask of veins, 0..1, and a warning or empty text.

    probs: uint8 (h, w), probabilities times 255. threshold: pixels above it are in the mask. The confidence is the
    expected Dice.
    """
    confidence = expected_dice(np.bincount(probs.ravel(), minlength=256), threshold)
    side = math.sqrt(probs.size)
    pieces, count = label(thin(probs > 255 * threshold), EIGHT)
    lengths = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if lengths.sum() < MIN_LENGTH * side:
        return confidence, NO_LEAF
    is_connected = lengths[lengths >= SHORT * side].sum() >= MIN_CONNECTED * lengths.sum()
    return confidence, "" if is_connected and confidence >= MIN_CONFIDENCE else NOT_VISIBLE


def expected_dice(counts: np.ndarray, threshold: float) -> float:
    """The Dice score that a mask m is expected to have, by its own probabilities p: 2 * sum(p * m) / sum(p + m).

    It is the soft Dice of the mask with its probabilities, and near the mean Dice if they are right.
    counts: number of pixels of each probability times 255, (256,). threshold: pixels above it are in the mask m.
    0 for an empty mask.
    """
    probs = np.arange(256) / 255
    inside = probs > threshold
    total = float((counts * probs).sum() + counts[inside].sum())
    return 2 * float((counts * probs)[inside].sum()) / total if counts[inside].any() else 0.0
