"""The scores of a run are those of torchmetrics; rows and pictures are those of its predictions."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce
from torchmetrics.functional import classification as theirs

from mnsa.data.dataset import read_sample
from mnsa.data.decode import read_mask
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.errors import ConfigError, DataError, ModelError, RunError
from mnsa.inference.predictor import Predictor, load
from mnsa.metrics.evaluation_files import evaluation_folder, read_evaluations, read_image_rows, worst_and_best
from mnsa.run_folder import RunFolder
from mnsa.traits import TraitMeasurer, find_roles
from mnsa.workflows.evaluate import SplitRecorder, compute_upstream_iou, evaluate_run
from narrowing import some

NO_NAMES = {"vein": (), "leaf": (), "lesion": ()}


@pytest.fixture(scope="module")
def evaluated(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The finished run with scores and traits of its training split. For reading only."""
    run = RunFolder(shutil.copytree(finished.path, tmp_path_factory.mktemp("runs") / "evaluated"))
    evaluate_run(run.path, split="train", traits=NO_NAMES)
    return run


def test_the_scores_are_torchmetrics_of_the_predictions(
    own_run: RunFolder, predictor: Predictor, dataset: Path
) -> None:
    manifest = read_manifest(dataset).split("train")
    samples = [read_sample(manifest, row) for row in manifest.rows]
    answers = [predictor.predict_image(sample.image) for sample in samples]
    probs = torch.stack([torch.from_numpy(answer.class_probs) for answer in answers])
    labels = torch.tensor([sample.label for sample in samples])
    said = torch.stack([torch.from_numpy(answer.mask) for answer in answers]).int()
    true = torch.stack([some(sample.mask) for sample in samples]).int()

    found = evaluate_run(own_run.path, split="train")
    assert (found.images, found.dataset) == (12, "leaves")
    assert found.value("accuracy") == pytest.approx(
        theirs.multiclass_accuracy(probs, labels, 3, average="micro").item()
    )
    assert found.value("macro_f1") == pytest.approx(theirs.multiclass_f1_score(probs, labels, 3).item())
    assert found.confusion == theirs.multiclass_confusion_matrix(probs, labels, 3).tolist()
    assert found.value("iou", "vein") == pytest.approx(theirs.binary_jaccard_index(said, true).item())
    assert found.value("dice", "vein") == pytest.approx(theirs.binary_f1_score(said, true).item())
    per_image = [theirs.binary_jaccard_index(s, t).item() for s, t in zip(said, true, strict=True)]
    assert found.value("iou_per_image", "vein") == pytest.approx(np.mean(per_image))


def test_each_split_has_an_entry_of_its_own(own_run: RunFolder) -> None:
    test, val = evaluate_run(own_run.path, split="test"), evaluate_run(own_run.path, split="val")
    assert read_evaluations(own_run) == {"test": test, "val": val}


def test_the_scores_of_trees_have_an_entry_of_their_own(
    own_run: RunFolder, fitted_trees: RunFolder, dataset: Path
) -> None:
    shutil.copytree(fitted_trees.trees_folder, own_run.trees_folder)
    network, trees = (evaluate_run(own_run.path, head=head) for head in ("network", "trees"))
    assert read_evaluations(own_run) == {"test": network, "test/trees": trees}
    assert trees.of_group("segmentation") == network.of_group("segmentation")
    manifest, answer = read_manifest(dataset).split("test"), load(fitted_trees.path, head="trees").predict_image
    said = [some(answer(read_sample(manifest, row).image).class_probs).argmax() for row in manifest.rows]
    true = [manifest.label_index(row) for row in manifest.rows]
    assert trees.value("accuracy") == np.mean(np.equal(said, true))


def test_the_scores_with_test_time_augmentation_have_an_entry_of_their_own(own_run: RunFolder, dataset: Path) -> None:
    manifest = read_manifest(dataset).split("test")
    found = evaluate_run(own_run.path, tta=["rot90", "flips"])
    assert read_evaluations(own_run) == {"test/flips+rot90": found}
    predictor = load(own_run.path, tta=["flips", "rot90"])
    answers = [predictor.predict_image(read_sample(manifest, row).image) for row in manifest.rows]
    said = torch.stack([torch.from_numpy(answer.mask) for answer in answers]).int()
    true = torch.stack([some(read_sample(manifest, row).mask) for row in manifest.rows]).int()
    assert found.value("iou", "vein") == pytest.approx(theirs.binary_jaccard_index(said, true).item())


def test_another_data_set_with_the_same_classes_can_be_evaluated(own_run: RunFolder, own_dataset: Path) -> None:
    (own_dataset / "dataset.toml").write_text((own_dataset / "dataset.toml").read_text().replace("leaves", "field"))
    assert evaluate_run(own_run.path, dataset=own_dataset).dataset == "field"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["classes", "mask_classes"])
