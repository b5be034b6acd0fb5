"""Attention and Grad-CAM of the predicted class are drawn over the image."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnsa.batch.batching import Shard
from mnsa.batch.predict_files import find_images, predict_files
from mnsa.batch.prediction_folder import (
    EXPLANATION_PX,
    PredictionFolder,
    ResultsLog,
    find_finished,
    merge_rows,
    open_prediction_folder,
    write_explanation,
    write_prediction_table,
)
from mnsa.data.decode import read_image
from mnsa.errors import ModelError, RunError
from mnsa.inference.grad_cam import grad_cam
from mnsa.inference.prediction_table import PredictionTable
from mnsa.inference.predictor import Predictor, load
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder
from mnsa.structures import NetworkOutputs, Prediction


@pytest.fixture
def images(dataset: Path) -> list[Path]:
    return find_images([str(dataset / "images" / "cultivar_01_000*.jpg")])


@pytest.fixture
def explaining(finished: RunFolder) -> Any:
    return load(finished.path, explain=True)


def brightest(path: Path) -> Any:
    """The lightest pixel of an image, as fractions of its height and width."""
    with Image.open(path) as image:
        light = np.asarray(image.convert("L"), float)
    return np.divide(np.unravel_index(light.argmax(), light.shape), light.shape)


def test_a_prediction_has_the_grad_cam_of_its_class(explaining: Any, finished: RunFolder, images: list[Path]) -> None:
    prediction = explaining.predict(images[0])
    network, _ = load_network(finished.path)  # BatchNorms as they were trained
    inputs = explaining.preprocess(read_image(images[0]))
    expected = grad_cam(network, inputs[None], torch.tensor([prediction.class_probs.argmax()]))[0]
    np.testing.assert_allclose(prediction.grad_cam, expected, rtol=1e-2, atol=1e-5)
    assert prediction.grad_cam.shape == prediction.attention.shape


def test_without_explain_a_prediction_has_no_grad_cam(predictor: Any, images: list[Path]) -> None:
    assert predictor.predict(images[0]).grad_cam is None


def test_both_maps_are_drawn_and_the_table_stays_the_same(
    explaining: Any, predictor: Any, images: list[Path], tmp_path: Path
) -> None:
    plain = predict_files(predictor, images, tmp_path / "plain")
    explained = predict_files(explaining, images, tmp_path / "explained")
    assert explained.table.read_bytes() == plain.table.read_bytes()
    for kind in ("attention", "grad_cam"):
        kept = sorted((tmp_path / "explained" / kind).iterdir())
        assert [path.name for path in kept] == [f"{image.stem}.jpg" for image in images]
        assert not (tmp_path / "plain" / kind).exists()


def test_a_folder_without_maps_is_not_continued_with_maps(
    explaining: Any, predictor: Any, images: list[Path], tmp_path: Path
) -> None:
    predict_files(predictor, images, tmp_path / "predictions")
    with pytest.raises(RunError, match="other explained"):
        predict_files(explaining, images, tmp_path / "predictions")


def test_maps_are_drawn_at_their_place_and_large_photos_are_shrunk(tmp_path: Path) -> None:
    attention, seen = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    attention[0, 0], seen[2, 3] = 0.6, 7.0
    prediction = Prediction("a.jpg", None, None, attention, seen)
    folder = PredictionFolder(tmp_path)
    write_explanation(prediction, np.full((1500, 2000, 3), 128, np.uint8), folder, "a")
    assert (brightest(folder.image_path("attention", "a")) < 0.3).all()
    assert (brightest(folder.image_path("grad_cam", "a")) > 0.7).all()
    with Image.open(folder.image_path("grad_cam", "a")) as image:
        assert image.size == (EXPLANATION_PX, EXPLANATION_PX * 3 // 4)


def test_a_network_without_attention_is_explained_by_grad_cam_alone(tmp_path: Path) -> None:
    prediction = Prediction("a.jpg", None, None, None, np.ones((2, 2), np.float32))
    write_explanation(prediction, np.zeros((64, 64, 3), np.uint8), PredictionFolder(tmp_path), "a")
    assert [path.name for path in tmp_path.iterdir()] == ["grad_cam"]


def test_a_predictor_without_gradients_is_an_error(fitted_trees: RunFolder, finished: RunFolder) -> None:
    with pytest.raises(ModelError, match="boosted trees have none"):
        load(fitted_trees.path, head="trees", explain=True)
    with pytest.raises(ModelError, match="no gradients"):
        Predictor(*load_network(finished.path), engine=lambda images: NetworkOutputs(None, None, None), explain=True)


def test_the_command_has_the_option_explain(
    mnsa: Callable[..., Any],
    refused: Callable[..., str],
    finished: RunFolder,
    fitted_trees: RunFolder,
    images: list[Path],
    tmp_path: Path,
) -> None:
    options = ("--head", "trees", "--explain", "--out", tmp_path / "no")
    assert "boosted trees have none" in refused("predict", fitted_trees.path, images[0], *options)
    assert mnsa("predict", finished.path, images[0], "--explain", "--out", tmp_path / "predictions").code == 0
    assert (tmp_path / "predictions" / "grad_cam" / f"{images[0].stem}.jpg").is_file()


ORIGIN: dict[str, str | int] = {"network": "abc", "images": 4}


@pytest.fixture
def folder(tmp_path: Path) -> PredictionFolder:
    return open_prediction_folder(tmp_path / "predictions", ORIGIN)


def test_the_same_command_opens_its_folder_and_another_command_is_an_error(folder: PredictionFolder) -> None:
    assert open_prediction_folder(folder.path, dict(ORIGIN)) == folder
    with pytest.raises(RunError, match=r"predictions exists and was begun otherwise \(other network\)"):
        open_prediction_folder(folder.path, {**ORIGIN, "network": "abd"})
    with pytest.raises(RunError, match=r"other head"):
        open_prediction_folder(folder.path, {**ORIGIN, "head": "trees"})


def test_a_folder_with_a_damaged_record_is_an_error(folder: PredictionFolder) -> None:
    folder.origin_file.write_text("{")
    with pytest.raises(RunError, match=r"damaged predictions\.json"):
        open_prediction_folder(folder.path, ORIGIN)


def test_rows_of_all_parts_are_in_the_order_of_the_images(folder: PredictionFolder) -> None:
    with ResultsLog(folder, Shard(0, 2)) as first, ResultsLog(folder, Shard(1, 2)) as second:
        for part, index in ((second, 3), (first, 1), (second, 2), (first, 0)):
            part.add(index, {"image": f'leaf\n{index}, "quoted" \udcff.jpg'})
    assert list(find_finished(folder, 4)) == [1, 1, 1, 1]
    assert [row["image"][5] for row in merge_rows(folder, 4)] == ["0", "1", "2", "3"]
    write_prediction_table(folder, PredictionTable((), ()), merge_rows(folder, 4))
    with folder.table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [row["image"][4:8] for row in csv.DictReader(file)] == [f"\n{n}, " for n in range(4)]
    assert not folder.parts.exists()


@pytest.mark.parametrize("cut", range(1, 16))
def test_an_incomplete_line_is_removed_and_written_again(folder: PredictionFolder, cut: int) -> None:
    with ResultsLog(folder, Shard()) as part:
        part.add(0, {"image": "a"})
        part.add(1, {"image": "b"})
    (file,) = folder.parts.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert list(find_finished(folder, 4)) == [1, 0, 0, 0]
    with ResultsLog(folder, Shard()) as part:
        part.add(1, {"image": "b"})
    assert file.read_bytes() == whole


def test_a_damaged_line_is_ignored(folder: PredictionFolder) -> None:
    folder.parts.mkdir()
    lines = [
        b"\0\0\0\n",
        b"[7, {}]\n",
        b"[true, {}, 3]\n",
        b'{"a": 1}\n',
        b"[2, 3]\n",
        json.dumps([1, {}]).encode() + b"\n",
    ]
    (folder.parts / "0-of-1.jsonl").write_bytes(b"".join(lines))
    assert list(find_finished(folder, 4)) == [0, 1, 0, 0]


def test_two_processes_cannot_write_one_part(folder: PredictionFolder) -> None:
    with ResultsLog(folder, Shard()), pytest.raises(RunError, match="another process is at work"):
        ResultsLog(folder, Shard())
    with ResultsLog(folder, Shard()):
        pass
