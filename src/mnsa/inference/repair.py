"""Close the gaps of a mask of thin structures along the ridges of its probability map.

Candidates are pixels of a lower probability that are connected with the mask. They are removed from the least to the
most probable, but never one that holds the mask together or closes a ring around background. What remains are paths of
one pixel that join pieces of the mask, or two places of one piece, where candidates lead from one to the other; each
follows the highest probabilities. Free ends do not grow: a path that leads nowhere is removed to its beginning. Each
path is then kept or dropped by its mean probability.

Source: ordered thinning by simple points, with the mask as the pixels that stay; C. Pudney, Distance-Ordered
Homotopic Thinning, Computer Vision and Image Understanding 72 (1998).
H, W image size in pixels; N candidates.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import binary_dilation, label

EIGHT = np.ones((3, 3), dtype=bool)  # neighbors of a foreground pixel; background regions are 4-connected

_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # the neighbors, in order around a pixel

_LEVELS = 8  # of the probability, in which candidates are removed

_DIAGONAL = 4 / np.pi  # mean of |cos| + |sin|: crossings of a line with a grid of pixels, per length


@dataclass(frozen=True, slots=True)
class Repair:
    """How gaps are closed. min_prob: the least probability of a pixel of a path. min_mean_prob: of the path's mean.

    Raises: ValueError for values that are no probability, 0 and 1 included.
    """

    min_prob: float = 0.05
    min_mean_prob: float = 0.1

    def __post_init__(self) -> None:
        for name in ("min_prob", "min_mean_prob"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r}, not a number in 0..1")

    def close_gaps(self, mask: np.ndarray, probs: np.ndarray) -> np.ndarray:
        """Add paths to a mask, bool (H, W). probs: uint8 (H, W), probabilities times 255.

        Paths have the mean width of the mask, within the candidates.
        """
        candidates = add_connected(mask, probs > 255 * self.min_prob) & ~mask
        paths = thin_candidates(mask, candidates, probs)
        pieces, count = label(paths, EIGHT)  # each touches the mask, so each can be dropped alone
        if not count:
            return mask
        inside = pieces[paths]
        mean = np.bincount(inside, probs[paths], minlength=count + 1) / np.maximum(np.bincount(inside), 1)
        kept = mean >= 255 * self.min_mean_prob
        kept[0] = False
        paths = kept[pieces]
        radius = round((mean_width(mask) - 1) / 2)
        if radius > 0:
            paths = binary_dilation(paths, EIGHT, iterations=radius, mask=candidates)
        return np.asarray(mask | paths)


def add_connected(mask: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Add the candidates that are 8-connected with a pixel of the mask, directly or by others; bool (H, W)."""
    labels, count = label(mask | candidates, EIGHT)
    connected = np.zeros(count + 1, dtype=bool)
    connected[labels[mask]] = True
    return np.asarray(connected[labels])


def thin_candidates(mask: np.ndarray, candidates: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Remove candidates until every one that is left is needed for the topology of `mask | candidates`.

    mask, candidates: bool (H, W), without a common pixel; the mask stays. probs: uint8 (H, W). Returns: the candidates
    that are left, bool (H, W). Pixels that are looked at together are no neighbors: every second row and column.
    """
    rows, columns = np.nonzero(candidates)
    if not len(rows):
        return candidates
    padded = np.pad(mask | candidates, 1).view(np.uint8)
    flat, width = padded.ravel(), padded.shape[1]
    steps = [down * width + right for down, right in _RING]
    index = (rows + 1) * width + columns + 1
    values = probs[rows, columns]
    limits = np.linspace(values.min(), values.max(), _LEVELS + 1)[1:]
    level, field = np.searchsorted(limits, values), 2 * (rows % 2) + columns % 2
    waiting = [np.empty(0, dtype=index.dtype)] * 4
    removable = _simple_points()
    for turn in range(_LEVELS):
        waiting = [
            np.concatenate([before, index[(level == turn) & (field == which)]]) for which, before in enumerate(waiting)
        ]
        changed = True
        while changed:
            changed = False
            for which, pixels in enumerate(waiting):
                around = np.zeros(len(pixels), dtype=np.uint8)
                for bit, step in enumerate(steps):
                    around |= flat[pixels + step] << np.uint8(bit)
                is_simple = removable[around]
                if is_simple.any():
                    flat[pixels[is_simple]] = 0
                    waiting[which] = pixels[~is_simple]
                    changed = True
    return np.asarray(padded[1:-1, 1:-1].view(bool) & candidates)


def mean_width(mask: np.ndarray) -> float:
    """Estimate the mean width of the strips of a mask, bool (H, W), in pixels, by its area and outline; 0 if empty."""
    padded = np.pad(mask, 1)
    crossings = sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in (0, 1))
    return 2.0 * _DIAGONAL * float(mask.sum()) / max(crossings, 1)


@cache
def _simple_points() -> np.ndarray:
    """Find the neighborhoods whose middle can be removed without a change of topology: bool (256,), a bit a neighbor.

    The foreground around it is one 8-connected piece, and so is the 4-connected background that touches it.
    """
    found = np.zeros(256, dtype=bool)
    for code in range(256):
        square = np.zeros((3, 3), dtype=bool)
        for bit, (down, right) in enumerate(_RING):
            square[1 + down, 1 + right] = code >> bit & 1
        outside = ~square
        outside[1, 1] = False
        pieces, _ = label(outside)
        sides = {pieces[side] for side in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
        found[code] = label(square, EIGHT)[1] == 1 and len(sides) == 1
    return found