def test_other_classes_are_refused_and_earlier_scores_stay(
    evaluated: RunFolder, own_run: RunFolder, dataset: Path, tmp_path: Path, what: str
) -> None:
    before = evaluated.evaluation_file.read_bytes()
    own_run.evaluation_file.write_bytes(before)
    manifest = read_manifest(dataset)
    names: dict[str, Any] = {"classes": manifest.classes[::-1], "mask_classes": ("background", "vein")}
    write_manifest(replace(manifest, **{what: names[what]}), tmp_path / "other")
    with pytest.raises(DataError, match=what.replace("_", " ")):
        evaluate_run(own_run.path, dataset=tmp_path / "other")
    assert own_run.evaluation_file.read_bytes() == before


def test_a_split_without_rows_is_refused(own_run: RunFolder, dataset: Path, tmp_path: Path) -> None:
    manifest = read_manifest(dataset)
    rows = tuple(row for row in manifest.rows if row.split != "test")
    write_manifest(replace(manifest, rows=rows), tmp_path / "untested")
    with pytest.raises(DataError, match=r"no row with split 'test'.*--split val"):
        evaluate_run(own_run.path, dataset=tmp_path / "untested")


def test_a_broken_image_is_named_before_anything_is_scored(own_run: RunFolder, own_dataset: Path) -> None:
    broken = next(row for row in read_manifest(own_dataset).rows if row.split == "test")
    (own_dataset / broken.image).write_bytes(b"")
    with pytest.raises(DataError, match=broken.image):
        evaluate_run(own_run.path, dataset=own_dataset)
    assert not own_run.evaluation_file.exists()


def test_a_damaged_evaluation_is_not_replaced(own_run: RunFolder) -> None:
    own_run.evaluation_file.write_text("{")
    with pytest.raises(RunError, match=r"evaluation\.json is damaged.*Move it away"):
        evaluate_run(own_run.path)
    assert own_run.evaluation_file.read_text() == "{"


def test_the_error_names_a_data_set_that_was_moved(own_run: RunFolder, own_dataset: Path, tmp_path: Path) -> None:
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps(provenance | {"dataset": str(tmp_path / "gone")}))
    with pytest.raises(RunError, match=r"gone.* add --data"):
        evaluate_run(own_run.path)
    assert evaluate_run(own_run.path, dataset=Path(shutil.move(own_dataset, tmp_path / "found"))).images == 3


@pytest.fixture
def train_rows(evaluated: RunFolder) -> Any:
    """Scores and rows of the training split, measured."""
    return read_evaluations(evaluated)["train"], read_image_rows(evaluation_folder(evaluated, "train"))


def test_a_row_per_image_adds_up_to_the_scores(train_rows: Any, dataset: Path) -> None:
    scores, rows = train_rows
    manifest = read_manifest(dataset).split("train")
    assert [(row["image"], row["label"]) for row in rows] == [(row.image, row.label) for row in manifest.rows]
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert right == pytest.approx(scores.value("accuracy"))
    ious = [float(row["iou_vein"]) for row in rows if row["iou_vein"]]
    assert np.mean(ious) == pytest.approx(scores.value("iou_per_image", "vein"), abs=1e-5)
    for name in ("cldice", "betti0_error", "betti1_error"):
        values = [float(row[f"{name}_vein"]) for row in rows if row[f"{name}_vein"]]
        assert np.mean(values) == pytest.approx(scores.value(name, "vein"), abs=1e-5)


def test_traits_are_those_of_the_true_and_the_predicted_mask_in_millimeters(
    train_rows: Any, dataset: Path, predictor: Predictor
) -> None:
    manifest, rows = read_manifest(dataset).split("train"), train_rows[1]
    row, image = rows[4], manifest.rows[4]
    measurer = TraitMeasurer(find_roles(manifest.mask_classes), image.px_per_mm)
    masks = {
        "true": read_mask(manifest.mask_path(image), 1).numpy(),
        "predicted": some(predictor.predict(manifest.image_path(image)).mask),
    }
    for whose, mask in masks.items():
        expected = measurer.measure_row(mask)["vein_density_mm_per_mm2"]
        assert float(row[f"{whose}_vein_density_mm_per_mm2"] or "nan") == pytest.approx(
            float(expected or "nan"), rel=1e-5, nan_ok=True
        )
    assert float(row["true_vein_density_mm_per_mm2"]) > 0


def test_only_the_worst_and_the_best_images_have_pictures(train_rows: Any, evaluated: RunFolder) -> None:
    rows, folder = train_rows[1], evaluation_folder(evaluated, "train")
    for column, panels in {
        "iou": ("truth", "predicted", "difference"),
        "true_probability": ("grad_cam", "attention"),
    }.items():
        found = worst_and_best([float(row[column]) if row[column] else None for row in rows])
        for panel in panels:
            kept = {int(path.name[:6]) for path in (folder.path / "pictures").glob(f"??????_{panel}.jpg")}
            assert kept == {*found.worst, *found.best}


