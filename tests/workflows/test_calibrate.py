"""Calibration is fitted on validation images, and every prediction uses it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from mnsa.batch.predict_files import predictor_digest
from mnsa.data.manifest import Manifest, read_manifest, write_manifest
from mnsa.errors import DataError, ModelError, RunError
from mnsa.inference.predictor import Predictor, load
from mnsa.model.network import build_network
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import ModelSpec, RunFolder
from mnsa.workflows import calibrate
from mnsa.workflows.calibrate import calibrate_run
from mnsa.workflows.evaluate import evaluate_run
from mnsa.workflows.fit_trees import extract_features
from narrowing import instance_of, some


@pytest.fixture
def more_validation(dataset: Path, tmp_path: Path) -> Callable[..., Path]:
    """The data set with its training leaves as validation too: 15 of them; None leaves a row out."""

    def write(keep: Any = lambda row: row) -> Any:
        manifest = read_manifest(dataset)
        rows = [replace(row, split="val") if row.split == "train" else row for row in manifest.rows]
        kept = tuple(row for row in map(keep, rows) if row)
        folder = tmp_path / f"more-{len(list(tmp_path.glob('more-*')))}"
        write_manifest(replace(manifest, rows=kept), folder)
        return folder

    return write


@pytest.fixture
def calibrated(own_run: RunFolder, more_validation: Callable[..., Path]) -> Callable[..., Path]:
    """A run with a calibration of a temperature and a threshold that bite."""
    calibrate_run(own_run.path, dataset=more_validation())

    def change(**values: Any) -> Any:
        file = own_run.path / "calibration.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return own_run.path

    return change


def test_the_calibration_records_images_and_weights(
    own_run: RunFolder, more_validation: Callable[..., Path], predictor: Predictor
) -> None:
    found = calibrate_run(own_run.path, dataset=more_validation(), target=0.5)
    val = read_manifest(more_validation()).split("val")
    assert found.weights_sha256 == hashlib.sha256((own_run.model_folder / "model.safetensors").read_bytes()).hexdigest()
    probs = np.stack([some(predictor.predict(val.image_path(row)).class_probs) for row in val.rows])
    right = probs.argmax(1) == [val.label_index(row) for row in val.rows]
    kept = json.loads((own_run.path / "calibration.json").read_text())
    assert (kept["split"], kept["images"], kept["correct"], kept["dataset"]) == ("val", 15, right.sum(), "leaves")
    assert kept["temperature"] == found.temperature
    assert kept["log_loss"]["after"] <= kept["log_loss"]["before"] + 1e-9
    before = [bar for bar in kept["reliability"]["before"] if bar["images"]]
    assert sum(bar["images"] * bar["confidence"] for bar in before) == pytest.approx(probs.max(1).sum(), abs=1e-4)
    assert sum(bar["images"] * bar["accuracy"] for bar in before) == pytest.approx(right.sum())


def test_probabilities_are_the_softmax_of_logits_over_the_temperature(
    calibrated: Callable[..., Path], predictor: Predictor, dataset: Path
) -> None:
    loaded = load(calibrated(temperature=3.0))
    val = read_manifest(dataset).split("val")
    logits = extract_features(predictor, val).class_logits.numpy()
    answers = np.stack([some(loaded.predict(val.image_path(row)).class_probs) for row in val.rows])
    np.testing.assert_allclose(answers, softmax(logits / 3, axis=1), atol=1e-6)


@pytest.mark.parametrize(("threshold", "unknown"), [(None, False), (0.0, False), (1.0, True)])
def test_below_the_threshold_the_class_is_unknown_and_top5_keeps_the_names(
    calibrated: Callable[..., Path], dataset: Path, threshold: Any, unknown: Any
) -> None:
    loaded = load(calibrated(threshold=threshold))
    answer = loaded.predict(next((dataset / "images").iterdir()))
    row, best = loaded.prediction_table().row(answer, ""), loaded.classes[some(answer.class_probs).argmax()]
    assert row["predicted"] == ("unknown" if unknown else best)
    assert row["top5"].startswith(f"{best} {row['probability']}")


@pytest.mark.slow
def test_evaluation_adds_the_calibration_error_and_changes_no_other_score(
    calibrated: Callable[..., Path], dataset: Path
) -> None:
    run = calibrated(temperature=3.0)
    scores = evaluate_run(run, split="train")
    answer, manifest = load(run).predict, read_manifest(dataset).split("train")
    probs = torch.stack([torch.from_numpy(answer(manifest.image_path(row)).class_probs) for row in manifest.rows])
    labels = torch.tensor([manifest.label_index(row) for row in manifest.rows])
    expected = multiclass_calibration_error(probs, labels, 3, n_bins=15).item()
    assert scores.value("ece") == pytest.approx(expected, abs=1e-6)
    assert sum(bar.images for bar in scores.reliability) == len(labels)
    (run / "calibration.json").unlink()
    plain = evaluate_run(run, split="train")
    assert (scores.calibrated, plain.calibrated) == (True, False)
    assert plain.confusion == scores.confusion
    for score, other in zip(plain.scores, scores.scores, strict=True):
        assert score == other or score.name == "ece"


@pytest.mark.parametrize("change", [{"temperature": 3.0}, {"threshold": 0.123}])
def test_another_calibration_changes_the_digest_of_a_predictor(calibrated: Callable[..., Path], change: Any) -> None:
    assert predictor_digest(load(calibrated())) != predictor_digest(load(calibrated(**change)))


def test_a_calibration_of_other_weights_is_refused(
    calibrated: Callable[..., Path], more_validation: Callable[..., Path]
) -> None:
    run = calibrated(temperature=7.0)
    network, card = load_network(run)
    instance_of(torch.nn.Linear, some(network.class_head).classifier).bias.data += 1
    save_network(run / "model", network, card)
    with pytest.raises(RunError, match=rf"calibration\.json was fitted for other weights.*mnsa calibrate {run}"):
        load(run)
    calibrate_run(run, dataset=more_validation())
    assert load(run).temperature != 7.0


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"reliability": {}, "temperature": 1}'])
def test_a_damaged_calibration_is_refused(own_run: RunFolder, text: str) -> None:
    (own_run.path / "calibration.json").write_text(text)
    with pytest.raises(RunError, match=r"calibration\.json is damaged.*mnsa calibrate"):
        load(own_run.path)


@pytest.mark.parametrize("values", [{"temperature": 0}, {"temperature": "2"}, {"threshold": 1.5}, {"extra": 1}])
def test_values_out_of_range_are_refused(calibrated: Callable[..., Path], values: Any) -> None:
    with pytest.raises(RunError, match=r"calibration\.json is damaged"):
        load(calibrated(**values))


def test_neither_test_rows_nor_masks_are_opened(
    own_run: RunFolder, own_dataset: Path, more_validation: Callable[..., Path]
) -> None:
    first = calibrate_run(own_run.path, dataset=more_validation())
    manifest = read_manifest(own_dataset)
    rows = tuple(replace(row, split="val") if row.split == "train" else row for row in manifest.rows)
    write_manifest(replace(manifest, rows=rows), own_dataset.with_name("again"))
    for row in rows:
        (own_dataset / row.mask).unlink()
        if row.split == "test":
            (own_dataset / row.image).unlink()
    again = calibrate_run(own_run.path, dataset=own_dataset.with_name("again"))
    assert (again.temperature, again.threshold) == (first.temperature, first.threshold)


def test_fewer_than_ten_labeled_validation_images_are_refused(
    own_run: RunFolder, more_validation: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match="3 labeled images with split `val`; fewer than 10"):
        calibrate_run(own_run.path)
    unlabeled = more_validation(lambda row: replace(row, label="") if row.label == "cultivar_02" else row)
    assert calibrate_run(own_run.path, dataset=unlabeled).images == 10
    fewer = more_validation(lambda row: row if row.label == "cultivar_01" else replace(row, label=""))
    before = (own_run.path / "calibration.json").read_bytes()
    with pytest.raises(DataError, match="5 labeled images"):
        calibrate_run(own_run.path, dataset=fewer)
    assert (own_run.path / "calibration.json").read_bytes() == before


def test_a_calibration_without_a_meaning_says_so(
    own_run: RunFolder, more_validation: Callable[..., Path], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def features(predictor: Predictor, rows: Manifest) -> Any:
        labels = torch.tensor([rows.label_index(row) for row in rows.rows])
        logits = torch.zeros(len(labels), 3)
        logits[torch.arange(len(labels)), (labels + torch.arange(len(labels)) % 2) % 3] = 50.0  # every second is wrong
        return SimpleNamespace(class_logits=logits, labels=labels)

    monkeypatch.setattr(calibrate, "extract_features", features)
    calibrate_run(own_run.path, dataset=more_validation())
    assert "temperature ended at its bound, 20" in caplog.text
    caplog.clear()
    monkeypatch.setattr(calibrate, "extract_features", lambda *given: _shifted(features(*given)))
    calibrate_run(own_run.path, dataset=more_validation())
    assert "5: the accuracy may be chance" in caplog.text


def _shifted(found: Any) -> Any:
    """All but a few predictions name another class."""
    return SimpleNamespace(class_logits=found.class_logits.roll(1, dims=1), labels=found.labels)


def test_a_run_without_a_class_head_is_refused(own_run: RunFolder) -> None:
    card = load_network(own_run.path)[1]
    segmenter = ModelSpec(card.model, card.data, (), card.mask_classes)
    save_network(own_run.model_folder, build_network(card.model, 0, 1), segmenter)
    with pytest.raises(ModelError, match="has no class head"):
        calibrate_run(own_run.path)


def test_trees_are_not_calibrated(
    fitted_trees: RunFolder, tmp_path: Path, more_validation: Callable[..., Path]
) -> None:
    run = shutil.copytree(fitted_trees.path, tmp_path / "fitted_trees")
    calibrate_run(run, dataset=more_validation())
    with_trees = load(run, head="trees")
    assert (with_trees.temperature, with_trees.threshold, with_trees.calibration) == (1.0, None, None)
