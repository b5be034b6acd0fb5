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
    """Answers as the linear map does: what the class head has pooled in, class_logits out.

    The trees' margins are logits: their softmax is XGBoost's `multi:softprob`. No gradient passes through.
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
    """Do nothing when the extra `trees` is installed. Raises: ModelError naming what is missing."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise ModelError(f"Boosted trees need {' and '.join(missing)}, not installed here: pip install 'mnsa[trees]'.")


def library_versions() -> dict[str, str]:
    """What grew the trees. XGBoost's distribution has several names, so its module is asked."""
    return {"mnsa": package_version("mnsa"), **{name: str(import_module(name).__version__) for name in _LIBRARIES}}


@dataclass(frozen=True, slots=True)
class TreesSpec:
    """What is known of trees beside themselves.

    features: C_5, what the network's class head pools. images: labelled ones per split. unseen_classes: without a
    training image. validation: by head (`network`, `trees`) accuracy and log_loss in nats. sha256: of model.ubj.
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
        """The text of trees.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, tree: Any) -> "TreesSpec":
        """Read it back. Raises: ValueError, KeyError or TypeError when `tree` is no trees.json's."""
        return cls(**{**tree, "classes": tuple(tree["classes"]), "unseen_classes": tuple(tree["unseen_classes"])})


def save_trees(folder: Path, booster: "Booster", spec: TreesSpec) -> TreesSpec:
    """Write trees and spec into `folder`. Returns: the spec, with the digest."""
    model = folder / "model.ubj"
    booster.save_model(model)
    spec = replace(spec, sha256=sha256_file(model))
    (folder / "trees.json").write_text(spec.to_json(), encoding="utf-8")
    return spec


def load_trees(run: Path, classes: tuple[str, ...], features: int, *, threads: int) -> BoostedTrees:
    """The trees of a run, for a network of these classes that pools so many features.

    Raises: RunError when there are none, or when they are damaged or another network's; ModelError without the extra.
    """
    folder = run / "trees"
    if not folder.is_dir():
        raise RunError(f"{run} has no trees. Grow some: mnsa fit-trees {run}")
    require_trees_extra()
    again = f"Remove it and grow new trees: mnsa fit-trees {run}"
    try:
        spec = TreesSpec.from_dict(read_json(folder / "trees.json"))
        trees = BoostedTrees(_read_booster(folder / "model.ubj", spec.sha256, threads))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is damaged: {error}. {again}") from None
    if (spec.classes, spec.features) != (classes, features):
        raise RunError(f"{folder} belongs to another network: its classes or features differ. {again}")
    return trees


def _read_booster(path: Path, sha256: str, threads: int) -> "Booster":
    if sha256_file(path) != sha256:  # checked first: XGBoost's parser may abort the process over a damaged file
        raise ValueError(f"{path.name} is not the file that trees.json describes")
    from xgboost import Booster

    return Booster({"nthread": threads}, model_file=path)
