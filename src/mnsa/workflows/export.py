"""`mnsa export`: export the network of a run for an engine, and compare it with the eager network before saving it.

They are compared on random images and on validation images, never on test images.

B batch; h, w network input size; M mask classes.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnsa.data.dataset import read_sample
from mnsa.data.decode import read_image
from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.engines.artifact import export_folder, open_artifact, save_comparison, write_artifact
from mnsa.engines.spec import ENGINE_FILES, EngineName, ExportSpec, Precision, require_engine, require_precision
from mnsa.engines.torch_engine import output_names
from mnsa.errors import DataError, MnsaError, ModelError, RunError, output_errors
from mnsa.inference.predictor import Predictor
from mnsa.io import new_folder, read_json
from mnsa.metrics import functional
from mnsa.metrics.scoring import score_predictions
from mnsa.model_folder import load_network
from mnsa.run_folder import ModelSpec, RunFolder, find_run_dataset, package_version, weights_digest
from mnsa.structures import NetworkOutputs, Prediction, Sample
from mnsa.workflows.evaluate import require_same_classes

TOLERANCE = 1e-4  # of float32: largest difference of an output, relative to its standard deviation if that is above 1
MIN_AGREEMENT = {"bfloat16": 0.97, "int8": 0.9}  # minimum fraction of equal labels, and minimum IoU of the masks
RANDOM_SIZES = ((1, 64, 64), (2, 45, 71), (3, 33, 96))  # batch, height, width
CALIBRATION_IMAGES = 32
_N_REAL_IMAGES = 8
_PACKAGES = ("mnsa", "torch", "timm", "onnx", "onnxruntime", "openvino")


class ExportResult(NamedTuple):
    """The folder of the exported network, its spec with the comparison, and its size on disk in bytes."""

    folder: Path
    spec: ExportSpec
    size_bytes: int


def export_run(
    path: Path, engine: EngineName, *, precision: Precision = "float32", out: Path | None = None,
    dataset: Path | None = None, agreement: float | None = None,
) -> ExportResult:  # fmt: skip
    """Export a run's network, compare it with the eager one, and save it only if they agree.

    out: new folder; default: a folder in the run, where `predict --engine` finds it. dataset: instead of the run's own;
    its training images calibrate int8, its validation images are compared. agreement: see `compare_exported`.
    Raises: ModelError when the network can't be exported or differs; RunError; DataError. No file is left then.
    """
    require_precision(engine, precision)
    require_engine(engine, to="write")
    network, model_spec = load_network(path)
    eager = Predictor(network, model_spec)
    manifest = _find_manifest(path, eager, dataset)
    if precision == "int8" and (manifest is None or not manifest.split("train").rows):
        raise DataError(
            f"int8 is calibrated on training images, but the data set of {path} can't be read. Give --data."
        )
    spec = _build_spec(path, eager, model_spec, engine, precision)
    folder = out or export_folder(path, engine, precision)
    try:
        with output_errors(folder, RunError), new_folder(folder) as unfinished:
            write_artifact(unfinished, network, spec, _calibration_inputs(eager, manifest))
            exported = Predictor(network, model_spec, engine=open_artifact(unfinished, engine))
            comparison = compare_exported(
                eager, exported, precision, manifest and manifest.split("val"), agreement=agreement
            )
            comparison["bytes"] = {"eager": _weights_bytes(path), "exported": _artifact_bytes(unfinished, engine)}
            spec = save_comparison(unfinished, spec, comparison)
    finally:
        with suppress(OSError):  # it has other exports, or doesn't exist
            RunFolder(path).exports_folder.rmdir()
    return ExportResult(folder, spec, _artifact_bytes(folder, engine))


def compare_exported(
    eager: Predictor, exported: Predictor, precision: Precision, validation: Manifest | None, *,
    agreement: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare an exported network with the eager one.

    validation: images to compare on; None: random images only. agreement: replaces MIN_AGREEMENT for bfloat16 and int8.
    Returns: `differences` by kind of image and output; for bfloat16 and int8 also the agreement, `labels` and
    `mask_iou`, and `scores` of both networks as records (`mnsa.metrics.scores.Score`). Raises: ModelError when they
    differ by more than is allowed.
    """
    if validation is not None and not validation.rows:
        validation = None
    comparison: dict[str, Any] = {
        "differences": {"random": _largest_differences(eager, exported, _random_batches())},
        "real_images": 0 if validation is None else len(validation.rows),
    }
    if precision == "float32":
        if validation is not None:
            comparison["real_images"] = min(_N_REAL_IMAGES, len(validation.rows))
            real = _largest_differences(eager, exported, _real_batches(eager, validation))
            comparison["differences"]["real"] = real
        _require_equal(comparison["differences"])
        return comparison
    counter = AgreementCounter(eager, exported)
    if validation is None:
        for image in _random_batches():
            counter.predict((image[0] * 50 + 128).clamp(0, 255).to(torch.uint8))
    else:
        names = eager.classes, eager.mask_classes
        eager_pairs = ((sample, eager.predict_image(sample.image)) for sample in _read_samples(validation))
        exported_pairs = ((sample, counter.predict(sample.image)) for sample in _read_samples(validation))
        evaluations = {
            "eager": score_predictions(eager_pairs, *names),
            "exported": score_predictions(exported_pairs, *names),
        }
        comparison["scores"] = {name: [score.to_dict() for score in one.scores] for name, one in evaluations.items()}
    comparison |= counter.agreement()
    _require_agreement(comparison, MIN_AGREEMENT[precision] if agreement is None else agreement)
    return comparison


