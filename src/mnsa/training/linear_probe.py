"""Linear classifiers on pooled features: logistic regression and nearest class mean. `mnsa probe`, and warm starts.

N images; C features; K classes. Everything is float64: the problems are small, and ill-conditioned in float32.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.decode import read_image
from mnsa.data.manifest import Manifest, Row
from mnsa.data.transforms import Transform
from mnsa.model.network import pad_to_stride

# Weights of the penalty, half a decade apart, strongest first: each solution is the start of the next one.
L2_GRID = tuple(10 ** (exponent / 2) for exponent in range(2, -11, -1))

_UNSEEN_LOGIT = -1e3  # of a class without a training image: never predicted, and finite
_MAX_ITERATIONS = 300
_READERS = 4  # threads that decode images


@dataclass(frozen=True, slots=True)
class LinearClassifier:
    """Class logits of features: weight (K, C) and bias (K,), float64. l2: strength of the penalty, if there is one."""

    weight: Tensor
    bias: Tensor
    l2: float | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, C) -> class_logits (N, K), float64."""
        return features.double() @ self.weight.T + self.bias


class LabeledFeatures(NamedTuple):
    """Features (N, C) and labels (N,), int64, all of them known."""

    features: Tensor
    labels: Tensor


def compute_features(
    manifest: Manifest, transforms: Sequence[Transform], pool: Callable[[Tensor], Tensor], *,
    batch_size: int, device: torch.device, progress: Callable[[int], None] | None = None,
) -> list[LabeledFeatures]:  # fmt: skip
    """Compute the pooled features of every labeled image of a manifest, once per transform: (N, C), float64.

    Each image is read once. transforms: without random steps. pool: normalized images (B, 3, h, w), sides multiples of
    32, on `device` -> (B, C). batch_size: 1 when a transform gives images of different sizes. progress: called with the
    number of finished images. Raises: DataError when an image can't be read.
    """
    rows = [row for row in manifest.rows if row.label]
    found: list[list[Tensor]] = [[] for _ in transforms]

    def read(row: Row) -> list[Tensor]:
        image = read_image(manifest.image_path(row))
        return [transform(image)[0] for transform in transforms]

    with ThreadPoolExecutor(_READERS) as readers, torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            for features, images in zip(found, zip(*readers.map(read, batch), strict=True), strict=True):
                inputs = pad_to_stride(torch.stack(images)).contiguous(memory_format=torch.channels_last)
                features.append(pool(inputs.to(device)).double().cpu())
            if progress:
                progress(start + len(batch))
    labels = torch.tensor([manifest.label_index(row) for row in rows])
    return [LabeledFeatures(torch.cat(features), labels) for features in found]


def fit_logistic_regression(
    train: LabeledFeatures, classes: int, strengths: Sequence[float] = L2_GRID
) -> Iterator[LinearClassifier]:
    """Yield the multinomial logistic regression of each strength: a classifier of the features as they are.

    It minimizes mean cross-entropy + strength / 2 * |W|^2, W being the weights of the standardized features, by L-BFGS.
    The bias has no penalty. In scikit-learn's terms, strength = 1 / (C * N). strengths: in descending order, because
    each solution is the start of the next. A class without a training image is never predicted.
    Source: Liu and Nocedal 1989, On the limited memory BFGS method for large scale optimization.
    """
    mean, std = _moments(train.features)
    inputs = (train.features - mean) / std
    seen, targets = train.labels.unique(return_inverse=True)
    weight = inputs.new_zeros(len(seen), inputs.shape[1]).requires_grad_()
    bias = inputs.new_zeros(len(seen)).requires_grad_()
    for l2 in strengths:
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=_MAX_ITERATIONS, max_eval=2 * _MAX_ITERATIONS, tolerance_grad=1e-7,
            tolerance_change=1e-12, history_size=20, line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(optimizer: torch.optim.LBFGS = optimizer, l2: float = l2) -> float:
            optimizer.zero_grad()
            loss = F.cross_entropy(inputs @ weight.T + bias, targets) + l2 / 2 * weight.square().sum()
            loss.backward()
            return loss.item()

        optimizer.step(closure)
        yield _embed(weight.detach() / std, bias.detach() - (weight.detach() / std) @ mean, seen, classes, l2)


def tune_logistic_regression(train: LabeledFeatures, val: LabeledFeatures, classes: int) -> LinearClassifier:
    """Fit logistic regressions of all strengths on `train`; return the one with the best accuracy on `val`.

    Of equal ones the one with the lowest cross-entropy, then the strongest penalty.
    """
    fitted = list(fit_logistic_regression(train, classes))
    return min(fitted, key=lambda one: (-accuracy(one, val), cross_entropy(one, val)))


def fit_nearest_mean(train: LabeledFeatures, classes: int) -> LinearClassifier:
    """The class whose mean has the largest cosine to the standardized features, up to a factor per image.

    Source: Wang et al. 2019, SimpleShot, section 3 (centering, cosine); here features are scaled, too, because they
    come from several levels.
    """
    mean, std = _moments(train.features)
    seen, targets = train.labels.unique(return_inverse=True)
    directions = F.normalize((train.features - mean) / std)
    means = torch.stack([directions[targets == index].mean(0) for index in range(len(seen))])
    weight = F.normalize(means) / std
    return _embed(weight, -weight @ mean, seen, classes, None)


def accuracy(classifier: LinearClassifier, data: LabeledFeatures) -> float:
    """Fraction of images whose most probable class is the true one."""
    return float((classifier(data.features).argmax(1) == data.labels).double().mean())


def cross_entropy(classifier: LinearClassifier, data: LabeledFeatures) -> float:
    """Mean cross-entropy, in nats."""
    return float(F.cross_entropy(classifier(data.features), data.labels))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, (C,); 1 in place of 0 for a constant one."""
    std, mean = torch.std_mean(features, dim=0, correction=0)
    return mean, torch.where(std > 1e-8 * mean.abs(), std, 1.0)


def _embed(weight: Tensor, bias: Tensor, seen: Tensor, classes: int, l2: float | None) -> LinearClassifier:
    """Make a classifier of K classes of one of the `seen` ones."""
    all_weights = weight.new_zeros(classes, weight.shape[1])
    all_biases = bias.new_full((classes,), _UNSEEN_LOGIT)
    all_weights[seen], all_biases[seen] = weight, bias
    return LinearClassifier(all_weights, all_biases, l2)
