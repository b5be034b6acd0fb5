"""Boosted trees answer in logits, as XGBoost itself answers in probabilities."""

import sys

import numpy as np
import pytest
import torch
import xgboost

from mnsa.errors import ModelError
from mnsa.trees.boosted import BoostedTrees, require_extra


def test_the_softmax_of_their_logits_is_xgboosts_own_probability(tuned, draw):
    features = draw(3).features
    class_logits = BoostedTrees(tuned.booster)(torch.from_numpy(features))
    assert (class_logits.shape, class_logits.dtype) == ((60, 4), torch.float32)
    expected = tuned.booster.predict(xgboost.DMatrix(features))
    np.testing.assert_allclose(class_logits.softmax(1).numpy(), expected, atol=1e-6)


def test_an_image_is_answered_alone_as_among_others(tuned, draw):
    trees, features = BoostedTrees(tuned.booster), torch.from_numpy(draw(3).features)
    assert torch.equal(trees(features)[7:8], trees(features[7:8]))


@pytest.mark.parametrize("library", ["xgboost", "optuna"])
def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch, library):
    require_extra()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=rf"need {library}, .*pip install 'mnsa\[trees\]'"):
        require_extra()
