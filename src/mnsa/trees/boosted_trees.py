"""Boosted trees as the classifier of the class head, and their files. No file is a pickle.

trees/model.ubj     the trees, in XGBoost's own format
trees/trees.json    the spec: training parameters, validation scores, and the digest of model.ubj

B batch; C_5 channels of level 5; K classes.
"""

import json
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnsa.errors import ModelError, RunError
from mnsa.io import read_json, sha256_file
from mnsa.run_folder import package_version

if TYPE_CHECKING:
    from xgboost import Booster


_LIBRARIES = ("xgboost", "optuna")


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
        raise ModelError(f"Boosted trees need {' and '.join(missing)}, not installed here: pip install 'mnsa[trees]'.")


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


def _read_booster(path: Path, sha256: str, threads: int) -> "Booster":
    if sha256_file(path) != sha256:  # checked first: XGBoost's parser may abort the process over a damaged file
        raise ValueError(f"{path.name} is not the file that trees.json describes")
    from xgboost import Booster

    return Booster({"nthread": threads}, model_file=path)
