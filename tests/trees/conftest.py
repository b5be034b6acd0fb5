"""Features of four classes that lie apart, and trees that have learnt them."""

import numpy as np
import pytest

from mnsa.trees.tune import LabeledFeatures, tune_trees

CLASSES, FEATURES = 4, 12


@pytest.fixture(scope="package")
def draw():
    """Examples of the four classes: each lifts three features of its own; `labels` chooses which classes occur."""

    def make(seed, each=15, labels=range(CLASSES)):
        names = np.repeat(list(labels), each)
        features = np.random.default_rng(seed).normal(size=(len(names), FEATURES)).astype(np.float32)
        for feature in range(3):
            features[np.arange(len(names)), names * 3 + feature] += 2
        return LabeledFeatures(features, names)

    return make


@pytest.fixture(scope="package")
def tuned(draw):
    """Trees that three trials have found."""
    return tune_trees(draw(1), draw(2, each=8), CLASSES, trials=3, seed=1, threads=1)
