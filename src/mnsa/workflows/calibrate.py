"""Find out on validation how sure a run's network really is; test rows are never touched."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mnsa.data.check import require_sound
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.engines.folder import weights_digest
from mnsa.errors import DataError, ModelError
from mnsa.evaluation import calibration
from mnsa.inference.calibration_file import Calibration, save_calibration
from mnsa.inference.predictor import Predictor
from mnsa.inference.run_evaluation import require_same_classes
from mnsa.inference.run_trees import pool_split
from mnsa.model.network import NO_CLASS_HEAD
from mnsa.run_folder import load_network, open_run, run_dataset

FEWEST = 10  # labelled validation images
_SPLIT = "val"


def calibrate_run(path: Path, *, target: float = 0.95, dataset: Path | None = None) -> Calibration:
    """Fit temperature and threshold to the labelled validation rows, and keep them in RUN/calibration.json.

    target: share of right answers among those that reach the threshold. dataset: another than the run's own.
    Images are seen as `predict` sees them. An earlier calibration is replaced.
    Raises: RunError, ModelError; DataError, also for fewer than FEWEST images. What was there stays then.
    """
    run = open_run(path)
    predictor = Predictor(*load_network(path))
    if predictor.network.class_head is None:
        raise ModelError(f"{path}: {NO_CLASS_HEAD}")
    manifest = read_manifest(dataset or run_dataset(run)[0])
    rows = _labelled(manifest)
    require_same_classes(predictor, rows)
    require_sound(rows)
    pooled = pool_split(predictor, rows)
    found = _calibration(pooled.class_logits.numpy(), pooled.labels.numpy(), target)
    found = replace(found, dataset=manifest.name, dataset_digest=manifest.digest(), weights_sha256=weights_digest(path))
    save_calibration(path, found)
    return found


def _labelled(manifest: Manifest) -> Manifest:
    """The validation rows that have a label, without their masks, which aren't needed."""
    rows = tuple(replace(row, mask="") for row in manifest.rows if row.split == _SPLIT and row.label)
    if len(rows) < FEWEST:
        raise DataError(
            f"{manifest.name} has {len(rows)} labelled images with split `{_SPLIT}`; fewer than {FEWEST} can't say how "
            "sure a network may be. Deal more images to validation (mnsa split), or name another data set with --data."
        )
    return replace(manifest, rows=rows, mask_classes=())


def _calibration(logits: np.ndarray, labels: np.ndarray, target: float) -> Calibration:
    right = logits.argmax(1) == labels
    fitted = calibration.fit_temperature(logits, labels)
    temperature = fitted or 1.0
    temperatures = {"before": 1.0, "after": temperature}
    sure = {when: calibration.confidences(logits, t) for when, t in temperatures.items()}
    bars = {when: calibration.reliability(confidence, right) for when, confidence in sure.items()}
    threshold = calibration.find_threshold(sure["after"], right, target)
    return Calibration(
        temperature=temperature,
        fitted=fitted is not None,
        threshold=threshold and threshold.value,
        target=target,
        rule=f"the smallest confidence from which on at least {target:g} of the validation answers are right",
        split=_SPLIT,
        images=len(labels),
        right=int(right.sum()),
        accepted=threshold.accepted if threshold else 0,
        accepted_right=threshold.right if threshold else 0,
        bins=calibration.BINS,
        ece={when: calibration.calibration_error(bars[when]) for when in bars},
        log_loss={when: calibration.log_loss(logits, labels, t) for when, t in temperatures.items()},
        reliability=bars,
        dataset="",
        dataset_digest="",
        weights_sha256="",
    )
