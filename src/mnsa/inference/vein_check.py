"""Whether veins can be trusted: a confidence of each image, and a warning where a leaf or its veins can't be seen.

h, w size of the network's input, in pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from mnsa.errors import ConfigError
from mnsa.inference.repair import EIGHT
from mnsa.metrics.topology import thin
from mnsa.run_folder import ModelSpec
from mnsa.traits.measurer import find_roles_or_none

MIN_LENGTH = 0.5  # centerlines of a leaf are longer than this part of the mean side of the image

MAX_AREA = 0.45  # veins cover a smaller part of an image; a page of text may be covered as a whole

MIN_CONNECTED = 0.5  # veins hang together: the least part of the centerlines in pieces that are not short

SHORT_PX = 60  # a shorter piece of a centerline is short, such as a letter; in an input of less than 240 px, a quarter

MIN_CONFIDENCE = 0.7  # below it, masks of drawn validation leaves have an IoU of 0.2 on average

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


@dataclass(frozen=True, slots=True)
class VeinCounts:
    """Pixel counts of the probabilities of veins. Those of several windows of an image can be added.

    probs: number of pixels of each probability times 255, (256,). lines: pixels of the mask's centerlines. connected:
    those in pieces that are not short. threshold: pixels above it are in the mask.
    """

    probs: np.ndarray
    lines: int
    connected: int
    threshold: float

    def __add__(self, other: "VeinCounts") -> "VeinCounts":
        lines, connected = self.lines + other.lines, self.connected + other.connected
        return VeinCounts(self.probs + other.probs, lines, connected, self.threshold)

    @property
    def area(self) -> float:
        """The part of the pixels that is in the mask."""
        return float(self.probs[np.arange(256) > 255 * self.threshold].sum() / self.probs.sum())

    @property
    def connected_part(self) -> float:
        """The part of the centerlines in pieces that are not short."""
        return self.connected / max(self.lines, 1)

    @property
    def expected_dice(self) -> float:
        """The Dice score that the mask m is expected to have, by its own probabilities p: 2 * sum(p * m) / sum(p + m).

        It is the soft Dice of the mask with its probabilities, and near the mean Dice if they are right. 0 if empty.
        """
        probs = np.arange(256) / 255
        inside = np.where(probs > self.threshold, self.probs, 0)
        total = float((self.probs * probs).sum() + inside.sum())
        return 2 * float((inside * probs).sum()) / total if inside.any() else 0.0


def count_veins(probs: np.ndarray, threshold: float) -> VeinCounts:
    """Count the pixels of probabilities times 255, uint8 (h, w)."""
    pieces, count = label(thin(probs > 255 * threshold), EIGHT)
    lengths = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    is_long = lengths >= min(SHORT_PX, math.sqrt(probs.size) / 4)
    counts = np.bincount(probs.ravel(), minlength=256)
    return VeinCounts(counts, int(lengths.sum()), int(lengths[is_long].sum()), threshold)


def check_veins(counts: VeinCounts) -> tuple[float, str]:
    """Return the confidence of the mask of an image, 0..1, and a warning or empty text.

    The confidence is the expected Dice.
    """
    confidence = counts.expected_dice
    if counts.lines < MIN_LENGTH * math.sqrt(counts.probs.sum()) or counts.area > MAX_AREA:
        return confidence, NO_LEAF
    is_visible = counts.connected_part >= MIN_CONNECTED and confidence >= MIN_CONFIDENCE
    return confidence, "" if is_visible else NOT_VISIBLE
