"""`mnsa veins`: masks, traits and overlays of photos in one command, and a warning where veins can't be trusted."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mnsa.weights


@pytest.fixture
def photos(dataset: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((dataset / "images").iterdir())[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    Image.fromarray(np.full((80, 100, 3), 250, np.uint8)).save(folder / "blank.png")
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_photos_become_masks_traits_and_overlays(
    mnsa: Callable[..., Any], bundled_veins: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = mnsa("veins", photos, "--px-per-mm", 20, "--out", out)
    assert ended.code == 0
    assert len(list((out / "masks").iterdir())) == len(list((out / "overlays").iterdir())) == 3
    table = rows(out)
    assert {"vein_length_mm", "areole_count", "scale", "confidence", "warning"} <= table[0].keys()
    assert all(0 <= float(row["confidence"]) <= 1 for row in table)
    for warning in {row["warning"] for row in table} - {""}:
        count = sum(row["warning"] == warning for row in table)
        assert f"Warning for {count} of 3: {warning}" in ended.out


def test_a_scale_may_be_given(mnsa: Callable[..., Any], bundled_veins: Path, photos: Path, tmp_path: Path) -> None:
    assert mnsa("veins", photos, "--scale", 0.5, "--out", tmp_path / "out").code == 0
    assert {row["scale"] for row in rows(tmp_path / "out")} == {"0.500000"}


def test_it_is_predict_of_the_same_network(
    mnsa: Callable[..., Any], bundled_veins: Path, photos: Path, tmp_path: Path
) -> None:
    assert mnsa("veins", photos, "--out", tmp_path / "one").code == 0
    assert mnsa("predict", "veins", photos, "--traits", "--out", tmp_path / "two").code == 0
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_a_file_that_can_not_be_read_has_its_error_and_exit_code_3(
    mnsa: Callable[..., Any], bundled_veins: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    ended = mnsa("veins", photos, "--out", tmp_path / "out")
    assert ended.code == 3
    assert "3 predicted, 1 failed" in ended.out
    assert [Path(row["image"]).name for row in rows(tmp_path / "out") if row["error"]] == ["broken.jpg"]


@pytest.mark.parametrize("scale", ["best", "0", "nan"])
def test_a_scale_that_is_none_is_an_error(
    refused: Callable[..., str], bundled_veins: Path, photos: Path, tmp_path: Path, scale: str
) -> None:
    assert "scale is" in refused("veins", photos, "--scale", scale, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_weights_nothing_is_written(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(mnsa.weights, "FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "without the weights of 'veins'" in refused("veins", photos, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
