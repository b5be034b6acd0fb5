"""Boosted trees in the place of the class head's linear map.

B batch; C_5 channels of level 5; K classes.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mnsa.errors import ModelError
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


def require_extra() -> None:
    """Do nothing when the extra `trees` is installed. Raises: ModelError naming what is missing."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise ModelError(f"Boosted trees need {' and '.join(missing)}, not installed here: pip install 'mnsa[trees]'.")


def versions() -> dict[str, str]:
    """What grew the trees. XGBoost's distribution has several names, so its module is asked."""
    return {"mnsa": package_version("mnsa"), **{name: str(import_module(name).__version__) for name in _LIBRARIES}}
