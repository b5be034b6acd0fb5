"""`mnsa evaluate`: score a run on a split of its data set. No other workflow opens test images.

B batch; h, w size of the crops, in pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import SPLITS, Manifest, read_manifest
from mnsa.data.transforms import center_crop_transform
from mnsa.data.validation.validate import require_valid
from mnsa.errors import DataError, ModelError
from mnsa.inference.predictor import Head, Predictor, load
from mnsa.metrics.evaluation_files import (
    EvaluationFolder,
    ImageRow,
    image_columns,
    image_row,
    leave_out_classes,
    read_evaluations,
    save_evaluation,
    topology_cells,
    worst_and_best,
    write_image_rows,
)
from mnsa.metrics.scores import Evaluation, Score, evaluation_key
from mnsa.metrics.scoring import SplitScorer
from mnsa.metrics.torch_metrics import UPSTREAM_BATCH_SIZE, iou_upstream
from mnsa.model.network import Network, pad_to_stride
from mnsa.model_folder import load_network
from mnsa.run_folder import find_run_dataset, open_run_folder
from mnsa.structures import NO_LABEL, Prediction, Sample
from mnsa.traits import Roles, TraitMeasurer, find_roles
from mnsa.visualize.drawing import class_panels, mask_panels, write_panel

Progress = Callable[[int, int], None]
RoleNames = Mapping[str, Sequence[str]]  # `vein`, `leaf`, `lesion` -> names of mask classes, as `find_roles` takes them

_RANKED_COLUMNS = ("iou", "true_probability")  # the worst and the best images by these get pictures


def evaluate_run(
    path: Path, *, split: str = "test", dataset: Path | None = None, head: Head = "network",
    tta: Sequence[str] = (), upstream_iou: bool = False, traits: RoleNames | None = None,
    mask_threshold: float | None = None, repair: bool | None = None, progress: Progress | None = None,
) -> Evaluation:  # fmt: skip
    """Score a run on one split, at the original image size, and save the scores in evaluation.json.

    A row per image, and pictures of the worst and the best images, are saved in predictions/; see
    `mnsa.metrics.evaluation_files`. Each image is predicted on its own, so no score but the upstream IoU depends on a
    batch.

    dataset: folder of another data set than the run's own. head: which class head predicts. tta, mask_threshold,
    repair: as `load` takes them. upstream_iou: add the IoU of the upstream code. traits: measure true and predicted
    masks, too; names as `find_roles` takes them. progress: called with the number of images done and of all.
    Raises: RunError, DataError, ModelError, ConfigError.
    """
    run = open_run_folder(path)
    read_evaluations(run)  # a damaged file is reported before the images are predicted
    manifest = read_manifest(find_run_dataset(run, dataset))
    predictor = load(path, head=head, tta=tta, mask_threshold=mask_threshold, repair=repair)
    require_same_classes(predictor, manifest)
    rows = manifest.split(split)
    if not rows.rows:
        used = [name for name in SPLITS if manifest.split(name).rows]
        raise DataError(
            f"{manifest.name} has no row with split {split!r}. It has {', '.join(used) or 'none'}: use --split val for "
            "the images that have selected the epoch, or make a test split with `mnsa split`, and train again."
        )
    require_valid(rows)
    upstream = [_upstream_score(path, rows)] if upstream_iou else []
    recorder = SplitRecorder(predictor, rows, traits)
    key = evaluation_key(split, head, tta, mask_threshold=mask_threshold, repair=repair)
    evaluation = recorder.score(manifest.name, progress)
    evaluation = replace(evaluation, scores=(*evaluation.scores, *upstream))
    save_evaluation(run, key, evaluation, recorder.write)
    return evaluation


def require_same_classes(predictor: Predictor, manifest: Manifest) -> None:
    """Do nothing when predictor and data have the same class names, as far as both have some. Raises: DataError."""
    for what, ours, theirs in (
        ("classes", predictor.classes, manifest.classes),
        ("mask classes", predictor.mask_classes, manifest.mask_classes),
    ):
        if ours and theirs and ours != theirs:
            raise DataError(
                f"The network has {len(ours)} {what} ({', '.join(ours[:5])}), but {manifest.name} has {len(theirs)} "
                f"({', '.join(theirs[:5])}). Evaluate on data with the same {what} in the same order."
            )


@dataclass
class SplitRecorder:
    """Predict the images of a split and record a row for each. manifest: the rows of the split.

    traits: measure the masks, too; names as `find_roles` takes them. Raises: ModelError when the network predicts no
    masks to measure; ConfigError when no mask class has a role.
    """

    predictor: Predictor
    manifest: Manifest
    traits: RoleNames | None = None
    rows: list[ImageRow] = field(default_factory=list)
    thin_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.roles: Roles | None = None
        if self.traits is not None:
            if not self.predictor.mask_classes:
                raise ModelError("This network predicts no masks, so there is nothing to measure. Leave out --traits.")
            self.roles = find_roles(self.predictor.mask_classes, **self.traits)
        # one unit for all rows: millimeters when each image has a scale
        self.in_mm = all(row.px_per_mm is not None for row in self.manifest.rows)

    def score(self, dataset: str, progress: Progress | None = None) -> Evaluation:
        """Predict all images, add a row for each, and score them. dataset: its name, for the evaluation."""
        scorer = SplitScorer(self.predictor.classes, self.predictor.mask_classes)
        for sample, prediction in self.predict_all():
            scorer.add(sample, prediction)
            if progress is not None:
                progress(len(self.rows), len(self.manifest.rows))
        self.thin_classes = scorer.thin_classes
        for row, topology in zip(self.rows, scorer.topology, strict=True):
            if topology is not None:
                row.update(topology_cells(topology, scorer.mask_classes, self.thin_classes))
        leave_out_classes(self.rows, scorer.mask_classes, scorer.absent_classes)
        return scorer.compute(dataset=dataset, calibrated=self.predictor.calibration is not None)

    def predict_all(self) -> Iterator[tuple[Sample, Prediction]]:
        """Predict image after image, and add a row for each."""
        for index in range(len(self.manifest.rows)):
            sample, prediction = self._predict(index)
            row = image_row(sample, prediction, self.predictor.classes, self.predictor.mask_classes)
            self.rows.append(row | self._measure(index, sample, prediction))
            yield sample, prediction

    def write(self, folder: EvaluationFolder) -> None:
        """Write the rows, and the pictures of the worst and the best images, which are predicted again."""
        columns = image_columns(self.predictor.classes, self.predictor.mask_classes, self.thin_classes)
        if self.roles is not None:
            names = self._measurer(self.roles, 0).columns
            columns += [f"{mask}_{name}" for name in names for mask in ("true", "predicted")]
        write_image_rows(folder, columns, self.rows)
        shown = {column: self._worst_and_best(column) for column in _RANKED_COLUMNS}
        for index in sorted(shown["iou"] | shown["true_probability"]):
            sample, prediction = self._predict(index)
            image, panels = sample.image.permute(1, 2, 0).numpy(), dict[str, np.ndarray]()
            if index in shown["iou"] and sample.mask is not None and prediction.mask is not None:
                panels |= mask_panels(image, sample.mask.numpy(), prediction.mask)
            if index in shown["true_probability"]:
                maps = self._compute_grad_cams(sample, prediction)
                panels |= class_panels(image, attention=prediction.attention, **maps)
            for panel, pixels in panels.items():
                write_panel(pixels, folder.image_path(index, panel))

    def _predict(self, index: int) -> tuple[Sample, Prediction]:
        sample = read_sample(self.manifest, self.manifest.rows[index])
        return sample, self.predictor.predict_image(sample.image, sample.path)

    def _worst_and_best(self, column: str) -> set[int]:
        """The indices of the images with pictures by a column."""
        values = [row.get(column) for row in self.rows]
        worst, best = worst_and_best([value if isinstance(value, float) else None for value in values])
        return {*worst, *best}

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

    def _measure(self, index: int, sample: Sample, prediction: Prediction) -> ImageRow:
        """The traits of both masks, as cells of the image's row."""
        if self.roles is None or prediction.mask is None:
            return {}
        masks = {"predicted": prediction.mask} | ({} if sample.mask is None else {"true": sample.mask.numpy()})
        measurer = self._measurer(self.roles, index)
        return {
            f"{which}_{name}": _parse_value(text)
            for which, mask in masks.items()
            for name, text in measurer.measure_row(mask).items()
        }

    def _measurer(self, roles: Roles, index: int) -> TraitMeasurer:
        return TraitMeasurer(roles, self.manifest.rows[index].px_per_mm if self.in_mm else None)


