"""From a run to an artefact for another engine, compared with the eager network before it appears."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnsa.data.images import read_image
from mnsa.data.manifest import Manifest, Row, fresh_folder, read_manifest
from mnsa.engines.card import EngineCard
from mnsa.engines.folder import export_folder, keep_comparison, open_artefact, weights_digest, write_artefact
from mnsa.engines.kinds import FILES, EngineName, Precision, require_engine, require_precision
from mnsa.engines.program import output_names
from mnsa.errors import DataError, MnsaError
from mnsa.inference.export_comparison import compare
from mnsa.inference.predictor import Predictor
from mnsa.inference.run_evaluation import require_same_classes
from mnsa.run_folder import ModelCard, RunFolder, load_network, package_version, run_dataset

CALIBRATION_IMAGES = 32
_PACKAGES = ("mnsa", "torch", "timm", "onnx", "onnxruntime", "openvino")


class Exported(NamedTuple):
    """Where the artefact lies, its card with the comparison, and its size on disk in bytes (`float32`: the run's)."""

    folder: Path
    card: EngineCard
    size_bytes: int


def export_run(
    path: Path, engine: EngineName, *, precision: Precision = "float32", out: Path | None = None,
    dataset: Path | None = None, agreement: float | None = None,
) -> Exported:  # fmt: skip
    """Export a run's network, compare it with the eager one, and keep it only when they agree.

    out: the artefact's folder; by default one in the run, where `predict --engine` looks. dataset: in place of the
    run's own; its train rows calibrate int8, its validation rows are compared. agreement: see `compare`.
    Raises: ModelError when the network can't be exported or differs; RunError, DataError. Nothing is left behind then.
    """
    require_precision(engine, precision)
    require_engine(engine, to="write")
    network, model_card = load_network(path)
    eager = Predictor(network, model_card)
    manifest = _manifest(path, eager, dataset)
    if precision == "int8" and (manifest is None or not manifest.split("train").rows):
        raise DataError(f"int8 is calibrated on training images, and the data set of {path} isn't there. Give --data.")
    card = _card(path, eager, model_card, engine, precision)
    folder = out or export_folder(path, engine, precision)
    try:
        with fresh_folder(folder) as unfinished:
            write_artefact(unfinished, network, card, _calibration(eager, manifest))
            exported = Predictor(network, model_card, engine=open_artefact(unfinished, engine))
            found = compare(eager, exported, precision, manifest and manifest.split("val"), agreement=agreement)
            found["bytes"] = {"eager": _bytes(path), "exported": _size(unfinished, engine)}
            card = keep_comparison(unfinished, card, found)
    finally:
        with suppress(OSError):  # not empty, or not there: then it isn't ours to remove
            RunFolder(path).exports_folder.rmdir()
    return Exported(folder, card, _size(folder, engine))


def _manifest(path: Path, predictor: Predictor, dataset: Path | None) -> Manifest | None:
    """The data to calibrate and compare on; None when the run's own can't be had and no other was named."""
    try:
        manifest = read_manifest(dataset or run_dataset(RunFolder(path))[0])
        first = next(iter(manifest.rows))
        read_image(manifest.image_path(first))
    except MnsaError:
        if dataset is not None:
            raise
        return None
    require_same_classes(predictor, manifest)
    return manifest


def _calibration(predictor: Predictor, manifest: Manifest | None) -> Iterator[np.ndarray]:
    """Training images as the network sees them, spread evenly over the rows: (1, 3, h, w) each."""
    rows = () if manifest is None else manifest.split("train").rows
    for row in spread(rows, CALIBRATION_IMAGES):
        assert manifest is not None  # noqa: S101 - rows come from it
        inputs, _ = predictor.transform(read_image(manifest.image_path(row)))
        yield inputs[None].numpy()


def spread(rows: tuple[Row, ...], at_most: int) -> list[Row]:
    """Pick rows at even distances, so that all classes of a sorted manifest are among them."""
    count = min(at_most, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _card(path: Path, eager: Predictor, card: ModelCard, engine: EngineName, precision: Precision) -> EngineCard:
    try:
        provenance = json.loads(RunFolder(path).provenance_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a model/ folder alone has none
        provenance = {}
    backbone = eager.network.backbone
    return EngineCard(
        engine=engine, precision=precision, outputs=output_names(eager.network),
        classes=card.classes, mask_classes=card.mask_classes,
        mean=tuple(backbone.mean), std=tuple(backbone.std), size=card.data.size, fit=card.data.fit,
        weights_sha256=weights_digest(path), provenance=provenance,
        versions={name: package_version(name) for name in _PACKAGES},
    )  # fmt: skip


def _bytes(path: Path) -> int:
    network = path / "model" if (path / "model").is_dir() else path
    return (network / "model.safetensors").stat().st_size


def _size(folder: Path, engine: EngineName) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{Path(FILES[engine]).stem}.*"))
