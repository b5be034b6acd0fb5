"""`mnsa probe`: linear classifiers on frozen features, the baseline that a trained network has to beat.

B batch; N images; C_4, C_5 channels of levels 4 and 5; K classes.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mnsa.batch.batching import local_device
from mnsa.config import Config, DataConfig, ModelConfig
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.transforms import Transform, eval_transform
from mnsa.data.validation.validate import require_valid
from mnsa.errors import ConfigError, DataError
from mnsa.metrics.scores import Evaluation, Score
from mnsa.metrics.scoring import score_predictions
from mnsa.model.network import STRIDE_PX, Network, build_network
from mnsa.model_folder import load_network
from mnsa.structures import Prediction, Sample
from mnsa.training.linear_probe import (
    LabeledFeatures,
    LinearClassifier,
    compute_features,
    cross_entropy,
    fit_nearest_mean,
    tune_logistic_regression,
)

ProbeHead = Literal["logistic regression", "nearest class mean"]
Progress = Callable[[int, int, int], None]
Size = tuple[int, int]

DEFAULT_SIZES: tuple[Size, ...] = ((256, 256), (384, 384))
LEVELS: tuple[tuple[int, ...], ...] = ((4,), (5,), (4, 5))
_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One classifier. levels: of the backbone. size: of the network's input, (h, w). l2: penalty, or None.

    validation: its accuracy on the validation rows, with interval. log_loss: there; None for the nearest class mean,
    whose scores are no logits. fit_s: seconds to fit it, with all strengths.
    """

    head: ProbeHead
    levels: tuple[int, ...]
    size: Size
    l2: float | None
    validation: Score
    log_loss: float | None
    fit_s: float


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """All classifiers on one data set. backbone: a timm model; weights: where they came from. images: per split.

    unseen_classes: those without a training image, which no row predicts. best: the row with the best validation
    accuracy. test: scores of `best` on the test rows, if they were asked for. seconds: in all.
    """

    dataset: str
    backbone: str
    weights: str
    images: dict[str, int]
    unseen_classes: tuple[str, ...]
    rows: tuple[ProbeRow, ...]
    best: ProbeRow
    test: Evaluation | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "dataset": self.dataset,
            "backbone": self.backbone,
            "weights": self.weights,
            "images": self.images,
            "unseen_classes": list(self.unseen_classes),
            "rows": [_row_values(row) for row in self.rows],
            "best": _row_values(self.best),
            "test": self.test and self.test.to_dict(),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: ProbeRow
    classifier: LinearClassifier


