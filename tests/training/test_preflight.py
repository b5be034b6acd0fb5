"""What would fail hours later, or mislead, is refused before anything is opened or built."""

from dataclasses import replace

import pytest

from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, DataError
from mnsa.training.preflight import require_trainable


@pytest.fixture
def manifest(dataset):
    return read_manifest(dataset)


def without(manifest, split, column):
    """The manifest whose rows of a split have lost what a column says."""
    rows = (replace(row, **{column: ""}) if row.split == split else row for row in manifest.rows)
    return replace(manifest, rows=tuple(rows))


def test_a_sound_pair_is_let_through(make_config, manifest):
    require_trainable(make_config(), manifest)


@pytest.mark.parametrize(
    ("split", "column", "reason"),
    [
        ("train", "mask", "no masks in split `train`"),
        ("val", "mask", "no masks in split `val`"),
        ("val", "label", "nothing can choose the best epoch"),
        ("train", "label", "3 of them have no training image"),
    ],
)
def test_a_task_needs_its_truth_to_learn_from_and_to_choose_by(make_config, manifest, split, column, reason):
    with pytest.raises(DataError, match=reason):
        require_trainable(make_config(), without(manifest, split, column))


def test_a_task_that_no_stage_has_needs_nothing(make_config, manifest):
    stage = {"tasks": ("segmentation",), "trainable": ("backbone", "enhancer", "decoder")}
    require_trainable(make_config(stage), without(without(manifest, "train", "label"), "val", "label"))


def test_the_config_may_insist_on_a_number_of_classes(make_config, manifest):
    require_trainable(make_config(model={"classes": 3}), manifest)
    with pytest.raises(DataError, match="expects 200 classes"):
        require_trainable(make_config(model={"classes": 200}), manifest)


def test_a_batch_of_one_image_is_refused(make_config, manifest):
    with pytest.raises(ConfigError, match="batch_size = 1"):
        require_trainable(make_config({"batch_size": 1}), manifest)
