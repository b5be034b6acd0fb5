"""How masks are made is chosen on validation images, and only what improves them there is kept."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mnsa.config import DataConfig, ModelConfig
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.errors import DataError
from mnsa.inference.postprocessing import Postprocessing
from mnsa.inference.predictor import load
from mnsa.metrics.topology import betti_numbers
from mnsa.model.network import build_network
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import ModelSpec, RunFolder
from mnsa.workflows.calibrate import calibrate_all
from mnsa.workflows.fit_postprocessing import (
    MAX_SIDE_PX,
    ClassScores,
    Example,
    choose_bias,
    choose_postprocessing,
    describe,
    fit_after_training,
    fit_postprocessing,
    search_steps,
)

SPEC = ModelSpec(ModelConfig(), DataConfig(size=(64, 64), resize_mode="crop"), (), ("vein",))


def grid(seed: int, *, gap_prob: float, blur: float = 0.8) -> Example:
    """A grid of veins, 96 px, and probabilities of it: smooth, with gaps of 2 px in which they are `gap_prob`."""
    truth = np.zeros((96, 96), np.uint8)
    truth[8:89:16, 8:89] = truth[8:89, 8:89:16] = 1
    probs = gaussian_filter(truth.astype(float), blur)
    probs = 0.9 * probs / probs.max()
    generator = np.random.default_rng(seed)
    for row, column in np.argwhere(truth)[generator.choice(int(truth.sum()), 25, replace=False)]:
        here = probs[row - 1 : row + 2, column - 1 : column + 2]
        here *= gap_prob / here.max()
    return Example((255 * probs).round().astype(np.uint8)[None], truth, 1.0)


def blobs(seed: int, shift: float) -> Example:
    """Round lesions, and probabilities that are too high or too low by `shift` logits."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(96, 96)), 6)
    logits = 6 * (noise / noise.std() - 1)
    probs = 1 / (1 + np.exp(-(logits + shift)))
    return Example((255 * probs).round().astype(np.uint8)[None], (logits > 0).astype(np.uint8), 1.0)


def test_gaps_of_veins_are_closed_where_validation_improves() -> None:
    examples = [grid(seed, gap_prob=0.25) for seed in range(4)]
    chosen = choose_postprocessing(examples, SPEC)
    repair = chosen.classes["vein"].repair
    assert repair is not None
    assert repair.min_prob < 0.25
    true = betti_numbers(examples[0].truth == 1)
    assert true == (1, 25)
    assert betti_numbers(examples[0].probs[0] > 127) != true
    assert "gaps closed from" in describe(chosen)


def test_specks_are_removed_rather_than_connected() -> None:
    examples = []
    for seed in range(4):
        one = grid(seed, gap_prob=0.9)
        probs = 255 * one.truth[None]
        for row, column in np.random.default_rng(seed).integers(0, 5, (4, 2)) * 16 + 14:
            probs[0, row : row + 3, column : column + 3] = 200  # a speck inside an areole ...
            probs[0, row + 1, column - 6 : column] = 60  # ... with a faint path to the next vein
        examples.append(one._replace(probs=probs))
    chosen = choose_postprocessing(examples, SPEC).classes["vein"]
    assert chosen.min_area_px > 9
    assert chosen.repair is None


def test_a_better_outline_never_costs_topology() -> None:
    scores = {
        0.5: ClassScores(0.90, 0.9, is_thin=True, values={"betti0_error": 1.0, "betti1_error": 1.0}),
        0.4: ClassScores(0.93, 0.9, is_thin=True, values={"betti0_error": 0.0, "betti1_error": 2.5}),
        0.6: ClassScores(0.92, 0.9, is_thin=True, values={"betti0_error": 1.5, "betti1_error": 0.5}),
    }

    def thresholds(now: Postprocessing) -> list[Postprocessing]:
        return [replace(now, threshold=value) for value in scores]

    def choose(min_dice: float) -> float:
        return search_steps(lambda one: scores[one.threshold], Postprocessing(), [thresholds], min_dice).threshold

    assert choose(min_dice=0.8) == 0.6
    assert choose(min_dice=0.95) == 0.5  # none has such a Dice


def test_perfect_masks_stay_as_they_are() -> None:
    examples = [one._replace(probs=255 * one.truth[None]) for one in (grid(seed, gap_prob=0.3) for seed in range(3))]
    assert choose_postprocessing(examples, SPEC) == Postprocessing()


def test_lesions_get_the_threshold_of_the_best_dice_and_nothing_else() -> None:
    chosen = choose_postprocessing([blobs(seed, 1.3) for seed in range(4)], SPEC)
    assert chosen.threshold > 0.6
    assert chosen.classes == {}
    assert choose_postprocessing([blobs(seed, 0.0) for seed in range(4)], SPEC) == Postprocessing()


def test_the_bias_undoes_a_shift_of_the_logits() -> None:
    generator = np.random.default_rng(3)
    logits = np.stack([gaussian_filter(generator.normal(size=(80, 80)), 3) for _ in range(3)])
    logits *= 4 / logits.std()
    shifted = logits + np.array([0.0, 1.5, -1.0])[:, None, None]
    probs = np.exp(shifted) / np.exp(shifted).sum(0)
    example = Example((255 * probs).round().astype(np.uint8), logits.argmax(0).astype(np.uint8), 1.0)
    np.testing.assert_allclose(choose_bias([example], 3), [0, -1.5, 1], atol=0.3)
    plain = np.exp(logits) / np.exp(logits).sum(0)
    assert choose_bias([example._replace(probs=(255 * plain).round().astype(np.uint8))], 3) == ()


