"""Validation chooses the trees; it teaches them nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import xgboost
from xgboost import Booster

from mnsa.errors import ConfigError
from mnsa.trees.tune import MAX_TREES, PATIENCE, LabeledFeatures, TuningResult, max_rounds, tune_trees

FIXED = {"objective": "multi:softprob", "num_class": 4, "tree_method": "hist", "max_bin": 16, "seed": 1, "nthread": 1}


def probabilities(booster: Booster, features: np.ndarray) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(features, nthread=1))


def test_trees_tell_apart_what_lies_apart(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    unseen = draw(3, each=50)
    right = probabilities(tuned.booster, unseen.features).argmax(1) == unseen.labels
    assert right.mean() > 0.75  # chance is 0.25


def test_the_log_loss_is_that_of_the_validation_labels(
    tuned: TuningResult, draw: Callable[..., LabeledFeatures]
) -> None:
    val = draw(2, each=8)
    probs = probabilities(tuned.booster, val.features).astype(float)
    assert tuned.log_loss == pytest.approx(-np.log(probs[np.arange(32), val.labels]).mean(), abs=1e-5)


def test_the_best_trial_is_kept(draw: Callable[..., LabeledFeatures]) -> None:
    said = []
    best = tune_trees(
        draw(1), draw(2), 4, trials=4, seed=2, threads=1, progress=lambda trial, loss: said.append((trial, loss))
    )
    assert [trial for trial, _ in said] == [1, 2, 3, 4]
    assert best.log_loss == min(loss for _, loss in said) < max(loss for _, loss in said)


def test_validation_chooses_and_teaches_nothing(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    """The same parameters and rounds, fitted where no validation data are at hand, give the same trees."""
    train, rounds = draw(1), tuned.booster.num_boosted_rounds()
    alone = xgboost.train(tuned.parameters | FIXED, xgboost.DMatrix(train.features, train.labels, nthread=1), rounds)
    unseen = draw(3).features
    np.testing.assert_array_equal(probabilities(alone, unseen), probabilities(tuned.booster, unseen))


def test_a_fit_ends_when_validation_gets_no_better(draw: Callable[..., LabeledFeatures]) -> None:
    """Labels without meaning: more rounds only learn them by heart."""
    train, val = draw(1), draw(2)
    shuffled = np.random.default_rng(0).permutation(train.labels)
    tuned = tune_trees(train._replace(labels=shuffled), val, 4, trials=1, seed=1, threads=1)
    assert tuned.booster.num_boosted_rounds() < max_rounds(4) - PATIENCE


def test_a_seed_says_it_all(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    again, other = (tune_trees(draw(1), draw(2, each=8), 4, trials=3, seed=seed, threads=1) for seed in (1, 2))
    assert again.booster.save_raw() == tuned.booster.save_raw()
    assert again[1:] == tuned[1:]
    assert other.parameters != tuned.parameters


def test_a_class_without_a_training_image_is_never_answered(draw: Callable[..., LabeledFeatures]) -> None:
    seen = tune_trees(draw(1, labels=(0, 1, 3)), draw(2, labels=(0, 1, 3)), 4, trials=2, seed=1, threads=1)
    probs = probabilities(seen.booster, draw(3).features)
    assert probs.shape == (60, 4)
    assert 2 not in probs.argmax(1)
    assert set(probs.argmax(1)) == {0, 1, 3}


@pytest.mark.parametrize(("classes", "rounds"), [(2, 300), (80, 250), (200, 100), (1110, 18), (1938, 10), (5000, 10)])
def test_many_classes_are_given_fewer_rounds(classes: int, rounds: int) -> None:
    assert max_rounds(classes) == rounds
    assert classes * rounds <= MAX_TREES or rounds == 10


def test_less_than_a_trial_is_refused(draw: Callable[..., LabeledFeatures]) -> None:
    with pytest.raises(ConfigError, match="trials is 0"):
        tune_trees(draw(1), draw(2), 4, trials=0, seed=1, threads=1)
