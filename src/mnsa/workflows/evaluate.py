"""`mnsa evaluate`: score a run on a split of its data set. Only this workflow opens test images.

B batch; h, w size of the crops, in pixels.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.transforms import center_crop_transform
from mnsa.data.validation.validate import require_valid
from mnsa.errors import DataError, ModelError, RunError
from mnsa.inference.predictor import Head, Predictor, load
from mnsa.io import atomic_write_text, lock, read_json
from mnsa.metrics.evaluation_folder import (
    EvaluationFolder,
    evaluation_folder,
    replace_evaluation_folder,
    write_image_rows,
)
from mnsa.metrics.functional import UPSTREAM_BATCH_SIZE, iou_upstream
from mnsa.metrics.per_image import ImageRow, image_columns, image_row, worst_and_best
from mnsa.metrics.scoring import Scores, score_predictions
from mnsa.model.network import Network, pad_to_stride
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder, open_run_folder, read_run_dataset
from mnsa.structures import NO_LABEL, Prediction, Sample
from mnsa.traits import Roles, TraitMeasurer, find_roles
from mnsa.visualize.panels import class_panels, mask_panels, write_panel


def compute_upstream_iou(run: Path, manifest: Manifest) -> float:
    """Score a run on the rows that have a mask, for comparison with published figures only; see `iou_upstream`.

    Raises: DataError when there is no mask or more than one mask class.
    """
    rows = [row for row in manifest.rows if row.mask]
    network, card = load_network(run)
    if len(card.mask_classes) != 1 or not rows:
        raise DataError("The released code's IoU is for one mask class, and needs masks. Leave --iou-upstream out.")
    transform = center_crop_transform(card.data, mean=network.backbone.mean, std=network.backbone.std)
    samples = (read_sample(manifest, row) for row in rows)
    crops = (transform(sample.image, sample.mask) for sample in samples)
    return iou_upstream(_predict_half_size(network, images, masks) for images, masks in _batch_crops(crops))


def _batch_crops(crops: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, 3, h, w) and masks (B, h, w); the last batch may be smaller."""
    while batch := list(islice(crops, UPSTREAM_BATCH_SIZE)):
        images, masks = zip(*batch, strict=True)
        yield torch.stack(images), torch.stack(masks)


