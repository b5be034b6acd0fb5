"""Lesions: how many, how much of the leaf, how large."""

import numpy as np
from scipy.ndimage import label

from mnsa.traits import regions
from mnsa.traits.records import LesionTraits, spread


def measure_lesions(lesions: np.ndarray, leaf: np.ndarray | None) -> LesionTraits:
    """Measure a lesion mask, bool (H, W). leaf: bool (H, W), lesions included, or None: then there is no share."""
    labels, count = label(lesions, structure=np.ones((3, 3)))
    leaf_area = 0 if leaf is None else int(leaf.sum())
    share = float(lesions.sum()) / leaf_area if leaf_area else float("nan")
    return LesionTraits(count=int(count), area_share=share, area_px2=spread(regions.areas(labels, count)))
