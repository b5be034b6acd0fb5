"""`mnsa fit-trees`: fit boosted trees on the pooled features of a run's network. Test rows are never used.

N labeled images; C_5 channels of level 5; K classes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.decode import read_image
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.validate import require_valid
from mnsa.errors import DataError, ModelError, RunError, output_errors
from mnsa.inference.predictor import Predictor, load
from mnsa.io import new_folder
from mnsa.model.network import NO_CLASS_HEAD, pad_to_stride
from mnsa.run_folder import find_run_dataset, open_run_folder
from mnsa.trees.boosted_trees import (
    BoostedTrees,
    LabeledFeatures,
    TreesSpec,
    TuningResult,
    library_versions,
    require_trees_extra,
    save_trees,
    tune_trees,
)
from mnsa.workflows.evaluate import require_same_classes


class PooledFeatures(NamedTuple):
    """Pooled features (N, C_5) and labels (N,) of a split, with the class_logits (N, K) of the linear layer."""

    features: Tensor
    labels: Tensor
    class_logits: Tensor


def fit_trees(
    path: Path, *, trials: int = 20, seed: int = 1, dataset: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> TreesSpec:  # fmt: skip
    """Fit trees on the training rows, choose their parameters on the validation rows, and save them in RUN/trees.

    Images are preprocessed as in prediction, without augmentation. Rows without a label are left out.
    dataset: another data set than the one of the run. progress: called with (trial, its validation log-loss).
    Returns: the spec of the trees. Raises: RunError, DataError, ModelError; trees/ is then not created.
    """
    run = open_run_folder(path)
    require_trees_extra()
    if run.trees_folder.exists():
        raise RunError(f"{run.trees_folder} exists and was not changed. Remove it to fit new trees.")
    manifest = read_manifest(find_run_dataset(run, dataset))
    predictor = load(path)
    if predictor.network.class_head is None:
        raise ModelError(f"{path}: {NO_CLASS_HEAD}")
    train_rows, val_rows = _labeled_rows(manifest, "train"), _labeled_rows(manifest, "val")
    require_same_classes(predictor, train_rows)
    for rows in (train_rows, val_rows):
        require_valid(rows)
    with output_errors(run.trees_folder, RunError), new_folder(run.trees_folder) as folder:
        train, val = extract_features(predictor, train_rows), extract_features(predictor, val_rows)
        tuned = tune_trees(
            _examples(train), _examples(val), len(manifest.classes),
            trials=trials, seed=seed, threads=torch.get_num_threads(), progress=progress,
        )  # fmt: skip
        return save_trees(folder, tuned.booster, _trees_spec(manifest, train, val, tuned, trials=trials, seed=seed))


def extract_features(predictor: Predictor, manifest: Manifest) -> PooledFeatures:
    """Compute the pooled features of each image of a manifest. Raises: DataError, ModelError."""
    network = predictor.network
    if network.class_head is None:
        raise ModelError(NO_CLASS_HEAD)
    device = next(network.parameters()).device
    features, class_logits = [], []
    for row in manifest.rows:
        image = read_image(manifest.image_path(row))
        with torch.inference_mode():
            if predictor.needs_tiling((image.shape[1], image.shape[2])):
                pooled = predictor.pool_tiles(image)
            else:
                pooled = network.pool(network.features(pad_to_stride(predictor.preprocess(image)[None].to(device))))
            features.append(pooled.cpu())
            class_logits.append(network.class_head.classifier(pooled).cpu())
    labels = torch.tensor([manifest.label_index(row) for row in manifest.rows])
    return PooledFeatures(torch.cat(features), labels, torch.cat(class_logits))


def _labeled_rows(manifest: Manifest, split: str) -> Manifest:
    """Return the labeled rows of a split, without their masks, which trees don't need."""
    rows = tuple(replace(row, mask="") for row in manifest.rows if row.split == split and row.label)
    if not rows:
        raise DataError(f"{manifest.name} has no labeled row with split `{split}`. Name some in manifest.csv.")
    if split == "train" and len({row.label for row in rows}) == 1:
        raise DataError(f"{manifest.name}: every training row is {rows[0].label}. Trees need two classes or more.")
    return replace(manifest, rows=rows, mask_classes=())


def _examples(pooled: PooledFeatures) -> LabeledFeatures:
    return LabeledFeatures(pooled.features.numpy(), pooled.labels.numpy())


def _trees_spec(
    manifest: Manifest, train: PooledFeatures, val: PooledFeatures, tuned: TuningResult, *, trials: int, seed: int
) -> TreesSpec:
    seen = set(train.labels.tolist())
    return TreesSpec(
        classes=manifest.classes,
        features=train.features.shape[1],
        dataset=manifest.name,
        dataset_digest=manifest.digest(),
        images={"train": len(train.labels), "val": len(val.labels)},
        unseen_classes=tuple(name for index, name in enumerate(manifest.classes) if index not in seen),
        seed=seed,
        trials=trials,
        parameters=tuned.parameters,
        rounds=tuned.booster.num_boosted_rounds(),
        validation={
            "network": _scores(val.class_logits, val.labels),
            "trees": _scores(BoostedTrees(tuned.booster)(val.features), val.labels),
        },
        versions=library_versions(),
    )


def _scores(class_logits: Tensor, labels: Tensor) -> dict[str, float]:
    return {
        "accuracy": float((class_logits.argmax(1) == labels).double().mean()),
        "log_loss": float(F.cross_entropy(class_logits.double(), labels)),
    }
