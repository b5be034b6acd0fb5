"""Boosted trees as the classifier of the class head: their tuning on validation, and their files. None is a pickle.

trees/model.ubj     the trees, in XGBoost's own format
trees/trees.json    the spec: training parameters, validation scores, and the digest of model.ubj

B batch; N labeled images; C_5 channels of level 5; K classes.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mnsa.errors import ConfigError, ModelError, RunError, install_command
from mnsa.io import read_json, sha256_file
from mnsa.run_folder import package_version

if TYPE_CHECKING:
    from optuna import Trial
    from xgboost import Booster, DMatrix


_LIBRARIES = ("xgboost", "optuna")

MAX_ROUNDS = 300

MAX_TREES = 20_000  # a round adds a tree per class: this limits the time of a fit with many classes

PATIENCE = 20  # rounds without a better validation log-loss


class BoostedTrees(nn.Module):
    """A replacement for the linear layer of the class head: pooled features in, class_logits out.

    The margins of the trees are logits: their softmax equals XGBoost's `multi:softprob`. There is no gradient.
    Source: Chen and Guestrin 2016, XGBoost, section 2.
    """

    def __init__(self, booster: "Booster") -> None:
        super().__init__()
        self.booster = booster

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (B, C_5) -> class_logits (B, K), float32."""
        features = pooled.detach().float().cpu().numpy()
        class_logits = torch.from_numpy(self.booster.inplace_predict(features, predict_type="margin"))
        return class_logits.to(pooled.device)


def require_trees_extra() -> None:
    """Check that the extra `trees` is installed. Raises: ModelError with the missing packages."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise ModelError(f"Boosted trees need {' and '.join(missing)}, not installed here: {install_command('trees')}.")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries. XGBoost has several distributions, so its module gives the version."""
    return {"mnsa": package_version("mnsa"), **{name: str(import_module(name).__version__) for name in _LIBRARIES}}


@dataclass(frozen=True, slots=True)
class TreesSpec:
    """How the trees were fitted, and which network they belong to.

    features: C_5, the length of the pooled features. images: number of labeled images per split. unseen_classes:
    classes without a training image. validation: accuracy and log_loss (nats) of each head (`network`, `trees`).
    sha256: digest of model.ubj.
    """

    classes: tuple[str, ...]
    features: int
    dataset: str
    dataset_digest: str
    images: dict[str, int]
    unseen_classes: tuple[str, ...]
    seed: int
    trials: int
    parameters: dict[str, float]
    rounds: int
    validation: dict[str, dict[str, float]]
    versions: dict[str, str]
    sha256: str = ""

    def to_json(self) -> str:
        """Return the text of trees.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, tree: Any) -> "TreesSpec":
        """Build the spec from parsed JSON.

        Raises: ValueError, KeyError or TypeError when it is not from a trees.json.
        """
        return cls(**{**tree, "classes": tuple(tree["classes"]), "unseen_classes": tuple(tree["unseen_classes"])})


def save_trees(folder: Path, booster: "Booster", spec: TreesSpec) -> TreesSpec:
    """Write the trees and their spec into `folder`. Returns: the spec, with the digest."""
    model = folder / "model.ubj"
    booster.save_model(model)
    spec = replace(spec, sha256=sha256_file(model))
    (folder / "trees.json").write_text(spec.to_json(), encoding="utf-8")
    return spec


def load_trees(run: Path, classes: tuple[str, ...], features: int, *, threads: int) -> BoostedTrees:
    """Load the trees of a run, for a network with these classes and C_5 = `features`.

    threads: number of threads per prediction. Raises: RunError when there are no trees, when they are damaged, or when
    they belong to another network; ModelError without the extra `trees`.
    """
    folder = run / "trees"
    if not folder.is_dir():
        raise RunError(f"{run} has no trees. Fit them: mnsa fit-trees {run}")
    require_trees_extra()
    hint = f"Remove it and fit new trees: mnsa fit-trees {run}"
    try:
        spec = TreesSpec.from_dict(read_json(folder / "trees.json"))
        trees = BoostedTrees(_read_booster(folder / "model.ubj", spec.sha256, threads))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is damaged: {error}. {hint}") from None
    if (spec.classes, spec.features) != (classes, features):
        raise RunError(f"{folder} belongs to another network: its classes or features differ. {hint}")
    return trees


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


def _read_booster(path: Path, sha256: str, threads: int) -> "Booster":
    if sha256_file(path) != sha256:  # checked first: XGBoost's parser may abort the process over a damaged file
        raise ValueError(f"{path.name} is not the file that trees.json describes")
    from xgboost import Booster

    return Booster({"nthread": threads}, model_file=path)


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
