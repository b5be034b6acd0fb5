"""`mnsa export`: export a run for another engine, and compare it with the PyTorch network before it is saved.

Compared on random images and on validation images, never on test images.
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
from mnsa.metrics.functional import mask_counts, pooled_iou
from mnsa.metrics.scoring import score_predictions
from mnsa.model_folder import load_network
from mnsa.run_folder import ModelSpec, RunFolder, package_version, read_run_dataset, weights_digest
from mnsa.structures import NetworkOutputs, Prediction, Sample
from mnsa.workflows.evaluate import require_same_classes

TOLERANCE = 1e-4  # float32: largest difference of an output, in units of its standard deviation where that is above 1

MIN_AGREEMENT = {"bfloat16": 0.97, "int8": 0.9}  # least share of equal labels, and least IoU of the two masks

RANDOM_SIZES = ((1, 64, 64), (2, 45, 71), (3, 33, 96))  # batch, height, width

_N_REAL_IMAGES = 8


def compare_exported(
    eager: Predictor, exported: Predictor, precision: Precision, validation: Manifest | None, *,
    agreement: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare an exported network with the eager one and say what was found.

    validation: rows to compare on; None: random images alone. agreement: in place of MIN_AGREEMENT, for bfloat16 and int8.
    Returns: `differences` by kind of image and output, and for bfloat16 and int8 `labels` and `mask_iou` (how far the
    two agree) and `scores` of both. Raises: ModelError when they differ by more than is allowed.
    """
    rows = None if validation is None or not validation.rows else validation
    found: dict[str, Any] = {
        "differences": {"random": _largest_differences(eager, exported, _random_batches())},
        "real_images": 0 if rows is None else len(rows.rows),
    }
    if precision == "float32":
        if rows is not None:
            found["real_images"] = min(_N_REAL_IMAGES, len(rows.rows))
            found["differences"]["real"] = _largest_differences(eager, exported, _real_batches(eager, rows))
        _require_equal(found["differences"])
        return found
    least = MIN_AGREEMENT[precision] if agreement is None else agreement
    counter = AgreementCounter(eager, exported)
    if rows is None:
        for image in _random_batches():
            counter.predict((image[0] * 50 + 128).clamp(0, 255).to(torch.uint8))
    else:
        named = eager.classes, eager.mask_classes
        mine = ((sample, eager.predict_image(sample.image)) for sample in _read_samples(rows))
        theirs = ((sample, counter.predict(sample.image)) for sample in _read_samples(rows))
        found["scores"] = {"eager": score_predictions(mine, *named), "exported": score_predictions(theirs, *named)}
    found |= counter.agreement()
    _require_agreement(found, least)
    return found


@dataclass(slots=True)
class AgreementCounter:
    """Two predictors that answer for the same images, and how far they agree."""

    eager: Predictor
    exported: Predictor
    images: int = 0
    same_labels: int = 0
    counts: Tensor | None = None  # of the masks, the eager one as truth: int64 (1, M, 3)

    def predict(self, image: Tensor) -> Prediction:
        """What the exported network says of an image uint8 (3, H, W)."""
        mine, theirs = self.eager.predict_image(image), self.exported.predict_image(image)
        self.images += 1
        if mine.class_probs is not None and theirs.class_probs is not None:
            self.same_labels += int(mine.class_probs.argmax() == theirs.class_probs.argmax())
        if mine.mask is not None and theirs.mask is not None:
            said, true = (torch.from_numpy(mask)[None] for mask in (theirs.mask, mine.mask))
            counts = mask_counts(said, true, len(self.eager.mask_classes))
            self.counts = counts if self.counts is None else self.counts + counts
        return theirs

    def agreement(self) -> dict[str, Any]:
        """`labels`: [equal, all], None without classes; `mask_iou`: mean over mask classes that either has seen."""
        labels = [self.same_labels, self.images] if self.eager.classes else None
        iou = None if self.counts is None else float(pooled_iou(self.counts).nanmean().nan_to_num(1.0))
        return {"labels": labels, "mask_iou": iou}


def _largest_differences(eager: Predictor, exported: Predictor, batches: Iterator[Tensor]) -> dict[str, float]:
    """By output, the largest absolute difference over the batches, in units of max(1, the eager output's deviation)."""
    largest: dict[str, float] = {}
    for images in batches:
        for name, mine, theirs in zip(NetworkOutputs._fields, eager(images), exported(images), strict=True):
            if mine is None and theirs is None:
                continue
            if mine is None or theirs is None or mine.shape != theirs.shape:
                raise ModelError(
                    f"The exported network's {name} has another shape than the eager one's. It isn't kept."
                )
            scale = max(1.0, float(mine.std(correction=0)))
            difference = float((mine - theirs).abs().max()) / scale
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
                    f"where {TOLERANCE:.0e} is allowed. It isn't kept. Try another engine with --to."
                )


