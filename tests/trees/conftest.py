"""Features of four classes that lie apart, and trees that have learnt them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mnsa.trees.boosted_trees import LabeledFeatures, TuningResult, tune_trees

CLASSES, FEATURES = 4, 12


@pytest.fixture(scope="package")
def draw() -> Callable[..., LabeledFeatures]:
    """Examples of the four classes: each lifts three features of its own; `labels` chooses which classes occur."""

    def make(seed: int, each: Any = 15, labels: tuple[int, int, int] | range = range(CLASSES)) -> LabeledFeatures:
        names = np.repeat(list(labels), each)
        features = np.random.default_rng(seed).normal(size=(len(names), FEATURES)).astype(np.float32)
        for feature in range(3):
            features[np.arange(len(names)), names * 3 + feature] += 2
        return LabeledFeatures(features, names)

    return make


@pytest.fixture(scope="package")
def tuned(draw: Callable[..., LabeledFeatures]) -> TuningResult:
    """Trees that three trials have found."""
    return tune_trees(draw(1), draw(2, each=8), CLASSES, trials=3, seed=1, threads=1)
