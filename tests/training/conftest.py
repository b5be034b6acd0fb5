"""Fixtures of training tests."""

from collections.abc import Callable

import pytest
import torch

from mnsa.metrics.torch_metrics import ValidationScores


@pytest.fixture
def script_scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the validation scores by these, epoch by epoch."""

    def script(*scores: float) -> None:
        next_scores = iter(scores)
        monkeypatch.setattr(ValidationScores, "compute", lambda self: {"score": torch.tensor(next(next_scores))})

    return script