def test_grad_cam_explains_the_predicted_class_and_the_true_one_where_it_differs(
    own_run: RunFolder, predictor: Predictor, dataset: Path
) -> None:
    manifest = read_manifest(dataset).split("test")
    record, sample = SplitRecorder(predictor, manifest), read_sample(manifest, manifest.rows[0])
    answer = predictor.predict_image(sample.image)
    predicted = int(some(answer.class_probs).argmax())
    for label in range(3):
        maps = record._compute_grad_cams(replace(sample, label=label), answer)
        expected = [predicted] if label == predicted else [predicted, label]
        assert list(maps) == ["grad_cam", "grad_cam_true"][: len(expected)]
        for found, wanted in zip(maps.values(), predictor.compute_grad_cam(sample.image, expected), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_trees_are_not_explained_by_grad_cam(fitted_trees: RunFolder, dataset: Path) -> None:
    manifest, trees = read_manifest(dataset).split("test"), load(fitted_trees.path, head="trees")
    sample = read_sample(manifest, manifest.rows[0])
    assert SplitRecorder(trees, manifest)._compute_grad_cams(sample, trees.predict_image(sample.image)) == {}


def test_trees_have_a_folder_of_their_own(own_run: RunFolder, fitted_trees: RunFolder, dataset: Path) -> None:
    shutil.copytree(fitted_trees.trees_folder, own_run.trees_folder)
    for head in ("network", "trees"):
        evaluate_run(own_run.path, head=head)
    assert sorted(path.name for path in own_run.predictions_folder.iterdir()) == ["test", "test-trees"]
    manifest, trees = read_manifest(dataset).split("test"), load(own_run.path, head="trees")
    predicted = [some(trees.predict(manifest.image_path(row)).class_probs).argmax() for row in manifest.rows]
    rows = read_image_rows(evaluation_folder(own_run, "test/trees"))
    assert [row["predicted"] for row in rows] == [trees.classes[index] for index in predicted]


def test_a_data_set_without_a_scale_everywhere_is_measured_in_pixels(predictor: Predictor, dataset: Path) -> None:
    manifest = read_manifest(dataset).split("test")
    rows = (*manifest.rows[:-1], replace(manifest.rows[-1], px_per_mm=None))
    record = SplitRecorder(predictor, replace(manifest, rows=rows), NO_NAMES)
    list(record.predict_all())
    assert all("predicted_vein_length_px" in row for row in record.rows)


def test_traits_that_cannot_be_measured_are_refused_before_any_prediction(
    own_run: RunFolder, predictor: Predictor, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no mask class 'nerve'"):
        evaluate_run(own_run.path, traits={"vein": ("nerve",)})
    assert not own_run.predictions_folder.exists()
    predictor = load(own_run.path)
    predictor.mask_classes = ()
    with pytest.raises(ModelError, match="predicts no masks"):
        SplitRecorder(predictor, read_manifest(dataset), NO_NAMES)


def test_the_upstream_iou_is_the_mean_over_batches_of_eight_at_half_resolution(
    finished: RunFolder, predictor: Predictor, dataset: Path
) -> None:
    manifest = read_manifest(dataset).split("train")
    samples = [read_sample(manifest, row) for row in manifest.rows]
    inputs = torch.stack([predictor.transform(sample.image)[0] for sample in samples])
    logits = torch.nn.functional.avg_pool2d(some(predictor(inputs).mask_logits), 2)  # bilinear at half the size
    said = (logits[:, 0] > 0).numpy()
    true = np.stack([block_reduce(some(sample.mask).numpy(), (2, 2), np.max) for sample in samples]) > 0
    batches = [slice(0, 8), slice(8, 12)]
    expected = [(said[b] & true[b]).sum() / (said[b] | true[b]).sum() for b in batches]
    assert compute_upstream_iou(finished.path, manifest) == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.slow
def test_evaluate_adds_the_upstream_iou_only_when_asked(
    own_run: RunFolder, dataset: Path, mnsa: Callable[..., Any]
) -> None:
    assert "iou_upstream" not in [score.name for score in evaluate_run(own_run.path).scores]
    asked = mnsa("evaluate", own_run.path, "--iou-upstream")
    assert (asked.code, "upstream" in asked.out) == (0, True)
    score = read_evaluations(own_run)["test"].score("iou_upstream", "vein")
    test_rows = read_manifest(dataset).split("test")
    assert score.value == pytest.approx(compute_upstream_iou(own_run.path, test_rows))


def test_the_upstream_iou_without_masks_is_refused(finished: RunFolder, dataset: Path) -> None:
    manifest = read_manifest(dataset)
    bare = replace(manifest, rows=tuple(replace(row, mask="") for row in manifest.rows))
    with pytest.raises(DataError, match="needs masks"):
        compute_upstream_iou(finished.path, bare)
