"""`mnsa calibrate`: fit temperature, threshold and postprocessing of a run on the validation split, never on test."""

import logging
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.validate import require_valid
from mnsa.errors import DataError, ModelError
from mnsa.inference.calibration_file import Calibration, save_calibration
from mnsa.inference.postprocessing_file import FittedPostprocessing
from mnsa.inference.predictor import Predictor
from mnsa.metrics import calibration
from mnsa.metrics.scoring import wilson_interval
from mnsa.model.network import NO_CLASS_HEAD
from mnsa.model_folder import load_network
from mnsa.run_folder import find_run_dataset, open_run_folder, weights_digest
from mnsa.workflows.evaluate import require_same_classes
from mnsa.workflows.fit_postprocessing import fit_postprocessing
from mnsa.workflows.fit_trees import extract_features

MIN_IMAGES = 10  # labeled validation images

_SPLIT = "val"
_TEMPERATURES = calibration.MIN_TEMPERATURE, calibration.MAX_TEMPERATURE

logger = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """What `calibrate_all` fitted: classes and masks, or None. problem: why no classes were calibrated, or empty."""

    classes: Calibration | None
    masks: FittedPostprocessing | None
    problem: str


def calibrate_all(path: Path, *, target: float = 0.95, dataset: Path | None = None) -> Calibrated:
    """Choose the postprocessing of masks as `fit_postprocessing`, and calibrate the classes as `calibrate_run`.

    Raises: RunError, DataError; ModelError or DataError of `calibrate_run` where there are no masks, either.
    """
    masks = fit_postprocessing(path, dataset=dataset)
    try:
        return Calibrated(calibrate_run(path, target=target, dataset=dataset), masks, "")
    except (ModelError, DataError) as error:
        if masks is None:
            raise
        return Calibrated(None, masks, str(error))


def calibrate_run(path: Path, *, target: float = 0.95, dataset: Path | None = None) -> Calibration:
    """Fit temperature and threshold on the labeled validation rows, and save them in RUN/calibration.json.

    target: accuracy among the images that reach the threshold. dataset: folder of another data set than the run's own.
    Images are transformed as `predict` does. An earlier calibration is replaced, but stays after an error.
    Raises: RunError, ModelError; DataError, also for fewer than MIN_IMAGES images.
    """
    run = open_run_folder(path)
    predictor = Predictor(*load_network(path))
    if predictor.network.class_head is None:
        raise ModelError(f"{path}: {NO_CLASS_HEAD}")
    manifest = read_manifest(find_run_dataset(run, dataset))
    rows = _labeled_validation_rows(manifest)
    require_same_classes(predictor, rows)
    require_valid(rows)
    features = extract_features(predictor, rows)
    fitted = _fit_calibration(features.class_logits.numpy(), features.labels.numpy(), target)
    fitted = replace(
        fitted, dataset=manifest.name, dataset_digest=manifest.digest(), weights_sha256=weights_digest(path)
    )
    save_calibration(path, fitted)
    _warn(fitted, int(features.labels.bincount().max()))
    return fitted


def _warn(fitted: Calibration, most: int) -> None:
    """Log what makes a calibration useless. most: images of the most frequent class."""
    if fitted.fitted and any(isclose(fitted.temperature, bound, rel_tol=1e-3) for bound in _TEMPERATURES):
        logger.warning(
            f"The temperature ended at its bound, {fitted.temperature:.3g}: the confidences do not say which "
            "predictions are right. Train longer, or calibrate on more images (--data)."
        )
    if wilson_interval(fitted.correct / fitted.images, fitted.images)[0] <= most / fitted.images < 1:
        logger.warning(
            f"{fitted.correct} of {fitted.images} predictions are correct, and naming the most frequent class for "
            f"every image gives {most}: the accuracy may be chance, and then a confidence means nothing."
        )


def _labeled_validation_rows(manifest: Manifest) -> Manifest:
    """The validation rows that have a label, without their masks, which are not needed."""
    rows = tuple(replace(row, mask="") for row in manifest.rows if row.split == _SPLIT and row.label)
    if len(rows) < MIN_IMAGES:
        raise DataError(
            f"{manifest.name} has {len(rows)} labeled images with split `{_SPLIT}`; fewer than {MIN_IMAGES} "
            "are too few to calibrate. Move more images to validation (mnsa split), or give other data with --data."
        )
    return replace(manifest, rows=rows, mask_classes=())


def _fit_calibration(logits: np.ndarray, labels: np.ndarray, target: float) -> Calibration:
    """Fit to logits (N, K) and labels (N,); data set and weights are left empty."""
    correct = logits.argmax(1) == labels
    fitted = calibration.fit_temperature(logits, labels)
    temperature = fitted or 1.0
    temperatures = {"before": 1.0, "after": temperature}
    confidence = {when: calibration.confidences(logits, t) for when, t in temperatures.items()}
    bins = {when: calibration.reliability_bins(values, correct) for when, values in confidence.items()}
    threshold = calibration.find_threshold(confidence["after"], correct, target)
    return Calibration(
        temperature=temperature,
        fitted=fitted is not None,
        threshold=threshold and threshold.value,
        target=target,
        rule=f"the lowest threshold above which at least {target:g} of the validation predictions are correct",
        split=_SPLIT,
        images=len(labels),
        correct=int(correct.sum()),
        accepted=threshold.accepted if threshold else 0,
        accepted_correct=threshold.correct if threshold else 0,
        bins=calibration.N_BINS,
        ece={when: calibration.expected_calibration_error(bins[when]) for when in bins},
        log_loss={when: calibration.log_loss(logits, labels, t) for when, t in temperatures.items()},
        reliability=bins,
        dataset="",
        dataset_digest="",
        weights_sha256="",
    )
