"""Score a run on a split of its data set: the one place where test images are opened."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mnsa.data.check import require_sound
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.errors import DataError, RunError
from mnsa.evaluation.evaluate import Scores, evaluate
from mnsa.inference.evaluated_folder import evaluated_folder, fresh_evaluation
from mnsa.inference.predictor import Head, Predictor, load
from mnsa.inference.released_iou import released_iou_of
from mnsa.inference.split_record import RoleNames, SplitRecord
from mnsa.run_folder import RunFolder, open_run, run_dataset, write_text
from mnsa.text_files import read_json

_MOST_BYTES = 1 << 28
_NUMBERS = re.compile(r"\[\n[-+.,\d\seE]+\]")  # no text of JSON holds a line break


def evaluate_run(
    path: Path, *, split: str = "test", dataset: Path | None = None, head: Head = "network",
    tta: Sequence[str] = (), released_iou: bool = False, traits: RoleNames | None = None,
) -> Scores:  # fmt: skip
    """Score a run on one split, at the images' own size, and keep the scores in evaluation.json under `scores_key`.

    A row per image, and pictures of the worst and the best, are kept in predictions/ (`evaluated_folder`).
    dataset: another data set than the one the run was trained on. head: who says the class. tta: test-time
    augmentation, as `load` takes it. released_iou: add the released code's own figure. traits: measure true and
    predicted masks, too; names as `find_roles` takes them. Each image is answered on its own, so no other number
    depends on a batch.
    Raises: RunError, DataError, ModelError, ConfigError.
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
    record, key = SplitRecord(predictor, rows, traits), scores_key(split, head, tta)
    scores = evaluate(
        record.pairs(), predictor.classes, predictor.mask_classes, calibrated=predictor.calibration is not None
    )
    scores["dataset"] = manifest.name
    scores.get("segmentation", {}).update(released)
    earlier = read_scores(run)
    with fresh_evaluation(evaluated_folder(run, key)) as folder:
        record.write(folder)
        write_text(run.evaluation_file, _text({**earlier, key: scores}))
    return scores


def read_scores(run: RunFolder) -> dict[str, Scores]:
    """What evaluation.json holds; nothing where there is none. Raises: RunError when it is damaged."""
    file = run.evaluation_file
    try:
        kept: dict[str, Scores] = {**read_json(file, most_bytes=_MOST_BYTES)} if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged: {error}. Move it away and evaluate again.") from None
    return kept


def scores_key(split: str, head: Head, tta: Sequence[str] = ()) -> str:
    """Where evaluation.json keeps scores: `test` the network's own, `test/trees` with trees, `test/flips+turns`."""
    return "/".join([split, *([] if head == "network" else [head]), *(["+".join(sorted(set(tta)))] if tta else [])])


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


def _text(scores: dict[str, Scores]) -> str:
    """As JSON, a list of numbers on one line: a confusion matrix of 1,000 classes has a million."""
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), json.dumps(scores, indent=2)) + "\n"