def test_unknown_pixels_and_images_without_veins_do_no_harm() -> None:
    empty = Example(np.zeros((1, 64, 64), np.uint8), np.zeros((64, 64), np.uint8), 1.0)
    assert choose_postprocessing([empty, empty, empty], SPEC) == Postprocessing()
    unknown = empty._replace(truth=np.full((64, 64), 255, np.uint8))
    assert choose_postprocessing([unknown, unknown, unknown], SPEC) == Postprocessing()
    several = [grid(0, gap_prob=0.25), grid(1, gap_prob=0.25), grid(2, gap_prob=0.25)]
    assert choose_postprocessing([*several, empty], SPEC).classes["vein"].repair


def test_a_run_gets_a_file_that_its_predictions_use(own_run: RunFolder, dataset: Path) -> None:
    fitted = fit_postprocessing(own_run.path)
    assert fitted is not None
    kept = json.loads((own_run.path / "postprocessing.json").read_text())
    assert (kept["split"], kept["images"], kept["dataset"]) == ("val", 3, "leaves")
    assert load(own_run.path).mask_maker.postprocessing == fitted.postprocessing
    assert set(kept["scores"]) == {"before", "after"}
    assert kept["scores"]["after"]["vein"]["dice"] >= kept["scores"]["before"]["vein"]["dice"] - 0.006


def test_neither_test_nor_training_rows_are_opened(own_run: RunFolder, own_dataset: Path) -> None:
    first = fit_postprocessing(own_run.path, dataset=own_dataset)
    manifest = read_manifest(own_dataset)
    for row in manifest.rows:
        if row.split != "val":
            (own_dataset / row.image).unlink()
            (own_dataset / row.mask).unlink()
    assert fit_postprocessing(own_run.path, dataset=own_dataset) == first


def test_with_few_masks_nothing_is_chosen(own_run: RunFolder, dataset: Path, tmp_path: Path) -> None:
    manifest = read_manifest(dataset)
    rows = tuple(replace(row, mask="") if row.split == "val" else row for row in manifest.rows)
    write_manifest(replace(manifest, rows=rows), tmp_path / "no masks")
    assert fit_postprocessing(own_run.path, dataset=tmp_path / "no masks") is None
    assert not (own_run.path / "postprocessing.json").exists()
    with pytest.raises(DataError, match="fewer than 10"):
        calibrate_all(own_run.path, dataset=tmp_path / "no masks")


def test_a_run_without_a_class_head_is_calibrated_by_its_masks(own_run: RunFolder) -> None:
    card = load_network(own_run.path)[1]
    segmenter = ModelSpec(card.model, card.data, (), card.mask_classes)
    save_network(own_run.model_folder, build_network(card.model, 0, 1), segmenter)
    found = calibrate_all(own_run.path)
    assert found.classes is None
    assert found.masks is not None
    assert "no class head" in found.problem


def test_after_training_a_missing_data_set_is_logged(
    own_run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps(provenance | {"dataset": str(tmp_path / "gone")}))
    fit_after_training(own_run)
    assert "threshold 0.5" in caplog.text
    assert not (own_run.path / "postprocessing.json").exists()


@pytest.mark.parametrize("wanted", [True, False])
def test_training_chooses_at_its_end_if_the_config_says_so(own_run: RunFolder, wanted: bool) -> None:
    text = own_run.config_file.read_text()
    assert "postprocessing = true" in text
    own_run.config_file.write_text(text.replace("postprocessing = true", f"postprocessing = {str(wanted).lower()}"))
    fit_after_training(own_run)
    assert (own_run.path / "postprocessing.json").exists() == wanted


def test_only_the_part_around_the_mask_of_a_large_image_is_used(
    own_run: RunFolder, own_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnsa.workflows.fit_postprocessing.MAX_SIDE_PX", 20)
    seen: list[Any] = []

    def choose(examples: Any, _: ModelSpec) -> Postprocessing:
        seen.extend(examples)
        return Postprocessing()

    monkeypatch.setattr("mnsa.workflows.fit_postprocessing.choose_postprocessing", choose)
    fit_postprocessing(own_run.path, dataset=own_dataset)
    assert [(one.probs.shape, one.truth.shape) for one in seen] == [((1, 20, 20), (20, 20))] * 3
    assert all(one.truth.any() for one in seen)
    assert MAX_SIDE_PX > 20


@pytest.mark.slow
def test_the_commands_choose_and_say_what_it_brought(
    mnsa: Callable[..., Any], config_file: Path, dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert mnsa("train", config_file, "--data", dataset, "--out", run, "--set", "stages.joint.epochs=1").code == 0
    first = (run / "postprocessing.json").read_bytes()
    shutil.move(run / "postprocessing.json", tmp_path / "first.json")
    ending = mnsa("calibrate", run)
    assert ending.code == 0
    assert (run / "postprocessing.json").read_bytes() == first
    assert "dice of vein" in ending.out
    assert "Classes are not calibrated" in ending.out
