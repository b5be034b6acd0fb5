"""Veins of photos that a network was not trained for, compared with drawn masks, at one or more scales.

Questions: how many veins of real leaves does a network find, and does `--scale auto` choose the best scale?
Command: `python benchmarks/veins.py RUN --data PATH_TO/tomato_veins --scale auto --scale 1 --scale 0.5`; RUN may be
`veins`. The folder has images/NAME.jpg and masks/NAME.png. No network is trained on its leaves.
Expect: two tables. Means per scale, with the best of the given factors for each leaf as the last row, which only the
truth knows; then the leaves at the first scale. Recall and precision are of centerlines, within 3 px. Masks of main
veins alone have a ceiling of precision below 1: finer veins that the network finds count as false.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnsa.data.decode import read_mask_indices
from mnsa.inference.predictor import load
from mnsa.metrics.topology import measure_topology

TOLERANCE_PX = 3.0
SCORES = ("recall", "precision", "IoU", "clDice")


class LeafScores(NamedTuple):
    """The scores of one leaf at one scale."""

    name: str
    scores: tuple[float, ...]  # in the order of SCORES
    scale: float
    confidence: float
    warning: str
    seconds: float


def main() -> None:
    """Predict every leaf at every scale, and print the tables."""
    options = _options()
    results = {scale: evaluate(options.run, options.data, scale) for scale in options.scale or ["auto"]}
    print(markdown(results))


def evaluate(run: str, data: Path, scale: str) -> list[LeafScores]:
    """Score the leaves of a folder at a scale, `auto` or a factor."""
    predictor = load(run, scale="auto" if scale == "auto" else float(scale))
    leaves = []
    for path in sorted((data / "images").iterdir()):
        start = time.perf_counter()
        prediction = predictor.predict(path)
        seconds = time.perf_counter() - start
        truth = read_mask_indices(data / "masks" / f"{path.stem}.png", 1) == 1
        assert prediction.mask is not None
        assert prediction.scale is not None
        assert prediction.confidence is not None
        scores = score(prediction.mask == 1, truth)
        leaves.append(
            LeafScores(path.stem, scores, prediction.scale, prediction.confidence, prediction.warning, seconds)
        )
    return leaves


def score(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """The SCORES of a mask, bool (H, W)."""
    found = measure_topology(predicted, truth, TOLERANCE_PX)
    recall = found.centerline_true_hit / found.centerline_true
    precision = found.centerline_predicted_hit / found.centerline_predicted if predicted.any() else 0.0
    iou = np.count_nonzero(predicted & truth) / np.count_nonzero(predicted | truth)
    return recall, precision, iou, found.cldice


def markdown(results: Mapping[str, Sequence[LeafScores]]) -> str:
    """Two tables: means per scale, and the leaves at the first scale."""
    rows = [[scale, *_means(leaves), _mean(leaf.seconds for leaf in leaves)] for scale, leaves in results.items()]
    factors = [leaves for scale, leaves in results.items() if scale != "auto"]
    if len(factors) > 1:
        best = [max(leaf, key=lambda one: one.scores[SCORES.index("IoU")]) for leaf in zip(*factors, strict=True)]
        rows.append(["best IoU", *_means(best), float("nan")])
    first = next(iter(results.values()))
    leaves = [[leaf.name, *leaf.scores, leaf.scale, leaf.confidence, leaf.warning] for leaf in first]
    return "\n\n".join(
        [
            _table(["scale", *SCORES, "confidence", "s"], rows),
            _table(["leaf", *SCORES, "scale", "confidence", "warning"], leaves),
        ]
    )


def _means(leaves: Sequence[LeafScores]) -> list[float]:
    return [*np.mean([leaf.scores for leaf in leaves], axis=0), _mean(leaf.confidence for leaf in leaves)]


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    texts = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *texts])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder, or `veins`")
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and masks/")
    parser.add_argument("--scale", action="append", help="auto, or a factor; repeat it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
