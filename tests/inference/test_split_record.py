"""What evaluating a split leaves behind: rows that say what the predictor answers, and pictures of a few."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from mnsa.data.images import read_mask
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, ModelError
from mnsa.evaluation.per_image import extremes
from mnsa.inference.evaluated_folder import evaluated_folder, read_image_rows
from mnsa.inference.predictor import load
from mnsa.inference.run_evaluation import evaluate_run
from mnsa.inference.split_record import SplitRecord
from mnsa.traits import Ruler, find_roles

NO_NAMES = {"vein": (), "leaf": (), "lesion": ()}


@pytest.fixture
def train_rows(own_run):
    """Scores and rows of the training split, measured."""
    scores = evaluate_run(own_run.path, split="train", traits=NO_NAMES)
    return scores, read_image_rows(evaluated_folder(own_run, "train"))


def test_a_row_per_image_adds_up_to_the_scores(train_rows, dataset):
    scores, rows = train_rows
    manifest = read_manifest(dataset).split("train")
    assert [(row["image"], row["label"]) for row in rows] == [(row.image, row.label) for row in manifest.rows]
    right = np.mean([row["label"] == row["said"] for row in rows])
    assert right == pytest.approx(scores["classification"]["accuracy"])
    ious = [float(row["iou_vein"]) for row in rows if row["iou_vein"]]
    assert np.mean(ious) == pytest.approx(scores["segmentation"]["classes"]["vein"]["iou_per_image"], abs=1e-5)


def test_traits_are_those_of_the_true_mask_and_of_the_answer_in_millimetres(train_rows, dataset, predictor):
    manifest, rows = read_manifest(dataset).split("train"), train_rows[1]
    row, image = rows[4], manifest.rows[4]
    ruler = Ruler(find_roles(manifest.mask_classes), image.px_per_mm)
    masks = {
        "true": read_mask(manifest.mask_path(image), 1).numpy(),
        "said": predictor.predict(manifest.image_path(image)).mask,
    }
    for whose, mask in masks.items():
        expected = ruler.row(mask)["vein_density_mm_per_mm2"]
        assert float(row[f"{whose}_vein_density_mm_per_mm2"] or "nan") == pytest.approx(
            float(expected or "nan"), rel=1e-5, nan_ok=True
        )
    assert float(row["true_vein_density_mm_per_mm2"]) > 0


def test_pictures_are_kept_of_the_worst_and_the_best_alone(train_rows, own_run):
    rows, folder = train_rows[1], evaluated_folder(own_run, "train")
    for column, panels in {
        "iou": ("truth", "said", "difference"),
        "true_probability": ("grad_cam", "attention"),
    }.items():
        found = extremes([float(row[column]) if row[column] else None for row in rows])
        for panel in panels:
            kept = {int(path.name[:6]) for path in (folder.path / "pictures").glob(f"??????_{panel}.jpg")}
            assert kept == {*found.worst, *found.best}


def test_trees_have_a_folder_of_their_own(own_run, grown, dataset):
    shutil.copytree(grown.trees_folder, own_run.trees_folder)
    for head in ("network", "trees"):
        evaluate_run(own_run.path, head=head)
    assert sorted(path.name for path in own_run.predictions_folder.iterdir()) == ["test", "test-trees"]
    manifest, trees = read_manifest(dataset).split("test"), load(own_run.path, head="trees")
    said = [trees.predict(manifest.image_path(row)).class_probs.argmax() for row in manifest.rows]
    rows = read_image_rows(evaluated_folder(own_run, "test/trees"))
    assert [row["said"] for row in rows] == [trees.classes[index] for index in said]


def test_a_data_set_without_a_scale_everywhere_is_measured_in_pixels(predictor, dataset):
    manifest = read_manifest(dataset).split("test")
    rows = (*manifest.rows[:-1], replace(manifest.rows[-1], px_per_mm=None))
    record = SplitRecord(predictor, replace(manifest, rows=rows), NO_NAMES)
    list(record.pairs())
    assert all("said_vein_length_px" in row for row in record.rows)


def test_what_cannot_be_measured_is_refused_before_anything_is_answered(own_run, predictor, dataset, tmp_path):
    with pytest.raises(ConfigError, match="no mask class 'nerve'"):
        evaluate_run(own_run.path, traits={"vein": ("nerve",)})
    assert not own_run.predictions_folder.exists()
    predictor = load(own_run.path)
    predictor.mask_classes = ()
    with pytest.raises(ModelError, match="finds no masks"):
        SplitRecord(predictor, read_manifest(dataset), NO_NAMES)