@dataclass(slots=True)
class AgreementCounter:
    """Count how often an exported network agrees with the eager one on the same images."""

    eager: Predictor
    exported: Predictor
    images: int = 0
    same_labels: int = 0
    counts: np.ndarray | None = None  # of mask pixels, with the eager mask as truth: int64 (M, 3)

    def predict(self, image: Tensor) -> Prediction:
        """Predict an image uint8 (3, H, W) with both, and return the prediction of the exported network."""
        expected, prediction = self.eager.predict_image(image), self.exported.predict_image(image)
        self.images += 1
        if expected.class_probs is not None and prediction.class_probs is not None:
            self.same_labels += int(expected.class_probs.argmax() == prediction.class_probs.argmax())
        if expected.mask is not None and prediction.mask is not None:
            counts = functional.mask_counts(prediction.mask, expected.mask, len(self.eager.mask_classes))
            self.counts = counts if self.counts is None else self.counts + counts
        return prediction

    def agreement(self) -> dict[str, Any]:
        """Return `labels`, [equal, all] or None, and `mask_iou`, the mean over mask classes that occur."""
        labels = [self.same_labels, self.images] if self.eager.classes else None
        mean = None if self.counts is None else functional.nanmean(functional.iou(self.counts))
        return {"labels": labels, "mask_iou": 1.0 if mean is not None and np.isnan(mean) else mean}


def _largest_differences(eager: Predictor, exported: Predictor, batches: Iterator[Tensor]) -> dict[str, float]:
    """Return the largest absolute difference of each output, in units of max(1, its standard deviation)."""
    largest: dict[str, float] = {}
    for images in batches:
        for name, expected, output in zip(NetworkOutputs._fields, eager(images), exported(images), strict=True):
            if expected is None and output is None:
                continue
            if expected is None or output is None or expected.shape != output.shape:
                raise ModelError(
                    f"The exported network's {name} has another shape than that of the eager one. It is not saved."
                )
            scale = max(1.0, float(expected.std(correction=0)))
            difference = float((expected - output).abs().max()) / scale
            largest[name] = max(largest.get(name, 0.0), difference if np.isfinite(difference) else float("inf"))
    return largest


def _random_batches() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(batch, 3, height, width, generator=generator) for batch, height, width in RANDOM_SIZES)