def probe_dataset(
    dataset: Path, *, config: Config | None = None, run: Path | None = None, sizes: Sequence[Size] = (),
    split: Literal["val", "test"] = "val", progress: Progress | None = None,
) -> ProbeResult:  # fmt: skip
    """Fit linear classifiers to the features of a frozen backbone, on the labeled training rows of a data set.

    Features are the means over the maps of level 4, level 5 or both, of the resized image without augmentation.
    Validation chooses the penalty of each logistic regression, and the best row. Test rows are opened for
    `split="test"` only, and only the best row is scored on them.

    config: the backbone and its pretrained weights; None: the `small` preset. run: take the backbone of this run in
    place of pretrained weights. sizes: (height, width) of the inputs; empty: two thirds and the whole of the config's
    or the run's, 256 and 384 px without both. progress: called with (finished, all, finished) images.
    Raises: ConfigError, DataError, ModelError, RunError.
    """
    start = time.perf_counter()
    manifest = read_manifest(dataset)
    names = ("train", "val", "test") if split == "test" else ("train", "val")
    parts = {name: _labeled_rows(manifest, name) for name in names}
    network, backbone, weights, own_size = _open_network(config, run)
    sizes = tuple(sizes) or (DEFAULT_SIZES if own_size is None else (_two_thirds(own_size), own_size))
    transforms = {size: _transform(size, network) for size in sizes}
    for rows in parts.values():
        require_valid(rows)
    network.to(device := local_device())

    def extract(name: str, sizes: Sequence[Size]) -> list[LabeledFeatures]:
        counts = [len(parts[one].rows) for one in names]
        before, total = sum(counts[: names.index(name)]), sum(counts)
        return compute_features(
            parts[name], [transforms[size] for size in sizes], lambda images: pool_levels(network, images),
            batch_size=_BATCH_SIZE, device=device,
            progress=progress and (lambda done: progress(before + done, total, before + done)),
        )  # fmt: skip

    train, val = extract("train", sizes), extract("val", sizes)
    level4_channels = network.backbone.channels[3]
    candidates = [
        candidate
        for size, train_features, val_features in zip(sizes, train, val, strict=True)
        for levels in LEVELS
        for candidate in _fit(
            parts["val"], size, levels,
            *(_of_levels(features, levels, level4_channels) for features in (train_features, val_features)),
        )
    ]  # fmt: skip
    best = max(candidates, key=_rank)
    test = None
    if split == "test":
        features = _of_levels(extract("test", [best.row.size])[0], best.row.levels, level4_channels)
        test = _score(parts["test"], features, best.classifier)
    seen = set(train[0].labels.tolist())
    return ProbeResult(
        dataset=manifest.name, backbone=backbone, weights=weights,
        images={name: len(rows.rows) for name, rows in parts.items()},
        unseen_classes=tuple(name for index, name in enumerate(manifest.classes) if index not in seen),
        rows=tuple(candidate.row for candidate in candidates), best=best.row, test=test,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def pool_levels(network: Network, images: Tensor) -> Tensor:
    """The mean of each channel of levels 4 and 5 of normalized images (B, 3, h, w): (B, C_4 + C_5).

    As in the class head, level 5 of DenseNet passes its last ReLU first.
    """
    pyramid = network.features(images)
    level5 = pyramid.level5.relu() if network.backbone.family == "densenet" else pyramid.level5
    return torch.cat([pyramid.level4.mean((2, 3)), level5.mean((2, 3))], dim=1)


def _open_network(config: Config | None, run: Path | None) -> tuple[Network, str, str, Size | None]:
    """Return the network in eval mode, the name of its backbone, the source of its weights, and its input size."""
    if config is not None and run is not None:
        raise ConfigError("A run has its own config. Give a config or a run, not both.")
    if run is not None:
        network, spec = load_network(run)
        return network, spec.model.backbone, str(run), spec.data.size
    model = ModelConfig() if config is None else config.model
    with torch.random.fork_rng(devices=[]):  # `pretrained = "none"`: random weights, the same ones every time
        torch.manual_seed(0 if config is None else config.train.seed)
        network = build_network(model, classes=1, mask_classes=0).eval()
    return network, model.backbone, model.pretrained, None if config is None else config.data.size


def _labeled_rows(manifest: Manifest, split: str) -> Manifest:
    """Return the labeled rows of a split, without their masks, which are not needed."""
    rows = tuple(replace(row, mask="") for row in manifest.rows if row.split == split and row.label)
    if not rows:
        raise DataError(
            f"{manifest.name} has no labeled row with split `{split}`. Split it again: "
            "mnsa split DATA --val-fraction 0.2 --test-fraction 0.2 --out NEW."
        )
    if split == "train" and len({row.label for row in rows}) == 1:
        raise DataError(f"{manifest.name}: every training row is {rows[0].label}. A probe needs two classes or more.")
    return replace(manifest, rows=rows, mask_classes=())


def _transform(size: Size, network: Network) -> Transform:
    try:
        data = DataConfig(size=size)
    except ValueError:
        raise ConfigError(f"An input of {size[0]} x {size[1]} px: both sides must have 32 to 20000 pixels.") from None
    return eval_transform(data, network.backbone.mean, network.backbone.std)


def _two_thirds(size: Size) -> Size:
    """Two thirds of an input size, rounded to whole cells of level 5."""
    height, width = (max(STRIDE_PX, round(side * 2 / 3 / STRIDE_PX) * STRIDE_PX) for side in size)
    return height, width


def _of_levels(data: LabeledFeatures, levels: tuple[int, ...], level4_channels: int) -> LabeledFeatures:
    columns = {4: data.features[:, :level4_channels], 5: data.features[:, level4_channels:]}
    return data._replace(features=torch.cat([columns[level] for level in levels], dim=1))


def _fit(
    val_rows: Manifest, size: Size, levels: tuple[int, ...], train: LabeledFeatures, val: LabeledFeatures
) -> list[_Candidate]:
    """Fit each head on these features, and score it on validation."""
    classes = len(val_rows.classes)
    fits: dict[ProbeHead, Callable[[], LinearClassifier]] = {
        "logistic regression": lambda: tune_logistic_regression(train, val, classes),
        "nearest class mean": lambda: fit_nearest_mean(train, classes),
    }
    candidates = []
    for head, fit in fits.items():
        start = time.perf_counter()
        classifier = fit()
        seconds = time.perf_counter() - start
        validation = _score(val_rows, val, classifier).score("accuracy")
        log_loss = None if classifier.l2 is None else cross_entropy(classifier, val)
        row = ProbeRow(head, levels, size, classifier.l2, validation, log_loss, seconds)
        candidates.append(_Candidate(row, classifier))
    return candidates


def _rank(candidate: _Candidate) -> tuple[float, float]:
    """The larger, the better: accuracy; of equal ones the log-loss, where there is one."""
    log_loss = candidate.row.log_loss
    return candidate.row.validation.value or 0.0, -math.inf if log_loss is None else -log_loss


def _score(rows: Manifest, data: LabeledFeatures, classifier: LinearClassifier) -> Evaluation:
    probs = classifier(data.features).softmax(1).numpy()
    pairs = (
        (Sample(row.image, torch.empty(0), None, label, row.group or None), Prediction(row.image, one, None, None))
        for row, label, one in zip(rows.rows, data.labels.tolist(), probs, strict=True)
    )
    return score_predictions(pairs, rows.classes, (), dataset=rows.name)


def _row_values(row: ProbeRow) -> dict[str, Any]:
    return {
        "head": row.head,
        "levels": list(row.levels),
        "size": list(row.size),
        "l2": row.l2,
        "validation": row.validation.to_dict(),
        "log_loss": row.log_loss,
        "fit_s": row.fit_s,
    }