def compute_upstream_iou(run: Path, manifest: Manifest) -> float:
    """Score a run on the rows that have a mask as the upstream code does; see `iou_upstream`.

    To compare with papers only. Raises: DataError when there is no mask or more than one mask class.
    """
    rows = [row for row in manifest.rows if row.mask]
    network, spec = load_network(run)
    if len(spec.mask_classes) != 1 or not rows:
        raise DataError(
            "The IoU of the upstream code is for one mask class, and needs masks. Leave --iou-upstream out."
        )
    transform = center_crop_transform(spec.data, mean=network.backbone.mean, std=network.backbone.std)
    samples = (read_sample(manifest, row) for row in rows)
    crops = (transform(sample.image, sample.mask) for sample in samples)
    return iou_upstream(_predict_half_size(network, images, masks) for images, masks in _batch_crops(crops))


def _upstream_score(run: Path, manifest: Manifest) -> Score:
    return Score(
        "iou_upstream", compute_upstream_iou(run, manifest), None, "fraction", "segmentation",
        "IoU of the upstream code (too high)", manifest.mask_classes[0],
    )  # fmt: skip


def _batch_crops(crops: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, 3, h, w) and masks (B, h, w); the last batch may be smaller."""
    while batch := list(islice(crops, UPSTREAM_BATCH_SIZE)):
        images, masks = zip(*batch, strict=True)
        yield torch.stack(images), torch.stack(masks)


def _predict_half_size(network: Network, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits (B, 1, h/2, w/2), at any resolution of the mask head, and masks (B, h, w)."""
    images, masks = pad_to_stride(images), pad_to_stride(masks)
    half = images.shape[-2] // 2, images.shape[-1] // 2
    with torch.inference_mode():
        mask_logits = network.segment(network.features(images), images)
        return F.interpolate(mask_logits, half, mode="bilinear"), masks


def _parse_value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