def _real_batches(predictor: Predictor, manifest: Manifest) -> Iterator[Tensor]:
    step = -(-len(manifest.rows) // _N_REAL_IMAGES)
    for row in manifest.rows[::step]:
        inputs, _ = predictor.transform(read_sample(manifest, row).image)
        yield inputs[None]


def _read_samples(manifest: Manifest) -> Iterator[Sample]:
    return (read_sample(manifest, row) for row in manifest.rows)


def _require_equal(differences: dict[str, dict[str, float]]) -> None:
    for kind, by_output in differences.items():
        for name, difference in by_output.items():
            if difference > TOLERANCE:
                raise ModelError(
                    f"The exported network differs from the eager one: {name} by {difference:.1e} on {kind} images, "
                    f"where {TOLERANCE:.0e} is allowed. It is not saved. Try another engine with --to."
                )


def _require_agreement(comparison: dict[str, Any], minimum: float) -> None:
    """Check labels and masks. One label may always differ: a small validation split can't measure a small fraction."""
    labels, iou = comparison["labels"], comparison["mask_iou"]
    differing = 0 if labels is None else labels[1] - labels[0]
    allowed = 0 if labels is None else max(1, int((1 - minimum) * labels[1]))
    if differing > allowed or (iou is not None and iou < minimum):
        found = [] if labels is None else [f"{labels[0]} of {labels[1]} labels are equal"]
        found += [] if iou is None else [f"the IoU of the masks is {iou:.3f}"]
        raise ModelError(
            f"The exported network differs too much from the eager one: {' and '.join(found)}; the minimum is "
            f"{minimum:.2f}. It is not saved. Choose another --precision, or a lower --agreement."
        )


def _find_manifest(path: Path, predictor: Predictor, dataset: Path | None) -> Manifest | None:
    """Read the data set for calibration and comparison; None when the run's own can't be read and no other is given."""
    try:
        manifest = read_manifest(find_run_dataset(RunFolder(path), dataset))
        first = next(iter(manifest.rows))
        read_image(manifest.image_path(first))
    except MnsaError:
        if dataset is not None:
            raise
        return None
    require_same_classes(predictor, manifest)
    return manifest


def _calibration_inputs(predictor: Predictor, manifest: Manifest | None) -> Iterator[np.ndarray]:
    """Preprocess training images, evenly spaced over the rows: (1, 3, h, w) each."""
    rows = () if manifest is None else manifest.split("train").rows
    for row in evenly_spaced(rows, CALIBRATION_IMAGES):
        assert manifest is not None  # noqa: S101 - it has the rows
        inputs, _ = predictor.transform(read_image(manifest.image_path(row)))
        yield inputs[None].numpy()


def evenly_spaced(rows: tuple[Row, ...], limit: int) -> list[Row]:
    """Select rows at even distances, which covers all classes of a sorted manifest."""
    count = min(limit, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _build_spec(path: Path, eager: Predictor, model: ModelSpec, engine: EngineName, precision: Precision) -> ExportSpec:
    try:
        provenance = read_json(RunFolder(path).provenance_file)
    except (OSError, ValueError):  # a model/ folder without its run has none
        provenance = {}
    backbone = eager.network.backbone
    return ExportSpec(
        engine=engine, precision=precision, outputs=output_names(eager.network),
        classes=model.classes, mask_classes=model.mask_classes,
        mean=tuple(backbone.mean), std=tuple(backbone.std), size=model.data.size, resize_mode=model.data.resize_mode,
        weights_sha256=weights_digest(path), provenance=provenance,
        versions={name: package_version(name) for name in _PACKAGES},
    )  # fmt: skip


def _weights_bytes(path: Path) -> int:
    network = path / "model" if (path / "model").is_dir() else path
    return (network / "model.safetensors").stat().st_size


def _artifact_bytes(folder: Path, engine: EngineName) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{Path(ENGINE_FILES[engine]).stem}.*"))
