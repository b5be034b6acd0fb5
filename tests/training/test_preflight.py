"""Configs and data sets that don't fit together are an error before any image is opened."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.config import Config, LossConfig
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.inspect import MaskInfo
from mnsa.errors import ConfigError, DataError
from mnsa.training.preflight import (
    require_mask_pixels,
    require_rows,
    require_trainable,
    thin_class_values,
    warn_about_wide_classes,
)


@pytest.fixture
def manifest(dataset: Path) -> Manifest:
    return read_manifest(dataset)


def without(manifest: Any, split: str, column: str) -> Any:
    """Return the manifest with a column emptied in one split."""
    rows = (replace(row, **{column: ""}) if row.split == split else row for row in manifest.rows)
    return replace(manifest, rows=tuple(rows))


def test_a_config_that_fits_the_data_is_accepted(make_config: Callable[..., Config], manifest: Manifest) -> None:
    require_trainable(make_config(), manifest)


@pytest.mark.parametrize(
    ("split", "column", "reason"),
    [
        ("train", "mask", "no masks in split `train`"),
        ("val", "mask", "no masks in split `val`"),
        ("val", "label", "the best epoch can't be selected"),
        ("train", "label", "3 of them have no training image"),
    ],
)
def test_a_task_needs_labels_or_masks_in_train_and_val(
    make_config: Callable[..., Config], manifest: Manifest, split: str, column: str, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        require_trainable(make_config(), without(manifest, split, column))


def masks_of(manifest: Any, *pixels_of_split: Any) -> list[Any]:
    """The same mask for all rows of train, of val and of test."""
    pixels = dict(zip(("train", "val", "test"), pixels_of_split, strict=True))
    return [MaskInfo((4, 4), 1, "", pixels[row.split]) for row in manifest.rows]


def test_masks_need_pixels_in_train_and_val(make_config: Callable[..., Config], manifest: Manifest) -> None:
    require_mask_pixels(make_config(), manifest, masks_of(manifest, (10, 6), (10, 6), (10, 6)))
    for pixels in (((16, 0), (10, 6), (10, 6)), ((10, 6), (16, 0), (10, 6))):
        with pytest.raises(DataError, match="have no pixel of a mask class"):
            require_mask_pixels(make_config(), manifest, masks_of(manifest, *pixels))


def test_a_mask_class_without_a_pixel_is_logged(
    make_config: Callable[..., Config], manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    named = replace(manifest, mask_classes=("background", "leaf", "vein"))
    require_mask_pixels(make_config(), named, masks_of(named, (10, 6, 0), (10, 6, 0), (10, 6, 0)))
    require_mask_pixels(make_config(), named, masks_of(named, (10, 6, 1), (10, 6, 0), (10, 6, 1)))
    first, second = (record.getMessage() for record in caplog.records)
    assert "has mask class 'vein', of no mask's pixels" in first
    assert "has no pixel of mask class 'vein' in the masks of split val" in second


def test_a_task_without_a_stage_needs_no_labels(make_config: Callable[..., Config], manifest: Manifest) -> None:
    stage = {"tasks": ("segmentation",), "trainable": ("backbone", "enhancer", "decoder")}
    require_trainable(make_config(stage), without(without(manifest, "train", "label"), "val", "label"))


def test_model_classes_must_equal_the_number_in_the_data(
    make_config: Callable[..., Config], manifest: Manifest
) -> None:
    require_trainable(make_config(model={"classes": 3}), manifest)
    with pytest.raises(DataError, match="expects 200 classes"):
        require_trainable(make_config(model={"classes": 200}), manifest)


def test_a_batch_of_one_image_is_an_error(make_config: Callable[..., Config], manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="batch_size = 1"):
        require_trainable(make_config({"batch_size": 1}), manifest)


@pytest.mark.parametrize(
    ("mask_classes", "thin", "values"),
    [
        (("vein",), (), (1,)),
        (("vein",), ("vein",), (1,)),
        (("background", "vein", "lesion"), (), (1, 2)),
        (("background", "vein", "lesion"), ("lesion", "vein", "lesion"), (1, 2)),
        (("background", "vein", "lesion"), ("lesion",), (2,)),
    ],
)
def test_thin_classes_are_named_and_by_default_all_but_the_background(
    mask_classes: tuple[str, ...], thin: tuple[str, ...], values: tuple[int, ...]
) -> None:
    assert thin_class_values(LossConfig(thin_classes=thin), mask_classes) == values


def test_a_thin_class_that_the_data_set_does_not_have_is_an_error(
    make_config: Callable[..., Config], manifest: Manifest
) -> None:
    config = make_config(loss={"thin_classes": ("vien",)})
    with pytest.raises(ConfigError, match=r"loss\.thin_classes has 'vien'.* Use one or several of: vein\."):
        require_trainable(config, manifest)


@pytest.mark.parametrize(("width", "warns"), [(7, False), (30, True)])
def test_a_thin_class_that_is_wide_is_warned_about(
    make_config: Callable[..., Config], own_dataset: Path, caplog: pytest.LogCaptureFixture, width: int, warns: bool
) -> None:
    manifest = read_manifest(own_dataset)
    values = np.zeros((64, 64), np.uint8)
    values[:, 20 : 20 + width] = 255
    for row in manifest.split("train").rows:
        Image.fromarray(values).save(manifest.mask_path(row))
    warn_about_wide_classes(make_config(), manifest)
    assert not caplog.records
    warn_about_wide_classes(make_config(loss={"cldice": 0.5, "cldice_iterations": 3}), manifest)
    assert ("mask class 'vein' is more than 7 px wide" in caplog.text) == warns
    assert len(caplog.records) == warns


@pytest.mark.parametrize(
    ("select_by", "task", "lacks"),
    [
        ("iou", "classification", "segmentation"),
        ("cldice", "classification", "segmentation"),
        ("betti", "classification", "segmentation"),
        ("accuracy", "segmentation", "classification"),
    ],
)
def test_a_score_that_no_stage_can_give_is_refused(
    make_config: Callable[..., Config], manifest: Manifest, select_by: str, task: str, lacks: str
) -> None:
    parts = {"classification": ("backbone", "attention", "class_head"), "segmentation": ("enhancer", "decoder")}
    alone = {"tasks": (task,), "trainable": parts[task]}
    other = {"name": "other", "tasks": (lacks,), "trainable": parts[lacks]}
    with pytest.raises(ConfigError, match=f"train.select_by = '{select_by}' needs a stage that trains {lacks}"):
        require_trainable(make_config(alone, train={"select_by": select_by}), manifest)
    require_trainable(make_config(alone, other, train={"select_by": select_by}), manifest)


def test_more_processes_than_rows_are_refused(manifest: Manifest) -> None:
    require_rows(manifest, 3)
    with pytest.raises(ConfigError, match="4 processes can't share 3 rows of split 'val'"):
        require_rows(manifest, 4)
