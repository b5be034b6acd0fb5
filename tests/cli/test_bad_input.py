"""Bad input: exit code 2, one paragraph with the problem and the fix, and no file written or overwritten."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miniature_datasets import make_mganet, make_ufg
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.run_folder import RunFolder


@pytest.fixture
def train_refused(refused: Callable[..., str], config_file: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that expects `mnsa train` to fail without leaving a run folder; it returns the message."""

    def run(dataset: Path, *overrides: Any) -> Any:
        options = [word for override in overrides for word in ("--set", override)]
        message = refused("train", config_file, "--data", dataset, "--out", tmp_path / "refused", *options)
        assert not (tmp_path / "refused").exists()
        return message

    return run


@pytest.fixture
def change(dataset: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the data set with other rows or names."""

    def write(**fields: Any) -> Any:
        write_manifest(replace(read_manifest(dataset), **fields), tmp_path / "changed")
        return tmp_path / "changed"

    return write


def contents(folder: Path) -> Any:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.sed=2", ["train.sed", "did you mean 'seed'"]),
        ("model.classes=5", ["expects 5 classes (model.classes)", "leaves has 3", "Remove model.classes"]),
        ('stages.joint.trainable=["backbne"]', ["stages.0.trainable.0", "backbne", "'backbone'"]),
        ("stages.joint.batch_size=1", ["batch_size = 1", "Use 2 or more"]),
        ("stages.joint.epochs=0", ["stages.0.epochs", "0"]),
        ("stages.third.epochs=1", ["there is no stage 'third'", "joint"]),
        ("model.backbone=resnet99", ["resnet99", "nearest names"]),
        ("model.pretrained=no/such/file.pth", ["There is no weights file no/such/file.pth"]),
        ("model.pretrained=bundled", ["bundled", "test_efficientnet", "imagenet"]),
        (
            'stages.joint.tasks=["classification"]',
            ["stage 'joint' trains 'enhancer'", "add that task or remove the part"],
        ),
        ("model.decoder=unet", ["trains 'enhancer'", "'unet' doesn't", "stages.joint.trainable"]),
    ],
)
def test_an_invalid_config(train_refused: Callable[..., str], dataset: Path, override: str, words: list[str]) -> None:
    message = train_refused(dataset, override)
    assert [word for word in words if word not in message] == []


def test_an_input_size_that_does_not_fit_an_augmentation(train_refused: Callable[..., str], dataset: Path) -> None:
    assert "rot90 needs square" in train_refused(dataset, "augment.rot90=0.5", "data.size=[64, 96]")


def test_a_missing_config_or_data_set(
    refused: Callable[..., str], dataset: Path, config_file: Path, tmp_path: Path
) -> None:
    assert "no config file" in refused("train", tmp_path / "no.toml", "--data", dataset, "--out", tmp_path / "run")
    assert "is no data set" in refused("train", config_file, "--data", tmp_path / "no", "--out", tmp_path / "run")
    assert "Give --data and --out" in refused("train", config_file)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_segmentation_stage_without_masks(
    train_refused: Callable[..., str], dataset: Path, change: Callable[..., Path], split: str
) -> None:
    rows = [replace(row, mask="") if row.split == split else row for row in read_manifest(dataset).rows]
    message = train_refused(change(rows=tuple(rows)))
    assert f"no masks in split `{split}`" in message
    assert "Add a mask column" in message


def test_mask_guidance_without_masks(
    train_refused: Callable[..., str], dataset: Path, change: Callable[..., Path]
) -> None:
    unmasked = change(rows=tuple(replace(row, mask="") for row in read_manifest(dataset).rows))
    classify = ['stages.joint.tasks=["classification"]', 'stages.joint.trainable=["class_head"]']
    assert "has none in split `train`" in train_refused(unmasked, *classify, "loss.mask_guidance=0.1")


def test_a_class_without_training_images(
    train_refused: Callable[..., str], dataset: Path, change: Callable[..., Path]
) -> None:
    message = train_refused(change(classes=(*read_manifest(dataset).classes, "unseen")))
    assert "1 of them have no training image: unseen" in message


def test_a_row_without_label_and_mask(
    train_refused: Callable[..., str], dataset: Path, change: Callable[..., Path]
) -> None:
    first, *others = read_manifest(dataset).rows
    message = train_refused(change(rows=(replace(first, mask="", label=""), *others)))
    assert f"{first.image} has neither label nor mask" in message


def test_a_data_set_without_validation_rows(
    train_refused: Callable[..., str], dataset: Path, change: Callable[..., Path]
) -> None:
    rows = tuple(row for row in read_manifest(dataset).rows if row.split != "val")
    assert "split `val`" in train_refused(change(rows=rows))


def test_an_empty_image_is_named_before_training(train_refused: Callable[..., str], own_dataset: Path) -> None:
    row = read_manifest(own_dataset).rows[3]
    (own_dataset / row.image).write_bytes(b"")
    message = train_refused(own_dataset)
    assert row.image in message
    assert "0 bytes" in message


def test_all_broken_files_are_listed_together(train_refused: Callable[..., str], own_dataset: Path) -> None:
    first, second, *_ = read_manifest(own_dataset).rows
    (own_dataset / first.image).unlink()
    (own_dataset / second.mask).write_bytes(b"no image")
    message = train_refused(own_dataset)
    assert "2 of its files" in message
    assert first.image in message
    assert second.mask in message


def test_a_mask_whose_size_differs_from_the_image(train_refused: Callable[..., str], own_dataset: Path) -> None:
    row = read_manifest(own_dataset).rows[0]
    Image.new("L", (32, 48)).save(own_dataset / row.mask)
    message = train_refused(own_dataset)
    assert f"{row.mask}: has 32 x 48 pixels" in message
    assert "64 x 64" in message


@pytest.mark.parametrize("path", ["../outside.jpg", "/etc/outside.jpg"])
def test_a_path_outside_the_root_of_the_data_set(
    train_refused: Callable[..., str], own_dataset: Path, path: str
) -> None:
    table = own_dataset / "manifest.csv"
    table.write_text(table.read_text().replace(read_manifest(own_dataset).rows[0].image, path))
    message = train_refused(own_dataset)
    assert path in message
    assert "expected a path inside the root" in message
    assert "line 2" in message


def test_a_link_out_of_the_root_of_the_data_set(
    train_refused: Callable[..., str], own_dataset: Path, tmp_path: Path
) -> None:
    image = own_dataset / read_manifest(own_dataset).rows[0].image
    image.rename(tmp_path / "outside.jpg")
    image.symlink_to(tmp_path / "outside.jpg")
    assert "outside the data set's root" in train_refused(own_dataset)


@pytest.mark.parametrize(
    "verb", ["train", "predict", "traits", "import folders", "import csv", "import mganet", "import ufg", "synth"]
)
def test_an_existing_output_is_never_overwritten(
    mnsa: Callable[..., Any],
    config_file: Path,
    dataset: Path,
    finished: RunFolder,
    own_dataset: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    images = own_dataset / "images"
    photo = shutil.copytree(images, tmp_path / "photos" / "one_class")
    arguments = {
        "train": [config_file, "--data", dataset, "--out"],
        "predict": [finished.path, images, "--out"],
        "traits": [own_dataset / "vein_masks", "--out"],
        "import folders": [photo.parent, "--out"],
        "import csv": [own_dataset / "manifest.csv", "--out"],
        "import mganet": [make_mganet(tmp_path / "published"), "--out"],
        "import ufg": [make_ufg(tmp_path / "published"), "--out"],
        "synth": ["--cultivars", 1, "--per-cultivar", 1, "--size", 64, "--workers", 1],
    }
    before = contents(own_dataset)
    ending = mnsa(*verb.split(), *arguments[verb], own_dataset)
    assert ending.code == 2
    assert f"{own_dataset} exists" in ending.err
    assert contents(own_dataset) == before


@pytest.mark.parametrize("option", [["--out", "x"], ["--set", "train.seed=2"], ["config.toml"]])
def test_resume_takes_no_other_options(refused: Callable[..., str], finished: RunFolder, option: list[str]) -> None:
    assert "--resume takes everything from the run folder" in refused("train", "--resume", finished.path, *option)


@pytest.mark.parametrize("missing", ["config.toml", "provenance.json", "model/config.json", "model/model.safetensors"])
def test_evaluating_an_incomplete_run(refused: Callable[..., str], own_run: RunFolder, missing: str) -> None:
    (own_run.path / missing).unlink()
    message = refused("evaluate", own_run.path)
    assert missing in message
    assert "mnsa train" in message
    assert not own_run.evaluation_file.exists()


@pytest.mark.parametrize("missing", ["model/config.json", "model/model.safetensors"])
def test_predicting_with_an_incomplete_run(
    refused: Callable[..., str], own_run: RunFolder, dataset: Path, tmp_path: Path, missing: str
) -> None:
    (own_run.path / missing).unlink()
    message = refused("predict", own_run.path, dataset / "images", "--out", tmp_path / "predictions")
    assert missing in message
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("missing", ["config.toml", "provenance.json"])
def test_resuming_an_incomplete_run(refused: Callable[..., str], own_run: RunFolder, missing: str) -> None:
    (own_run.path / missing).unlink()
    before = contents(own_run.path)
    assert missing in refused("train", "--resume", own_run.path)
    assert contents(own_run.path) == before


def test_resuming_a_run_without_whole_checkpoints(refused: Callable[..., str], own_run: RunFolder) -> None:
    folder = own_run.checkpoint_folder("joint")
    for file in folder.glob("*.ckpt"):
        file.write_bytes(file.read_bytes()[:1000])
    assert "no checkpoint in" in refused("train", "--resume", own_run.path)


def test_resuming_after_the_data_set_changed(
    refused: Callable[..., str], config_file: Path, own_dataset: Path, mnsa: Callable[..., Any], tmp_path: Path
) -> None:
    mnsa("train", config_file, "--data", own_dataset, "--out", tmp_path / "run", "--set", "stages.joint.epochs=1")
    table = own_dataset / "manifest.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    assert "has changed since" in refused("train", "--resume", tmp_path / "run")


@pytest.mark.parametrize("verb", ["evaluate", "predict", "train", "fit-trees"])
def test_a_missing_run(refused: Callable[..., str], dataset: Path, tmp_path: Path, verb: str) -> None:
    gone = tmp_path / "gone"
    arguments: dict[str, list[Any]] = {
        "evaluate": [gone],
        "predict": [gone, dataset / "images", "--out", tmp_path / "predictions"],
        "train": ["--resume", gone],
        "fit-trees": [gone],
    }
    assert str(gone) in refused(verb, *arguments[verb])
    assert not gone.exists()


def test_evaluating_on_a_data_set_with_other_classes(
    refused: Callable[..., str], own_run: RunFolder, dataset: Path, change: Callable[..., Path]
) -> None:
    other = change(classes=read_manifest(dataset).classes[::-1])
    message = refused("evaluate", own_run.path, "--data", other)
    assert "cultivar_03, cultivar_02, cultivar_01" in message
    assert not own_run.evaluation_file.exists()


def test_predicting_without_images(refused: Callable[..., str], finished: RunFolder, tmp_path: Path) -> None:
    assert "names no image file" in refused(
        "predict", finished.path, tmp_path / "*.jpg", "--out", tmp_path / "predictions"
    )
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_using_trees_of_a_run_without_trees(
    refused: Callable[..., str], finished: RunFolder, dataset: Path, tmp_path: Path, verb: str
) -> None:
    rest = [dataset / "images", "--out", tmp_path / "predictions"] if verb == "predict" else []
    assert f"mnsa fit-trees {finished.path}" in refused(verb, finished.path, *rest, "--head", "trees")
    assert not (tmp_path / "predictions").exists()


def test_fitting_trees_again(refused: Callable[..., str], fitted_trees: RunFolder) -> None:
    before = contents(fitted_trees.trees_folder)
    message = refused("fit-trees", fitted_trees.path)
    assert f"{fitted_trees.trees_folder} exists" in message
    assert "Remove it" in message
    assert contents(fitted_trees.trees_folder) == before


def test_fitting_trees_without_the_extra(
    refused: Callable[..., str], own_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnsa.trees.boosted_trees.find_spec", lambda name: None)
    assert "pip install -e '.[trees]'" in refused("fit-trees", own_run.path)
    assert not own_run.trees_folder.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--px-per-mm", 0], ["--px-per-mm is 0", "expected a positive number"]),
        (["--px-per-mm", "nan"], ["--px-per-mm is nan"]),
        (["--px-per-mm", "wide"], ["--px-per-mm is 'wide'", "a number, dpi, marker, or a CSV file"]),
        (["--px-per-mm", "none.csv"], ["There is no file none.csv"]),
        (["--px-per-mm", "marker"], ["Masks show no marker"]),
        (["--vein", "nerve"], ["no mask class 'nerve'", "foreground"]),
        (["--mask-class", "background", "--mask-class", "class1"], ["background, class1", "--vein NAME"]),
        (["--mask-class", "leaf", "--leaf-masks", "."], ["already have a leaf class", "Leave out --leaf-masks"]),
    ],
)
def test_invalid_options_of_traits(
    refused: Callable[..., str], dataset: Path, tmp_path: Path, options: list[Any], words: list[str]
) -> None:
    message = refused("traits", dataset / "vein_masks", *options, "--out", tmp_path / "traits.csv")
    assert [word for word in words if word not in message] == []
    assert not (tmp_path / "traits.csv").exists()


@pytest.mark.parametrize("options", [["--px-per-mm", 0], ["--vein", "vein"], ["--reference-area", "image"]])
def test_predicting_with_trait_options_but_without_traits(
    refused: Callable[..., str], finished: RunFolder, dataset: Path, tmp_path: Path, options: list[Any]
) -> None:
    message = refused("predict", finished.path, dataset / "images", *options, "--out", tmp_path / "predictions")
    assert "Add --traits" in message


def test_predicting_traits_of_an_unknown_mask_class(
    refused: Callable[..., str], finished: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    options = ["--traits", "--leaf", "blade"]
    message = refused("predict", finished.path, dataset / "images", *options, "--out", tmp_path / "predictions")
    assert "no mask class 'blade'; the mask classes are: vein" in message
    assert not (tmp_path / "predictions").exists()
