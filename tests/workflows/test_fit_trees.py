"""Trees learn from what the class head reads of training images; validation chooses them; test is not touched."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.errors import DataError, ModelError, RunError
from mnsa.inference.predictor import Predictor, load
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import ModelSpec, RunFolder
from mnsa.workflows.fit_trees import extract_features, fit_trees
from narrowing import some


@pytest.fixture
def change(dataset: Path, tmp_path: Path) -> Callable[..., Path]:
    """The data set with the rows that `keep` returns; None leaves a row out."""

    def write(keep: Any) -> Path:
        manifest = read_manifest(dataset)
        rows = tuple(row for row in map(keep, manifest.rows) if row)
        write_manifest(replace(manifest, rows=rows), tmp_path / "changed")
        return tmp_path / "changed"

    return write


def test_the_features_are_what_reaches_the_classifier(predictor: Predictor, dataset: Path) -> None:
    manifest = read_manifest(dataset).split("train")
    seen = []
    hook = some(predictor.network.class_head).classifier.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0])
    )
    samples = [read_sample(manifest, row) for row in manifest.rows]
    with hook:
        answers = [predictor.predict_image(sample.image) for sample in samples]
    pooled = extract_features(predictor, manifest)
    torch.testing.assert_close(pooled.features, torch.cat(seen))
    assert pooled.labels.tolist() == [sample.label for sample in samples]
    probs = np.stack([some(answer.class_probs) for answer in answers])
    np.testing.assert_allclose(pooled.class_logits.softmax(1).numpy(), probs, atol=1e-6)


def test_the_card_says_how_they_were_grown_and_what_each_head_scores(
    fitted_trees: RunFolder, predictor: Predictor, dataset: Path
) -> None:
    card = json.loads((fitted_trees.trees_folder / "trees.json").read_text())
    assert card["classes"] == ["cultivar_01", "cultivar_02", "cultivar_03"]
    assert card["features"] == predictor.network.backbone.channels[-1]
    assert (card["dataset"], card["dataset_digest"]) == ("leaves", read_manifest(dataset).digest())
    assert (card["images"], card["unseen_classes"]) == ({"train": 12, "val": 3}, [])
    assert (card["seed"], card["trials"]) == (1, 2)
    assert card["versions"].keys() == {"mnsa", "xgboost", "optuna"}
    val = read_manifest(dataset).split("val")
    for head, scores in card["validation"].items():
        answer = load(fitted_trees.path, head=head).predict_image
        probs = np.stack([some(answer(read_sample(val, row).image).class_probs) for row in val.rows])
        labels = np.array([val.label_index(row) for row in val.rows])
        assert scores["accuracy"] == pytest.approx((probs.argmax(1) == labels).mean())
        assert scores["log_loss"] == pytest.approx(-np.log(probs[range(3), labels]).mean(), abs=1e-4)
    assert card["validation"].keys() == {"network", "trees"}


def test_the_same_seed_fits_the_same_trees(own_run: RunFolder, fitted_trees: RunFolder) -> None:
    fit_trees(own_run.path, trials=2)
    for name in ("model.ubj", "trees.json"):
        assert (own_run.trees_folder / name).read_bytes() == (fitted_trees.trees_folder / name).read_bytes()


def test_neither_test_rows_nor_masks_are_opened(own_run: RunFolder, own_dataset: Path, fitted_trees: RunFolder) -> None:
    for row in read_manifest(own_dataset).rows:
        (own_dataset / row.mask).unlink()
        if row.split == "test":
            (own_dataset / row.image).unlink()
    fit_trees(own_run.path, trials=2, dataset=own_dataset)
    assert (own_run.trees_folder / "model.ubj").read_bytes() == (fitted_trees.trees_folder / "model.ubj").read_bytes()


def test_rows_without_a_label_are_left_out(own_run: RunFolder, change: Callable[..., Path]) -> None:
    first = {"train": 0, "val": 0}

    def keep(row: Any) -> Any:
        if row.split in first and not first[row.split]:
            first[row.split] = 1
            return replace(row, label="")
        return row

    assert fit_trees(own_run.path, trials=1, dataset=change(keep)).images == {"train": 11, "val": 2}


def test_a_class_without_a_training_image_is_named(own_run: RunFolder, change: Callable[..., Path]) -> None:
    other = change(lambda row: None if row.split == "train" and row.label == "cultivar_02" else row)
    card = fit_trees(own_run.path, trials=1, dataset=other)
    assert card.unseen_classes == ("cultivar_02",)
    assert card.images == {"train": 8, "val": 3}
    manifest = read_manifest(other)
    probs = some(load(own_run.path, head="trees").predict(manifest.image_path(manifest.rows[0])).class_probs)
    assert probs.shape == (3,)
    assert probs.argmin() == 1


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda row: None if row.split == "val" else row, "no labeled row with split `val`"),
        (lambda row: replace(row, label=""), "no labeled row with split `train`"),
        (lambda row: row if row.label == "cultivar_01" else None, "every training row is cultivar_01"),
    ],
)
def test_data_that_trees_cannot_learn_from_are_refused(
    own_run: RunFolder, change: Callable[..., Path], keep: Callable[..., Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        fit_trees(own_run.path, trials=1, dataset=change(keep))
    assert not own_run.trees_folder.exists()


def test_other_classes_are_refused(own_run: RunFolder, dataset: Path, tmp_path: Path) -> None:
    manifest = read_manifest(dataset)
    write_manifest(replace(manifest, classes=manifest.classes[::-1]), tmp_path / "other")
    with pytest.raises(DataError, match="same classes in the same order"):
        fit_trees(own_run.path, dataset=tmp_path / "other")


def test_trees_that_exist_are_left_as_they_are(own_run: RunFolder) -> None:
    own_run.trees_folder.mkdir()
    with pytest.raises(RunError, match=r"trees exists and was not changed\. Remove it"):
        fit_trees(own_run.path)
    assert not list(own_run.trees_folder.iterdir())


def test_an_interrupted_fit_leaves_nothing(own_run: RunFolder) -> None:
    before = set(own_run.path.iterdir())

    def stop(trial: Any, log_loss: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_trees(own_run.path, trials=2, progress=stop)
    assert set(own_run.path.iterdir()) == before


def test_a_run_without_a_class_head_is_refused(own_run: RunFolder) -> None:
    from mnsa.model.network import build_network

    card = load_network(own_run.path)[1]
    segmenter = ModelSpec(card.model, card.data, (), card.mask_classes)
    save_network(own_run.model_folder, build_network(card.model, 0, 1), segmenter)
    for use in (fit_trees, lambda run: load(run, head="trees")):
        with pytest.raises(ModelError, match="has no class head"):
            use(own_run.path)