def _require_agreement(found: dict[str, Any], least: float) -> None:
    """At least one label may flip, so that a small validation split doesn't ask for more than it can tell."""
    labels, iou = found["labels"], found["mask_iou"]
    flips = 0 if labels is None else labels[1] - labels[0]
    allowed = 0 if labels is None else max(1, int((1 - least) * labels[1]))
    if flips > allowed or (iou is not None and iou < least):
        said = "" if labels is None else f"{labels[0]} of {labels[1]} labels are the same"
        masks = "" if iou is None else f"the masks' IoU is {iou:.3f}"
        raise ModelError(
            f"The exported network is too far from the eager one: {' and '.join(filter(None, (said, masks)))}, where "
            f"{least:.2f} is asked for. It isn't kept. Choose another --precision, or a lower --agreement."
        )


CALIBRATION_IMAGES = 32

_PACKAGES = ("mnsa", "torch", "timm", "onnx", "onnxruntime", "openvino")


class ExportResult(NamedTuple):
    """Where the artefact lies, its card with the comparison, and its size on disk in bytes (`float32`: the run's)."""

    folder: Path
    card: ExportSpec
    size_bytes: int


def export_run(
    path: Path, engine: EngineName, *, precision: Precision = "float32", out: Path | None = None,
    dataset: Path | None = None, agreement: float | None = None,
) -> ExportResult:  # fmt: skip
    """Export a run's network, compare it with the eager one, and keep it only when they agree.

    out: the artefact's folder; by default one in the run, where `predict --engine` looks. dataset: in place of the
    run's own; its train rows calibrate int8, its validation rows are compared. agreement: see `compare`.
    Raises: ModelError when the network can't be exported or differs; RunError, DataError. Nothing is left behind then.
    """
    require_precision(engine, precision)
    require_engine(engine, to="write")
    network, model_card = load_network(path)
    eager = Predictor(network, model_card)
    manifest = _find_manifest(path, eager, dataset)
    if precision == "int8" and (manifest is None or not manifest.split("train").rows):
        raise DataError(f"int8 is calibrated on training images, and the data set of {path} isn't there. Give --data.")
    card = _build_card(path, eager, model_card, engine, precision)
    folder = out or export_folder(path, engine, precision)
    try:
        with output_errors(folder, RunError), new_folder(folder) as unfinished:
            write_artifact(unfinished, network, card, _calibration_inputs(eager, manifest))
            exported = Predictor(network, model_card, engine=open_artifact(unfinished, engine))
            found = compare_exported(
                eager, exported, precision, manifest and manifest.split("val"), agreement=agreement
            )
            found["bytes"] = {"eager": _weights_bytes(path), "exported": _artifact_bytes(unfinished, engine)}
            card = save_comparison(unfinished, card, found)
    finally:
        with suppress(OSError):  # not empty, or not there: then it isn't ours to remove
            RunFolder(path).exports_folder.rmdir()
    return ExportResult(folder, card, _artifact_bytes(folder, engine))


def _find_manifest(path: Path, predictor: Predictor, dataset: Path | None) -> Manifest | None:
    """The data to calibrate and compare on; None when the run's own can't be had and no other was named."""
    try:
        manifest = read_manifest(dataset or read_run_dataset(RunFolder(path))[0])
        first = next(iter(manifest.rows))
        read_image(manifest.image_path(first))
    except MnsaError:
        if dataset is not None:
            raise
        return None
    require_same_classes(predictor, manifest)
    return manifest


def _calibration_inputs(predictor: Predictor, manifest: Manifest | None) -> Iterator[np.ndarray]:
    """Training images as the network sees them, spread evenly over the rows: (1, 3, h, w) each."""
    rows = () if manifest is None else manifest.split("train").rows
    for row in evenly_spaced(rows, CALIBRATION_IMAGES):
        assert manifest is not None  # noqa: S101 - rows come from it
        inputs, _ = predictor.transform(read_image(manifest.image_path(row)))
        yield inputs[None].numpy()


def evenly_spaced(rows: tuple[Row, ...], at_most: int) -> list[Row]:
    """Pick rows at even distances, so that all classes of a sorted manifest are among them."""
    count = min(at_most, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _build_card(path: Path, eager: Predictor, card: ModelSpec, engine: EngineName, precision: Precision) -> ExportSpec:
    try:
        provenance = read_json(RunFolder(path).provenance_file)
    except (OSError, ValueError):  # a model/ folder alone has none
        provenance = {}
    backbone = eager.network.backbone
    return ExportSpec(
        engine=engine, precision=precision, outputs=output_names(eager.network),
        classes=card.classes, mask_classes=card.mask_classes,
        mean=tuple(backbone.mean), std=tuple(backbone.std), size=card.data.size, resize_mode=card.data.resize_mode,
        weights_sha256=weights_digest(path), provenance=provenance,
        versions={name: package_version(name) for name in _PACKAGES},
    )  # fmt: skip


def _weights_bytes(path: Path) -> int:
    network = path / "model" if (path / "model").is_dir() else path
    return (network / "model.safetensors").stat().st_size


def _artifact_bytes(folder: Path, engine: EngineName) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{Path(ENGINE_FILES[engine]).stem}.*"))
