"""Score a run on a split of its data set: the one place where test images are opened."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mnsa.data.check import require_sound
from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.errors import DataError, RunError
from mnsa.evaluation.evaluate import Scores, evaluate
from mnsa.inference.predictor import Head, Predictor, load
from mnsa.inference.released_iou import released_iou_of
from mnsa.records import Prediction, Sample
from mnsa.run_folder import open_run, run_dataset, write_text
from mnsa.text_files import read_json


def evaluate_run(
    path: Path, *, split: str = "test", dataset: Path | None = None, head: Head = "network",
    tta: Sequence[str] = (), released_iou: bool = False,
) -> Scores:  # fmt: skip
    """Score a run on one split, at the images' own size, and keep the scores in evaluation.json under `scores_key`.

    dataset: another data set than the one the run was trained on. head: who says the class. tta: test-time
    augmentation, as `load` takes it. released_iou: add the released code's own figure. Each image is answered on its
    own, so no other number depends on a batch.
    Raises: RunError, DataError, ModelError.
    """
    run = open_run(path)
    manifest = read_manifest(dataset or run_dataset(run)[0])
    predictor = load(path, head=head, tta=tta)
    require_same_classes(predictor, manifest)
    rows = manifest.split(split)
    if not rows.rows:
        raise DataError(f"{manifest.name} has no row with split {split!r}. Choose another --split.")
    require_sound(rows)
    released = {"iou_released": released_iou_of(path, rows)} if released_iou else {}
    scores = evaluate(
        _pairs(predictor, rows), predictor.classes, predictor.mask_classes, calibrated=predictor.calibration is not None
    )
    scores["dataset"] = manifest.name
    scores.get("segmentation", {}).update(released)
    _keep(run.evaluation_file, scores_key(split, head, tta), scores)
    return scores


def scores_key(split: str, head: Head, tta: Sequence[str] = ()) -> str:
    """Where evaluation.json keeps scores: `test` the network's own, `test/trees` with trees, `test/flips+turns`."""
    return "/".join([split, *([] if head == "network" else [head]), *(["+".join(sorted(set(tta)))] if tta else [])])


def _pairs(predictor: Predictor, manifest: Manifest) -> Iterator[tuple[Sample, Prediction]]:
    for row in manifest.rows:
        sample = read_sample(manifest, row)
        yield sample, predictor.predict_image(sample.image, sample.path)


def require_same_classes(predictor: Predictor, manifest: Manifest) -> None:
    """Do nothing when predictor and data name the same classes, as far as both have some. Raises: DataError."""
    for what, ours, theirs in (
        ("classes", predictor.classes, manifest.classes),
        ("mask classes", predictor.mask_classes, manifest.mask_classes),
    ):
        if ours and theirs and ours != theirs:
            raise DataError(
                f"The network knows {len(ours)} {what} ({', '.join(ours[:5])}), but {manifest.name} has {len(theirs)} "
                f"({', '.join(theirs[:5])}). Evaluate on data with the same {what} in the same order."
            )


def _keep(file: Path, key: str, scores: Scores) -> None:
    try:
        kept = read_json(file) if file.exists() else {}
        kept = {**kept, key: scores}
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged: {error}. Move it away and evaluate again.") from None
    write_text(file, json.dumps(kept, indent=2) + "\n")
