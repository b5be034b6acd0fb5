"""Checks before training: report at once what would fail, or give a useless network, hours later."""

import logging
from collections.abc import Sequence

import torch

from mnsa.config import Config, LossConfig
from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest
from mnsa.data.transforms import eval_transform
from mnsa.data.validation.consistency import mask_class_areas, mask_class_findings
from mnsa.data.validation.inspect import MaskInfo
from mnsa.errors import ConfigError, DataError
from mnsa.model.ops.soft_skeleton import cross
from mnsa.own_parts import load_own_part
from mnsa.training.loggers import require_loggers

_MASKS_LOOKED_AT = 8
_WIDE_FRACTION = 0.25  # of a class's pixels; lines have next to none

logger = logging.getLogger(__name__)


def require_trainable(config: Config, manifest: Manifest) -> None:
    """Check that config and data fit together. No image is opened. Raises: ConfigError, DataError."""
    if "classification" in config.tasks:
        _require_labels(config, manifest)
    if "segmentation" in config.tasks:
        _require_masks(manifest)
        thin_class_values(config.loss, manifest.mask_classes)
    _require_selectable(config)
    if config.loss.mask_guidance > 0 and not any(row.mask for row in manifest.split("train").rows):
        raise DataError(
            f"loss.mask_guidance needs masks, but {manifest.name} has none in split `train`. "
            "Add a mask column to manifest.csv and mask_classes to dataset.toml, or set loss.mask_guidance to 0."
        )
    if any(stage.batch_size == 1 for stage in config.stages):
        raise ConfigError("A stage has batch_size = 1, but BatchNorm needs several images. Use 2 or more.")
    for name in config.loss.own:
        load_own_part("losses", name)
    require_loggers(config)


def require_mask_pixels(config: Config, manifest: Manifest, masks: Sequence[MaskInfo | None]) -> None:
    """Check that train and val have pixels of a mask class, and log a warning for each class without one.

    Raises: DataError when nothing could be learned, or no epoch selected.
    """
    if "segmentation" not in config.tasks:
        return
    areas = mask_class_areas(manifest, masks)
    for split in ("train", "val"):
        if not areas[split][1:].any():
            raise DataError(
                f"{manifest.name}: the masks of split `{split}` have no pixel of a mask class, only background. "
                "Add images with marked pixels, or train without segmentation."
            )
    for finding in mask_class_findings(manifest, masks):
        logger.warning("%s: %s %s. %s.", manifest.name, finding.file, finding.reason, finding.fix)


def thin_class_values(loss: LossConfig, mask_classes: Sequence[str]) -> tuple[int, ...]:
    """Return the mask values of `loss.thin_classes`: all but the background if it is empty. One class has value 1.

    Raises: ConfigError for a name that is no mask class.
    """
    values = {name: value for value, name in enumerate(mask_classes, start=len(mask_classes) == 1)}
    if unknown := [name for name in loss.thin_classes if name not in values]:
        raise ConfigError(
            f"loss.thin_classes has {unknown[0]!r}, which is no mask class of the data set. "
            f"Use one or several of: {', '.join(mask_classes)}."
        )
    return tuple(sorted({values[name] for name in loss.thin_classes})) or tuple(range(1, max(2, len(mask_classes))))


def warn_about_wide_classes(config: Config, manifest: Manifest) -> None:
    """Log a warning for each thin class that isn't thin, such as a leaf, in some training masks of the input's size.

    Wide are pixels that are left after `cldice_iterations` + 1 erosions: the soft skeleton has no centerline for them.
    """
    loss, names = config.loss, manifest.mask_classes
    if not loss.needs_centerlines or "segmentation" not in config.tasks:
        return
    rows = [row for row in manifest.split("train").rows if row.mask]
    samples = [read_sample(manifest, row) for row in rows[:: -(-len(rows) // _MASKS_LOOKED_AT)]]
    transform = eval_transform(config.data, (0.0,) * 3, (1.0,) * 3)
    masks = [transform(sample.image, sample.mask)[1] for sample in samples]
    for value in thin_class_values(loss, names):
        structures = [(mask == value).byte() for mask in masks]
        area, wide = sum(int(s.sum()) for s in structures), 0
        for structure in structures:
            eroded = structure
            for _ in range(loss.cldice_iterations + 1):
                eroded = cross(torch.minimum, eroded)
            wide += int(eroded.sum())
        if wide > _WIDE_FRACTION * area:
            logger.warning(
                f"loss.cldice, loss.skeleton_recall and loss.centerline are for lines, but much of mask class "
                f"{names[value - (len(names) == 1)]!r} is more than {2 * loss.cldice_iterations + 1} px wide "
                "(2 * loss.cldice_iterations + 1). Leave it out of loss.thin_classes, or raise cldice_iterations."
            )


def _require_selectable(config: Config) -> None:
    select_by, task = config.train.select_by, "segmentation"
    if select_by == "accuracy":
        task = "classification"
    if select_by != "auto" and task not in config.tasks:
        raise ConfigError(
            f"train.select_by = {select_by!r} needs a stage that trains {task}, and there is none. "
            f"Set train.select_by to 'auto', or add {task!r} to the tasks of a stage."
        )


def _require_labels(config: Config, manifest: Manifest) -> None:
    count = len(manifest.classes)
    if config.model.classes not in (None, count):
        raise DataError(
            f"The config expects {config.model.classes} classes (model.classes), but {manifest.name} has {count}. "
            "Remove model.classes to use the number in the data set, or choose another data set."
        )
    labels = {row.label for row in manifest.split("train").rows}
    if count == 1:
        masks = (
            ", or train masks alone: mnsa train --tasks segmentation" if any(row.mask for row in manifest.rows) else ""
        )
        raise DataError(
            f"{manifest.name} has one class, {manifest.classes[0]}, and nothing to tell it from. Add images of another "
            f"class{masks}."
        )
    if missing := [name for name in manifest.classes if name not in labels]:
        raise DataError(
            f"{manifest.name}: dataset.toml lists {count} classes, but {len(missing)} of them have no training image: "
            f"{', '.join(missing[:5])}. Add images, or remove these names from `classes`."
        )
    if not any(row.label for row in manifest.split("val").rows):
        raise DataError(f"{manifest.name} has no row with a label in split `val`, so the best epoch can't be selected.")


def _require_masks(manifest: Manifest) -> None:
    for split in ("train", "val"):
        if not manifest.mask_classes or not any(row.mask for row in manifest.split(split).rows):
            raise DataError(
                f"A stage trains segmentation, but {manifest.name} has no masks in split `{split}`. "
                "Add a mask column to manifest.csv and mask_classes to dataset.toml, or train labels alone: "
                "mnsa train --tasks classification."
            )


def require_rows(manifest: Manifest, processes: int) -> None:
    """Refuse more processes than there are training or validation rows. Raises: ConfigError."""
    for split in ("train", "val"):
        rows = len(manifest.split(split).rows)
        if 0 < rows < processes:
            raise ConfigError(
                f"{processes} processes can't share {rows} rows of split {split!r}: each needs one. Lower --devices."
            )
