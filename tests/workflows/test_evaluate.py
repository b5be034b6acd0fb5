"""The scores of a run are those that torchmetrics finds in its predictor's answers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as theirs

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.errors import DataError, RunError
from mnsa.inference.predictor import load
from mnsa.inference.run_evaluation import evaluate_run, scores_key


def test_the_scores_are_torchmetrics_of_the_predictors_answers(own_run, predictor, dataset):
    manifest = read_manifest(dataset).split("train")
    samples = [read_sample(manifest, row) for row in manifest.rows]
    answers = [predictor.predict_image(sample.image) for sample in samples]
    probs = torch.stack([torch.from_numpy(answer.class_probs) for answer in answers])
    labels = torch.tensor([sample.label for sample in samples])
    said = torch.stack([torch.from_numpy(answer.mask) for answer in answers]).int()
    true = torch.stack([sample.mask for sample in samples]).int()

    scores = evaluate_run(own_run.path, split="train")
    classes, vein = scores["classification"], scores["segmentation"]["classes"]["vein"]
    assert (scores["images"], scores["dataset"]) == (12, "leaves")
    assert classes["accuracy"] == pytest.approx(theirs.multiclass_accuracy(probs, labels, 3, average="micro").item())
    assert classes["macro_f1"] == pytest.approx(theirs.multiclass_f1_score(probs, labels, 3).item())
    assert classes["confusion"] == theirs.multiclass_confusion_matrix(probs, labels, 3).tolist()
    assert vein["iou"] == pytest.approx(theirs.binary_jaccard_index(said, true).item())
    assert vein["dice"] == pytest.approx(theirs.binary_f1_score(said, true).item())
    per_image = [theirs.binary_jaccard_index(s, t).item() for s, t in zip(said, true, strict=True)]
    assert vein["iou_per_image"] == pytest.approx(np.mean(per_image))


def test_each_split_is_kept_beside_the_others(own_run):
    test, val = evaluate_run(own_run.path, split="test"), evaluate_run(own_run.path, split="val")
    assert json.loads(own_run.evaluation_file.read_text()) == {"test": test, "val": val}


def test_the_scores_of_trees_are_kept_apart_from_the_networks(own_run, grown, dataset):
    shutil.copytree(grown.trees_folder, own_run.trees_folder)
    network, trees = (evaluate_run(own_run.path, head=head) for head in ("network", "trees"))
    assert json.loads(own_run.evaluation_file.read_text()) == {"test": network, "test/trees": trees}
    assert trees["segmentation"] == network["segmentation"]
    manifest, answer = read_manifest(dataset).split("test"), load(grown.path, head="trees").predict_image
    said = [answer(read_sample(manifest, row).image).class_probs.argmax() for row in manifest.rows]
    true = [manifest.label_index(row) for row in manifest.rows]
    assert trees["classification"]["accuracy"] == np.mean(np.equal(said, true))


def test_the_scores_of_views_are_kept_apart_from_the_plain_ones(own_run, dataset):
    manifest = read_manifest(dataset).split("test")
    found = evaluate_run(own_run.path, tta=["turns", "flips"])
    assert json.loads(own_run.evaluation_file.read_text()) == {"test/flips+turns": found}
    predictor = load(own_run.path, tta=["flips", "turns"])
    answers = [predictor.predict_image(read_sample(manifest, row).image) for row in manifest.rows]
    said = torch.stack([torch.from_numpy(answer.mask) for answer in answers]).int()
    true = torch.stack([read_sample(manifest, row).mask for row in manifest.rows]).int()
    vein = found["segmentation"]["classes"]["vein"]
    assert vein["iou"] == pytest.approx(theirs.binary_jaccard_index(said, true).item())


@pytest.mark.parametrize(
    ("head", "tta", "key"),
    [("network", (), "val"), ("trees", (), "val/trees"), ("trees", ["scales"], "val/trees/scales")],
)
def test_each_way_to_answer_has_a_key_of_its_own(head, tta, key):
    assert scores_key("val", head, tta) == key


def test_another_data_set_with_the_same_classes_can_be_scored(own_run, own_dataset):
    (own_dataset / "dataset.toml").write_text((own_dataset / "dataset.toml").read_text().replace("leaves", "field"))
    assert evaluate_run(own_run.path, dataset=own_dataset)["dataset"] == "field"


@pytest.mark.parametrize("what", ["classes", "mask_classes"])
def test_other_classes_are_refused_and_earlier_scores_stay(own_run, dataset, tmp_path, what):
    evaluate_run(own_run.path)
    before = own_run.evaluation_file.read_bytes()
    manifest = read_manifest(dataset)
    names = {"classes": manifest.classes[::-1], "mask_classes": ("background", "vein")}[what]
    write_manifest(replace(manifest, **{what: names}), tmp_path / "other")
    with pytest.raises(DataError, match=what.replace("_", " ")):
        evaluate_run(own_run.path, dataset=tmp_path / "other")
    assert own_run.evaluation_file.read_bytes() == before


def test_a_split_without_rows_is_refused(own_run, dataset, tmp_path):
    manifest = read_manifest(dataset)
    rows = tuple(row for row in manifest.rows if row.split != "test")
    write_manifest(replace(manifest, rows=rows), tmp_path / "untested")
    with pytest.raises(DataError, match=r"no row with split 'test'.*another --split"):
        evaluate_run(own_run.path, dataset=tmp_path / "untested")


def test_a_broken_image_is_named_before_anything_is_scored(own_run, own_dataset):
    broken = next(row for row in read_manifest(own_dataset).rows if row.split == "test")
    (own_dataset / broken.image).write_bytes(b"")
    with pytest.raises(DataError, match=broken.image):
        evaluate_run(own_run.path, dataset=own_dataset)
    assert not own_run.evaluation_file.exists()


def test_a_damaged_evaluation_is_not_written_over(own_run):
    own_run.evaluation_file.write_text("{")
    with pytest.raises(RunError, match=r"evaluation\.json is damaged.*Move it away"):
        evaluate_run(own_run.path)
    assert own_run.evaluation_file.read_text() == "{"


def test_a_data_set_that_has_moved_is_named(own_run, own_dataset, tmp_path):
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps(provenance | {"dataset": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="gone"):
        evaluate_run(own_run.path)
    assert evaluate_run(own_run.path, dataset=shutil.move(own_dataset, tmp_path / "found"))["images"] == 3