def _predict_half_size(network: Network, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits (B, 1, h/2, w/2), whatever the head's own resolution, and masks (B, h, w)."""
    images, masks = pad_to_stride(images), pad_to_stride(masks)
    half = images.shape[-2] // 2, images.shape[-1] // 2
    with torch.inference_mode():
        mask_logits = network.segment(network.features(images), images)
        return F.interpolate(mask_logits, half, mode="bilinear"), masks


RoleNames = Mapping[str, Sequence[str]]  # `vein`, `leaf`, `lesion` -> names of mask classes, as `find_roles` takes them


@dataclass
class SplitRecorder:
    """Rows that grow while a split is answered. traits: measure the masks, too; its names as `find_roles` takes them.

    Raises: ModelError when there are no masks to measure; ConfigError when no mask class has a role.
    """

    predictor: Predictor
    manifest: Manifest
    traits: RoleNames | None = None
    rows: list[ImageRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roles: Roles | None = None
        if self.traits is not None:
            if not self.predictor.mask_classes:
                raise ModelError("This network finds no masks, so there is nothing to measure. Leave out --traits.")
            self.roles = find_roles(self.predictor.mask_classes, **self.traits)
        # one unit for all: millimeters when each image has a scale
        self.in_mm = all(row.px_per_mm is not None for row in self.manifest.rows)

    def pairs(self) -> Iterator[tuple[Sample, Prediction]]:
        """Answer image after image, and note a row of each."""
        for index in range(len(self.manifest.rows)):
            sample, prediction = self._predict(index)
            row = image_row(sample, prediction, self.predictor.classes, self.predictor.mask_classes)
            self.rows.append(row | self._measure(index, sample, prediction))
            yield sample, prediction

    def write(self, folder: EvaluationFolder) -> None:
        """Write the rows, and predict once more the few images whose pictures are kept."""
        columns = image_columns(self.predictor.classes, self.predictor.mask_classes)
        if self.roles is not None:
            names = self._measurer(0).columns
            columns += [f"{whose}_{name}" for name in names for whose in ("true", "predicted")]
        write_image_rows(folder, columns, self.rows)
        shown = {name: _worst_and_best(self.rows, name) for name in ("iou", "true_probability")}
        for index in sorted({place for places in shown.values() for place in places}):
            sample, prediction = self._predict(index)
            image, panels = sample.image.permute(1, 2, 0).numpy(), dict[str, np.ndarray]()
            if index in shown["iou"] and sample.mask is not None and prediction.mask is not None:
                panels |= mask_panels(image, sample.mask.numpy(), prediction.mask)
            if index in shown["true_probability"]:
                maps = self._compute_grad_cams(sample, prediction)
                panels |= class_panels(image, attention=prediction.attention, **maps)
            for panel, pixels in panels.items():
                write_panel(pixels, folder.image_path(index, panel))

    def _compute_grad_cams(self, sample: Sample, prediction: Prediction) -> dict[str, np.ndarray]:
        """Grad-CAM of the predicted class (`grad_cam`), and of the true one where it differs (`grad_cam_true`)."""
        if prediction.class_probs is None or not self.predictor.can_explain:
            return {}
        predicted = int(prediction.class_probs.argmax())
        explained = {"grad_cam": predicted}
        if sample.label not in (predicted, NO_LABEL):
            explained["grad_cam_true"] = sample.label
        maps = self.predictor.compute_grad_cam(sample.image, list(explained.values()))
        return dict(zip(explained, maps, strict=True))

    def _predict(self, index: int) -> tuple[Sample, Prediction]:
        sample = read_sample(self.manifest, self.manifest.rows[index])
        return sample, self.predictor.predict_image(sample.image, sample.path)

    def _measure(self, index: int, sample: Sample, prediction: Prediction) -> ImageRow:
        if self.roles is None or prediction.mask is None:
            return {}
        measurer = self._measurer(index)
        row: ImageRow = {
            f"predicted_{name}": _parse_value(text) for name, text in measurer.measure_row(prediction.mask).items()
        }
        if sample.mask is not None:
            row |= {
                f"true_{name}": _parse_value(text) for name, text in measurer.measure_row(sample.mask.numpy()).items()
            }
        return row

    def _measurer(self, index: int) -> TraitMeasurer:
        assert self.roles is not None  # noqa: S101 - whoever measures has looked
        return TraitMeasurer(self.roles, self.manifest.rows[index].px_per_mm if self.in_mm else None)


def _worst_and_best(rows: Sequence[ImageRow], column: str) -> list[int]:
    """The images that are shown for a column: the worst, then the best."""
    values = [row.get(column) for row in rows]
    found = worst_and_best([value if isinstance(value, float) else None for value in values])
    return [*found.worst, *found.best]


def _parse_value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


_MAX_BYTES = 1 << 28

_NUMBER_LIST = re.compile(r"\[\n[-+.,\d\seE]+\]")  # no text of JSON holds a line break


def evaluate_run(
    path: Path, *, split: str = "test", dataset: Path | None = None, head: Head = "network",
    tta: Sequence[str] = (), upstream_iou: bool = False, traits: RoleNames | None = None,
) -> Scores:  # fmt: skip
    """Score a run on one split, at the images' own size, and keep the scores in evaluation.json under `scores_key`.

    A row per image, and pictures of the worst and the best, are kept in predictions/ (`evaluation_folder`).
    dataset: another data set than the one the run was trained on. head: who says the class. tta: test-time
    augmentation, as `load` takes it. upstream_iou: add the released code's own figure. traits: measure true and
    predicted masks, too; names as `find_roles` takes them. Each image is answered on its own, so no other number
    depends on a batch.
    Raises: RunError, DataError, ModelError, ConfigError.
    """
    run = open_run_folder(path)
    manifest = read_manifest(dataset or read_run_dataset(run)[0])
    predictor = load(path, head=head, tta=tta)
    require_same_classes(predictor, manifest)
    rows = manifest.split(split)
    if not rows.rows:
        raise DataError(f"{manifest.name} has no row with split {split!r}. Choose another --split.")
    require_valid(rows)
    released = {"iou_upstream": compute_upstream_iou(path, rows)} if upstream_iou else {}
    record, key = SplitRecorder(predictor, rows, traits), scores_key(split, head, tta)
    scores = score_predictions(
        record.pairs(), predictor.classes, predictor.mask_classes, calibrated=predictor.calibration is not None
    )
    scores["dataset"] = manifest.name
    scores.get("segmentation", {}).update(released)
    with lock(run.evaluation_lock_file):  # another process may evaluate another split
        earlier = read_scores(run)
        with replace_evaluation_folder(evaluation_folder(run, key)) as folder:
            record.write(folder)
            atomic_write_text(run.evaluation_file, _format_json({**earlier, key: scores}))
    return scores


def read_scores(run: RunFolder) -> dict[str, Scores]:
    """What evaluation.json holds; nothing where there is none. Raises: RunError when it is damaged."""
    file = run.evaluation_file
    try:
        kept: dict[str, Scores] = {**read_json(file, max_bytes=_MAX_BYTES)} if file.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged: {error}. Move it away and evaluate again.") from None
    return kept


def scores_key(split: str, head: Head, tta: Sequence[str] = ()) -> str:
    """Where evaluation.json keeps scores: `test` the network's own, `test/trees` with trees, `test/flips+rot90`."""
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


def _format_json(scores: dict[str, Scores]) -> str:
    """As JSON, a list of numbers on one line: a confusion matrix of 1,000 classes has a million."""
    return _NUMBER_LIST.sub(lambda found: " ".join(found[0].split()), json.dumps(scores, indent=2)) + "\n"
