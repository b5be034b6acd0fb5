"""The verbs of the command line: output, exit code and help."""

import csv
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.cli.app import app
from mnsa.cli.import_data import import_app
from mnsa.data.manifest import read_manifest
from mnsa.run_folder import RunFolder
from mnsa.training.module import StageModule

VERBS: list[list[Any]] = [
    [getattr(command.callback, "__name__", "").replace("_", "-")] for command in app.registered_commands
]
VERBS += [["import", command.name] for command in import_app.registered_commands]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_of_every_verb_has_an_example(mnsa: Callable[..., Any], verb: list[str]) -> None:
    help_of = mnsa(*verb, "--help")
    assert help_of.code == 0
    assert f"mnsa {' '.join(verb)} " in help_of.out.partition("Example:")[2]


def test_the_main_help_shows_commands_from_photos_to_predictions(mnsa: Callable[..., Any]) -> None:
    examples = " ".join(mnsa("--help").out.partition("Example:")[2].split())
    places = [examples.index(f"mnsa {verb} ") for verb in ("import folders", "train", "predict")]
    assert places == sorted(places)


@pytest.mark.parametrize(("typed", "offered"), [("mnsa ev", "evaluate"), ("mnsa import fo", "folders")])
def test_a_shell_completes_verbs(
    mnsa: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    monkeypatch.setenv("_MNSA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert mnsa().out.split() == [offered]


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom mnsa.cli import main\n"
        f"for verb in {[[], *VERBS]!r}:\n"
        "    sys.argv = ['mnsa', *verb, '--help']\n"
        "    try:\n        main()\n    except SystemExit as ending:\n        assert not ending.code\n"
        "assert not {'torch', 'lightning', 'timm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_python_m_mnsa_runs_the_same_command() -> None:
    finished = subprocess.run([sys.executable, "-m", "mnsa", "--help"], check=True, capture_output=True, text=True)
    assert "synth" in finished.stdout


def test_synth_generates_a_data_set(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "leaves"
    generated = mnsa("synth", "--cultivars", 2, "--per-cultivar", 5, "--size", 64, "--workers", 1, out)
    assert (generated.code, generated.out) == (0, f"10 leaves of 2 cultivars in {out}\n")
    assert len(read_manifest(out).rows) == 10


def test_synth_generates_varied_leaves(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "leaves"
    generated = mnsa("synth", "--kind", "varied", "--images", 2, "--size", 64, "--workers", 1, "--class-per-order", out)
    assert (generated.code, generated.out) == (0, f"2 varied leaves in {out}\n")
    assert read_manifest(out).mask_classes == ("vein1", "vein2", "vein3")


def test_import_folders_writes_a_manifest(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    for row in read_manifest(dataset).rows:
        copy = tmp_path / "photos" / row.label / row.image.rsplit("/", 1)[1]
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((dataset / row.image).read_bytes())
    assert mnsa("import", "folders", tmp_path / "photos", "--out", tmp_path / "set").code == 0
    manifest = read_manifest(tmp_path / "set")
    assert (len(manifest.rows), manifest.classes) == (18, read_manifest(dataset).classes)


def test_import_csv_writes_a_manifest(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    imported = mnsa(
        "import", "csv", dataset / "manifest.csv", "--mask", "mask", "--label", "label", "--split", "split",
        "--mask-class", "vein", "--drop-label", "cultivar_02", "--out", tmp_path / "set",
    )  # fmt: skip
    assert (imported.code, imported.out.splitlines()[0]) == (
        0,
        f"12 images, 2 classes, 1 mask classes: {tmp_path / 'set'}",
    )
    assert read_manifest(tmp_path / "set").mask_classes == ("vein",)


@pytest.mark.slow
def test_train_evaluate_and_predict_follow_each_other(
    mnsa: Callable[..., Any], dataset: Path, config_file: Path, tmp_path: Path
) -> None:
    run, predictions = tmp_path / "run", tmp_path / "predictions"
    trained = mnsa("train", config_file, "--data", dataset, "--out", run, "--set", "stages.joint.epochs=1")
    assert trained.code == 0
    assert trained.out.endswith(f"Trained: {run / 'model'}. Evaluate it: mnsa evaluate {run}\n")
    evaluated = mnsa("evaluate", run, "--split", "val")
    assert evaluated.code == 0
    assert "leaves, split val, 3 images" in evaluated.out
    predicted = mnsa("predict", run, dataset / "images", "--out", predictions)
    assert predicted.code == 0
    assert predicted.out.startswith(f"18 predicted, 0 failed: {predictions / 'predictions.csv'}\n")
    assert len(list((predictions / "overlays").iterdir())) == 18


def test_trees_are_fitted_evaluated_and_used_for_prediction(
    mnsa: Callable[..., Any], own_run: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    fitted = mnsa("fit-trees", own_run.path, "--trials", 2, "--seed", 3)
    assert fitted.code == 0
    assert [line.split()[1] for line in fitted.out.splitlines()[:2]] == ["1/2", "2/2"]
    assert "leaves, split val, 3 images" in fitted.out
    assert fitted.out.endswith(f"compare on test: mnsa evaluate {own_run.path} --head trees\n")
    evaluated = mnsa("evaluate", own_run.path, "--head", "trees")
    assert (evaluated.code, "leaves, split test/trees, 3 images" in evaluated.out) == (0, True)
    leaf = sorted((dataset / "images").iterdir())[0]
    predictions = {}
    for head in ("network", "trees"):
        assert mnsa("predict", own_run.path, leaf, "--out", tmp_path / head, "--head", head).code == 0
        with (tmp_path / head / "predictions.csv").open() as table:
            predictions[head] = next(csv.DictReader(table))
    assert predictions["trees"]["probability"] != predictions["network"]["probability"]
    assert predictions["trees"]["area_fraction_vein"] == predictions["network"]["area_fraction_vein"]


def test_predict_and_evaluate_accept_test_time_augmentation(
    mnsa: Callable[..., Any], refused: Callable[..., str], own_run: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    leaf, folder = next((dataset / "images").iterdir()), tmp_path / "predictions"
    assert mnsa("predict", own_run.path, leaf, "--out", folder, "--tta", "flips", "--tta", "scales").code == 0
    assert "other network" in refused("predict", own_run.path, leaf, "--out", folder)
    assert mnsa("evaluate", own_run.path, "--tta", "rot90").code == 0
    assert list(json.loads(own_run.evaluation_file.read_text())) == ["test/rot90"]
    assert mnsa("evaluate", own_run.path, "--tta", "colours").code == 2


def test_predict_exits_with_3_when_a_file_cannot_be_read(
    mnsa: Callable[..., Any], finished: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    leaf = sorted((dataset / "images").iterdir())[0]
    (tmp_path / "empty.jpg").write_bytes(b"")
    predicted = mnsa("predict", finished.path, leaf, tmp_path / "empty.jpg", "--out", tmp_path / "predictions")
    assert predicted.code == 3
    assert "1 predicted, 1 failed" in predicted.out
    rows = list(csv.DictReader((tmp_path / "predictions" / "predictions.csv").read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False, True]


def test_traits_measures_masks_in_millimeters(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "traits.csv"
    options = ["--px-per-mm", 20, "--leaf-masks", dataset / "leaf_masks"]
    measured = mnsa("traits", dataset / "vein_masks", *options, "--out", out)
    assert (measured.code, measured.out) == (0, f"18 measured, 0 failed: {out}\n")
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {"leaf_area_mm2", "vein_density_mm_per_mm2", "areole_count"} <= rows[0].keys()
    assert all(float(row["vein_length_mm"]) > 0 for row in rows)


def test_traits_exits_with_3_when_a_mask_cannot_be_read(
    mnsa: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    mask = sorted((dataset / "vein_masks").iterdir())[0]
    (tmp_path / "empty.png").write_bytes(b"")
    measured = mnsa("traits", mask, tmp_path / "empty.png", "--out", tmp_path / "traits.csv")
    assert measured.code == 3
    assert "1 measured, 1 failed" in measured.out


def test_named_mask_classes_get_their_traits(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    indices = np.zeros((40, 60), dtype=np.uint8)
    indices[5:35, 5:55], indices[10:14, 10:15] = 1, 2
    Image.fromarray(indices).save(tmp_path / "mask.png")
    names = [part for name in ("background", "leaf", "rust") for part in ("--mask-class", name)]
    out = tmp_path / "traits.csv"
    assert mnsa("traits", tmp_path / "mask.png", *names, "--lesion", "rust", "--out", out).code == 0
    row = next(csv.DictReader(out.read_text().splitlines()))
    assert (row["leaf_area_px2"], row["lesion_count"], row["lesion_area_mean_px2"]) == ("1500", "1", "20")
    assert "vein_length_px" not in row


def test_predict_continues_even_when_its_output_folder_is_among_the_images(
    mnsa: Callable[..., Any], finished: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(dataset / "images", photos)
    first = mnsa("predict", finished.path, photos, "--out", photos / "predictions")
    again = mnsa("predict", finished.path, photos, "--out", photos / "predictions")
    assert (first.code, again.code) == (0, 0)
    assert again.out == f"Already complete, nothing to do: {first.out}"
    other = mnsa("predict", finished.path, photos, "--out", photos / "predictions", "--batch-size", 3)
    assert (other.code, "was begun otherwise (other batch size)" in other.err) == (2, True)


def test_predict_measures_traits_on_request(
    mnsa: Callable[..., Any], finished: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    leaf = sorted((dataset / "images").iterdir())[0]
    out = tmp_path / "predictions"
    assert mnsa("predict", finished.path, leaf, "--traits", "--px-per-mm", 2, "--out", out).code == 0
    row = next(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
    assert float(row["vein_length_mm"]) >= 0


def test_paths_with_brackets_are_printed_unchanged(
    mnsa: Callable[..., Any], finished: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "[red] [1]"
    odd.mkdir()
    shutil.copy(sorted((dataset / "images").iterdir())[0], odd)
    predicted = mnsa("predict", finished.path, odd, "--out", odd / "predictions")
    assert str(odd / "predictions" / "predictions.csv") in predicted.out
    assert str(odd / "gone") in mnsa("evaluate", odd / "gone").err


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_resume_continues(
    mnsa: Callable[..., Any], dataset: Path, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step, handler = tmp_path / "run", StageModule.training_step, signal.getsignal(signal.SIGINT)

    def interrupted_step(self: StageModule, batch: Any, index: int) -> Any:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(StageModule, "training_step", interrupted_step)
    stopped = mnsa("train", config_file, "--data", dataset, "--out", run)
    signal.signal(signal.SIGINT, handler)  # Lightning ignores Ctrl-C while it shuts down
    assert stopped.code == 130
    assert f"mnsa train --resume {run}" in stopped.err
    assert not (run / "model").exists()
    monkeypatch.setattr(StageModule, "training_step", step)
    assert mnsa("train", "--resume", run).code == 0
    assert [line.split(",")[1] for line in (run / "metrics.csv").read_text().splitlines()[1:]] == ["1", "2"]
    assert (run / "model" / "model.safetensors").exists()


@pytest.mark.slow
def test_resuming_a_finished_run_says_how_to_train_on(mnsa: Callable[..., Any], own_run: RunFolder) -> None:
    resumed = mnsa("train", "--resume", own_run.path)
    assert (resumed.code, "Choosing how masks are made" in resumed.out) == (0, True)  # it had not been done
    assert f"was finished already. To train on: mnsa train --resume {own_run.path} --epochs N" in resumed.out
    again = mnsa("train", "--resume", own_run.path)
    assert "Choosing" not in again.out
    longer = mnsa("train", "--resume", own_run.path, "--epochs", 3)
    assert "Choosing how masks are made" in longer.out
    assert f"Trained: {own_run.model_folder}" in longer.out


@pytest.mark.slow
def test_calibrate_prints_the_number_of_images_and_predict_applies_the_threshold(
    mnsa: Callable[..., Any], own_run: RunFolder, own_dataset: Path, tmp_path: Path
) -> None:
    assert "3 labeled images with split `val`" in mnsa("calibrate", own_run.path).out
    manifest = own_dataset / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("train", "val"))
    calibrated = mnsa("calibrate", own_run.path, "--data", own_dataset, "--target", 0.9)
    assert calibrated.code == 0
    assert calibrated.out.startswith(f"Calibrating {own_run.path} on validation images: ")
    assert "leaves, split val, 15 images, " in calibrated.out
    assert f"Written to {own_run.path / 'calibration.json'}\n" in calibrated.out
    assert calibrated.out.endswith(f"Written to {own_run.path / 'postprocessing.json'}\n")
    record = json.loads((own_run.path / "calibration.json").read_text())
    (own_run.path / "calibration.json").write_text(json.dumps(record | {"threshold": 1.0}))
    leaf = sorted((own_dataset / "images").iterdir())[0]
    assert mnsa("predict", own_run.path, leaf, "--out", tmp_path / "predictions").code == 0
    with (tmp_path / "predictions" / "predictions.csv").open() as table:
        row = next(csv.DictReader(table))
    assert row["predicted"] == "unknown"
    assert row["top5"].startswith("cultivar_")


def test_log_messages_are_printed_once(mnsa: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def log(*arguments: Any, **options: Any) -> Any:
        logging.getLogger("mnsa.data").info("images [1 of 2]")
        logging.getLogger("mnsa.data").debug("a detail")
        return SimpleNamespace(rows=())

    monkeypatch.setattr("mnsa.data.synthetic.synthesize", log)
    for _ in range(2):
        assert mnsa("synth", "leaves").out == "images [1 of 2]\n0 leaves of 12 cultivars in leaves\n"


def test_train_prints_a_json_object_per_epoch(
    mnsa: Callable[..., Any], dataset: Path, config_file: Path, tmp_path: Path
) -> None:
    ended = mnsa("train", config_file, "--data", dataset, "--out", tmp_path / "run", "--json", "--verbose")
    epochs = [json.loads(line) for line in ended.out.splitlines()]
    assert [(one["stage"], one["epoch"], one["epochs"]) for one in epochs] == [("joint", 1, 2), ("joint", 2, 2)]
    rows = list(csv.DictReader((tmp_path / "run/metrics.csv").read_text().splitlines()))
    assert [one["val_score"] for one in epochs] == [float(row["val_score"]) for row in rows]
    first, *others = ended.err.splitlines()
    assert first == f"Training on {dataset}: loading torch, checking images and masks"
    assert "joint: 2 epochs of 3 batches of 4, from 12 images, 3 validation images, on " in ended.err
    assert "joint 2/2  batch 3/3" in others
    assert "Trained: " in ended.err
    assert mnsa("--version").out.startswith("mnsa ")  # the next command prints as usual


def test_a_quiet_training_prints_nothing_but_warnings(
    mnsa: Callable[..., Any], dataset: Path, config_file: Path, tmp_path: Path
) -> None:
    wide = ("--set", "loss.cldice=0.5", "--set", "loss.cldice_iterations=1", "--set", "stages.joint.epochs=1")
    ended = mnsa("train", config_file, "--data", dataset, "--out", tmp_path / "run", "--quiet", *wide)
    assert (ended.code, ended.out) == (0, "")
    assert all("more than 3 px wide" in line or not line for line in ended.err.splitlines())
    assert "contradict" in mnsa("train", "--quiet", "--verbose").err
