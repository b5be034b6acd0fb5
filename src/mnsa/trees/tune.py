"""Tune boosted trees on validation: Optuna suggests parameters, XGBoost fits them.

N labeled images; C_5 channels of level 5; K classes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnsa.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Trial
    from xgboost import Booster, DMatrix


MAX_ROUNDS = 300

MAX_TREES = 20_000  # a round adds a tree per class: this limits the time of a fit with many classes

PATIENCE = 20  # rounds without a better validation log-loss


class LabeledFeatures(NamedTuple):
    """Data to fit on: features float32 (N, C_5), labels int64 (N,) in 0..K-1."""

    features: np.ndarray
    labels: np.ndarray


class TuningResult(NamedTuple):
    """The best fit and its parameters. log_loss: on validation, in nats."""

    booster: "Booster"
    parameters: dict[str, float]
    log_loss: float


def max_rounds(classes: int) -> int:
    """Return the most boosting rounds of a fit: 300, or what 20,000 trees allow (18 for 1,110 classes), at least 10."""
    return max(10, min(MAX_ROUNDS, MAX_TREES // classes))


def tune_trees(
    train: LabeledFeatures, val: LabeledFeatures, classes: int, *,
    trials: int, seed: int, threads: int, progress: Callable[[int, float], None] | None = None,
) -> TuningResult:  # fmt: skip
    """Fit `trials` sets of parameters on `train` and return the fit with the lowest log-loss on `val`.

    Log-loss is used instead of accuracy, because accuracy on a few dozen images moves in steps: most trials would tie.
    It also stops each fit early. Validation chooses parameters and rounds, so the returned log-loss is optimistic;
    judge the trees on other data. A class without a training image keeps a probability near 0.
    progress: called with (number of the trial, its log-loss).
    The same seed, data and number of threads give the same trees. Source: Bergstra et al. 2011, Algorithms for
    Hyper-Parameter Optimization, section 4 (the sampler). Raises: ConfigError for less than one trial.
    """
    import optuna
    from xgboost import DMatrix

    if trials < 1:
        raise ConfigError(f"trials is {trials}; expected 1 or more.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    train_data, val_data = (DMatrix(given.features, given.labels, nthread=threads) for given in (train, val))
    settings = {"num_class": classes, "seed": seed, "nthread": threads}

    def attempt(number: int) -> TuningResult:
        trial = study.ask()
        tuned = _fit_trees(_suggest_parameters(trial), settings, train_data, val_data)
        study.tell(trial, tuned.log_loss)
        if progress is not None:
            progress(number, tuned.log_loss)
        return tuned

    return min(map(attempt, range(1, trials + 1)), key=lambda tuned: tuned.log_loss)


def _suggest_parameters(trial: "Trial") -> dict[str, float]:
    """Suggest a point of the search space.

    min_child_weight is a sum of p (1 - p). An image weighs about 1/K at the start, so with XGBoost's default of 1 the
    trees of 200 classes could never separate one class.
    """
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.5, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 5),
        "min_child_weight": trial.suggest_float("min_child_weight", 1e-4, 1.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-2, 10.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.05, 0.5, log=True),
    }


def _fit_trees(
    parameters: dict[str, float], settings: dict[str, int], train_data: "DMatrix", val_data: "DMatrix"
) -> TuningResult:
    import xgboost

    fixed: dict[str, Any] = {
        "objective": "multi:softprob",
        "eval_metric": "mlogloss",
        "tree_method": "hist",
        "max_bin": 16,  # thresholds per feature: enough for a few images per class; more cost time
    }
    booster = xgboost.train(
        parameters | fixed | settings, train_data, max_rounds(settings["num_class"]),
        evals=[(val_data, "val")], early_stopping_rounds=PATIENCE, verbose_eval=False,
    )  # fmt: skip
    return TuningResult(booster[: booster.best_iteration + 1], parameters, booster.best_score)
