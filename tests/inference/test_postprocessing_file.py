"""postprocessing.json belongs to its weights, and every way to a mask uses it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnsa.batch.predict_files import predict_files, predictor_digest
from mnsa.data.decode import read_image
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, RunError
from mnsa.inference.postprocessing import ClassPostprocessing, Postprocessing
from mnsa.inference.postprocessing_file import (
    FittedPostprocessing,
    choose_postprocessing,
    load_postprocessing,
    save_postprocessing,
)
from mnsa.inference.predictor import Predictor, load
from mnsa.inference.repair import Repair
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import RunFolder, weights_digest
from mnsa.workflows.evaluate import evaluate_run
from narrowing import some


@pytest.fixture
def chosen(predictor: Predictor, dataset: Path) -> Postprocessing:
    """A threshold and hysteresis that change the masks of the finished run."""
    image = read_image(sorted((dataset / "images").iterdir())[0])
    with torch.inference_mode():
        probs = predictor.network(predictor.preprocess(image)[None]).mask_logits.sigmoid()
    high, low = (float(probs.quantile(level)) for level in (0.97, 0.9))
    return Postprocessing(threshold=high, classes={"vein": ClassPostprocessing(low_threshold=low, min_area_px=6)})


@pytest.fixture
def with_file(own_run: RunFolder, chosen: Postprocessing) -> Callable[..., Path]:
    """A run with postprocessing.json; keys are values that differ in it."""

    def make(**values: Any) -> Path:
        fitted = FittedPostprocessing(chosen, "by hand", "val", 3, {}, "leaves", "", weights_digest(own_run.path))
        file = save_postprocessing(own_run.path, fitted)
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return own_run.path

    return make


def test_what_is_saved_is_loaded(with_file: Callable[..., Path], chosen: Postprocessing) -> None:
    found = load_postprocessing(with_file(), ["vein"])
    assert found is not None
    assert (found.postprocessing, found.rule, found.images) == (chosen, "by hand", 3)


def test_without_the_file_a_mask_is_where_the_logit_is_positive(own_run: RunFolder, dataset: Path) -> None:
    plain = load(own_run.path)
    image = read_image(sorted((dataset / "images").iterdir())[0])
    with torch.inference_mode():
        expected = plain.network(plain.preprocess(image)[None]).mask_logits[0, 0] > 0
    np.testing.assert_array_equal(plain.predict_image(image).mask, expected)


def test_each_way_to_a_mask_uses_the_file(with_file: Callable[..., Path], dataset: Path, tmp_path: Path) -> None:
    run, paths = with_file(), sorted((dataset / "images").iterdir())[:3]
    by_file, plain = load(run), load(run, mask_threshold=0.5)
    masks = [some(by_file.predict(path).mask) for path in paths]
    assert any((mask != plain.predict(path).mask).any() for mask, path in zip(masks, paths, strict=True))
    assert all(mask.any() for mask in masks)
    predict_files(by_file, paths, tmp_path / "out", batch_size=2)
    for path, mask in zip(paths, masks, strict=True):
        written = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{path.stem}.png"))
        np.testing.assert_array_equal(written > 0, mask > 0)
    same_engine = Predictor(
        *load_network(run), engine=plain.network.__call__, postprocessing=by_file.mask_maker.postprocessing
    )
    np.testing.assert_array_equal(same_engine.predict(paths[0]).mask, masks[0])


def test_evaluation_scores_the_masks_of_the_file(with_file: Callable[..., Path], dataset: Path) -> None:
    run, test = with_file(), read_manifest(dataset).split("test")
    by_file = load(run)
    counts = np.zeros(2)
    for row in test.rows:
        predicted = some(by_file.predict(test.image_path(row)).mask) > 0
        true = np.asarray(Image.open(dataset / row.mask)) > 0
        counts += [(predicted & true).sum(), (predicted | true).sum()]
    expected = counts[0] / counts[1]
    assert evaluate_run(run).value("iou", "vein") == pytest.approx(expected)
    assert evaluate_run(run, mask_threshold=0.5).value("iou", "vein") != pytest.approx(expected)
    assert {"test", "test/mask threshold 0.5"} <= set(json.loads((run / "evaluation.json").read_text()))


def test_another_postprocessing_changes_the_digest_of_a_predictor(with_file: Callable[..., Path]) -> None:
    digests = {predictor_digest(load(with_file(), mask_threshold=value)) for value in (None, 0.5, 0.4)}
    assert len(digests) == 3


def test_the_file_of_other_weights_is_refused(with_file: Callable[..., Path]) -> None:
    run = with_file()
    network, card = load_network(run)
    next(iter(network.parameters())).data += 1
    save_network(run / "model", network, card)
    with pytest.raises(RunError, match=rf"postprocessing\.json was fitted for other weights.*mnsa calibrate {run}"):
        load(run)
    assert load(run, mask_threshold=0.4).mask_maker.postprocessing == Postprocessing(threshold=0.4)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"postprocessing": {}}', "NaN"])
def test_a_damaged_file_is_refused(own_run: RunFolder, text: str) -> None:
    (own_run.path / "postprocessing.json").write_text(text)
    with pytest.raises(RunError, match=r"postprocessing\.json is damaged.*mnsa calibrate"):
        load(own_run.path)


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": float("nan"), "bias": [], "classes": {}},
        {"threshold": 0.5, "bias": [1.0], "classes": {}},
        {"threshold": 0.5, "bias": [], "classes": {"leaf": {}}},
        {"threshold": 0.5, "bias": [], "classes": {"vein": {"min_area_px": "9"}}},
    ],
)
def test_values_out_of_range_are_refused(with_file: Callable[..., Path], values: Any) -> None:
    with pytest.raises(RunError, match=r"postprocessing\.json is damaged"):
        load(with_file(postprocessing=values))


@pytest.mark.parametrize("threshold", [0, 1, -1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(own_run: RunFolder, threshold: float) -> None:
    with pytest.raises(ConfigError, match="mask threshold"):
        load(own_run.path, mask_threshold=threshold)


@pytest.mark.parametrize("stored", [None, Repair(0.2, 0.3)])
def test_repair_can_be_chosen_beside_the_file(with_file: Callable[..., Path], stored: Repair | None) -> None:
    one: Any = {"low_threshold": None, "min_area_px": 3.0, "min_hole_px": 0.0}
    one["repair"] = stored and asdict(stored)
    run = with_file(postprocessing={"threshold": 0.4, "bias": [], "classes": {"vein": one}})
    found = {repair: load(run, repair=repair).mask_maker.postprocessing for repair in (None, False, True)}
    assert all((one.threshold, one.classes["vein"].min_area_px) == (0.4, 3) for one in found.values())
    repairs = {repair: one.classes["vein"].repair for repair, one in found.items()}
    assert repairs == {None: stored, False: None, True: stored or Repair()}
    plain = choose_postprocessing(run, ["vein"], threshold=0.6, repair=True)
    assert plain == Postprocessing(0.6, classes={"vein": ClassPostprocessing(repair=stored or Repair())})


def test_of_several_classes_those_with_the_name_of_veins_are_repaired(tmp_path: Path) -> None:
    chosen = choose_postprocessing(tmp_path, ["background", "leaf", "vein"], repair=True)
    assert chosen.classes == {"vein": ClassPostprocessing(repair=Repair())}
    with pytest.raises(ConfigError, match="--repair"):
        choose_postprocessing(tmp_path, ["background", "leaf", "lesion"], repair=True)
    assert choose_postprocessing(tmp_path, ["background", "leaf", "lesion"], repair=False) == Postprocessing()
    with pytest.raises(ConfigError, match="one mask class; this one has 3"):
        choose_postprocessing(tmp_path, ["background", "leaf", "lesion"], threshold=0.4)


def test_the_command_takes_a_threshold(
    mnsa: Callable[..., Any], refused: Callable[..., str], with_file: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    run, image = with_file(), sorted((dataset / "images").iterdir())[0]
    assert mnsa("predict", run, image, "--mask-threshold", 0.3, "--out", tmp_path / "out").code == 0
    written = np.asarray(Image.open(next((tmp_path / "out" / "masks").iterdir())))
    np.testing.assert_array_equal(written > 0, some(load(run, mask_threshold=0.3).predict(image).mask) > 0)
    assert "mask threshold" in refused("predict", run, image, "--mask-threshold", 1.5, "--out", tmp_path / "other")
