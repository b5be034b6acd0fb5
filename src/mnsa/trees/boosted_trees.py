"""The trees of a run, on disk. Nothing here is a pickle.

trees/model.ubj     the trees, in XGBoost's own format
trees/trees.json    the card: how they were grown, what validation said, and the digest of model.ubj
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnsa.errors import RunError
from mnsa.text_files import read_json
from mnsa.trees.boosted import BoostedTrees, require_extra

if TYPE_CHECKING:
    from xgboost import Booster


@dataclass(frozen=True, slots=True)
class TreesCard:
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
    def from_tree(cls, tree: Any) -> "TreesCard":
        """Read it back. Raises: ValueError, KeyError or TypeError when `tree` is no trees.json's."""
        return cls(**{**tree, "classes": tuple(tree["classes"]), "unseen_classes": tuple(tree["unseen_classes"])})


def save_trees(folder: Path, booster: "Booster", card: TreesCard) -> TreesCard:
    """Write trees and card into `folder`. Returns: the card, with the digest."""
    model = folder / "model.ubj"
    booster.save_model(model)
    card = replace(card, sha256=_digest(model))
    (folder / "trees.json").write_text(card.to_json(), encoding="utf-8")
    return card


def load_trees(run: Path, classes: tuple[str, ...], features: int, *, threads: int) -> BoostedTrees:
    """The trees of a run, for a network of these classes that pools so many features.

    Raises: RunError when there are none, or when they are damaged or another network's; ModelError without the extra.
    """
    folder = run / "trees"
    if not folder.is_dir():
        raise RunError(f"{run} has no trees. Grow some: mnsa trees {run}")
    require_extra()
    again = f"Remove it and grow new trees: mnsa trees {run}"
    try:
        card = TreesCard.from_tree(read_json(folder / "trees.json"))
        trees = BoostedTrees(_read_booster(folder / "model.ubj", card.sha256, threads))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is damaged: {error}. {again}") from None
    if (card.classes, card.features) != (classes, features):
        raise RunError(f"{folder} belongs to another network: its classes or features differ. {again}")
    return trees


def _read_booster(path: Path, sha256: str, threads: int) -> "Booster":
    if _digest(path) != sha256:  # checked first: XGBoost's parser may abort the process over a damaged file
        raise ValueError(f"{path.name} is not the file that trees.json describes")
    from xgboost import Booster

    return Booster({"nthread": threads}, model_file=path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
