"""One scorer for both sides of a comparison: whoever predicts, the same rows are read and the same formulas applied.

Claim: none; imported by `coffee.py` and `coffee_peer.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest
from mnsa.metrics.scoring import score_predictions
from mnsa.structures import Prediction, Sample

SPLITS = ("val", "test", "val+test")
Predict = Callable[[Sample], Prediction]


def score(predict: Predict, manifest: Manifest, splits: str) -> dict[str, Any]:
    """Score the rows of one split, or of several joined by `+`, at the images' own size.

    Joined splits are scored as one set, from the counts of all their images, not as a mean of scores. Returns: an entry
    of evaluation.json.
    """
    rows = tuple(row for split in splits.split("+") for row in manifest.split(split).rows)
    pairs = _pairs(predict, replace(manifest, rows=rows))
    return score_predictions(pairs, manifest.classes, manifest.mask_classes, dataset=manifest.name).to_dict()


def _pairs(predict: Predict, manifest: Manifest) -> Iterator[tuple[Sample, Prediction]]:
    for row in manifest.rows:
        sample = read_sample(manifest, row)
        yield sample, predict(sample)
