"""Logistic regression is the minimum that SciPy finds, and both classifiers learn what is linearly separable."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from miniature_datasets import write_image
from mnsa.config import DataConfig
from mnsa.data.manifest import Manifest
from mnsa.data.rows import Row
from mnsa.data.transforms import eval_transform
from mnsa.training import linear_probe
from mnsa.training.linear_probe import (
    LabeledFeatures,
    compute_features,
    fit_logistic_regression,
    fit_nearest_mean,
    tune_logistic_regression,
)


def draw(images: int, seed: int, *, noise: float = 1.0) -> LabeledFeatures:
    """Three classes around three points in four dimensions with different scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 3
    centers = torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]], dtype=torch.float64)
    features = centers[labels] + noise * torch.randn(images, 4, generator=generator, dtype=torch.float64)
    return LabeledFeatures(features * torch.tensor([1, 100, 0.01, 1]) + 5, labels)


@pytest.mark.parametrize("l2", [0.3, 0.003])
def test_the_solution_is_the_minimum_that_scipy_finds(l2: float) -> None:
    data = draw(30, seed=1)
    x, y = data.features.numpy(), data.labels.numpy()
    standardized = (x - x.mean(0)) / x.std(0)

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:12].reshape(3, 4), flat[12:]
        log_probs = log_softmax(standardized @ weight.T + bias, axis=1)
        return float(-log_probs[np.arange(30), y].mean() + l2 / 2 * (weight**2).sum())

    found = minimize(objective, np.zeros(15), tol=1e-12).x
    expected = log_softmax(standardized @ found[:12].reshape(3, 4).T + found[12:], axis=1)
    *_, ours = fit_logistic_regression(data, 3, (1.0, l2))
    np.testing.assert_allclose(ours(data.features).log_softmax(1).numpy(), expected, atol=1e-4)
    assert ours.l2 == l2


def test_both_classifiers_separate_classes_that_are_far_apart() -> None:
    train, val = draw(30, seed=1, noise=0.1), draw(30, seed=2, noise=0.1)
    for classifier in (tune_logistic_regression(train, val, 3), fit_nearest_mean(train, 3)):
        assert linear_probe.accuracy(classifier, val) == 1


def test_the_nearest_mean_has_the_largest_cosine() -> None:
    data, wild = draw(60, seed=1), draw(60, seed=2, noise=5)
    features = torch.where((data.labels == 0)[:, None], wild.features, data.features)  # a class with a short mean
    data = data._replace(features=features)
    x = data.features.numpy()
    z = (x - x.mean(0)) / x.std(0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    means = np.stack([z[data.labels == index].mean(0) for index in range(3)])
    cosines = z @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    assert fit_nearest_mean(data, 3)(data.features).argmax(1).tolist() == cosines.argmax(1).tolist()


def test_validation_chooses_the_strength() -> None:
    train, val = draw(9, seed=3, noise=2), draw(60, seed=4, noise=2)
    chosen = tune_logistic_regression(train, val, 3)
    scores = [linear_probe.accuracy(one, val) for one in fit_logistic_regression(train, 3)]
    assert linear_probe.accuracy(chosen, val) == max(scores) > min(scores)


def test_a_class_without_training_images_is_never_predicted() -> None:
    data = draw(30, seed=1)
    two = LabeledFeatures(data.features[data.labels != 1], data.labels[data.labels != 1])
    for classifier in (tune_logistic_regression(two, data, 4), fit_nearest_mean(two, 4)):
        assert classifier(data.features).shape == (30, 4)
        assert set(classifier(data.features).argmax(1).tolist()) == {0, 2}
        assert np.isfinite(linear_probe.cross_entropy(classifier, data))


def test_a_constant_feature_changes_nothing() -> None:
    data = draw(12, seed=1)
    wider = data._replace(features=torch.cat([data.features, torch.full((12, 1), 7.0)], dim=1))
    (plain,), (wide,) = (fit_logistic_regression(one, 3, (0.01,)) for one in (data, wider))
    torch.testing.assert_close(plain(data.features), wide(wider.features), atol=1e-4, rtol=1e-4)


def test_features_are_those_of_each_labeled_image_at_each_size(tmp_path: Path) -> None:
    rows = [Row(f"{n}.png", "", label, "train", "", None) for n, label in enumerate(("a", "", "b"))]
    for n, row in enumerate(rows):
        write_image(tmp_path / row.image, value=50 * n)
    manifest = Manifest("three", tmp_path, ("a", "b"), (), tuple(rows))
    transforms = [eval_transform(DataConfig(size=(32, side)), (0.0,) * 3, (1.0,) * 3) for side in (32, 96)]
    seen: list[int] = []

    def pool(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images.mean((1, 2, 3)), torch.full((len(images),), float(images.shape[-1]))], dim=1)

    small, large = compute_features(
        manifest, transforms, pool, batch_size=1, device=torch.device("cpu"), progress=seen.append
    )
    assert small.labels.tolist() == [0, 1]
    torch.testing.assert_close(small.features, torch.tensor([[0, 32.0], [100 / 255, 32]], dtype=torch.float64))
    assert large.features[:, 1].tolist() == [96, 96]
    assert seen == [1, 2]
