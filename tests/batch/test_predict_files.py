"""Prediction of many files: a row and image files for each, in spite of broken files and interruptions."""

import csv
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.batch import pipeline
from mnsa.batch.batching import Shard
from mnsa.batch.predict_files import PredictionInterruptedError, PredictionSummary, find_images, predict_files
from mnsa.batch.prediction_folder import write_mask_and_overlay
from mnsa.config import DataConfig
from mnsa.data.decode import read_mask
from mnsa.errors import RunError
from mnsa.inference.predictor import Predictor, load
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec, RunFolder
from mnsa.traits import TraitMeasurer, find_roles


@pytest.fixture
def photos(dataset: Path, tmp_path: Path) -> Path:
    """Two folders of leaves of odd sizes; both have an image `twin`."""
    leaves = sorted((dataset / "images").iterdir())
    for name, size, leaf in (("twin.jpg", (70, 45), 0), ("other.png", (33, 90), 6), ("deep/twin.PNG", (64, 64), 12)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(leaves[leaf]).resize(size).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def table_of(predictions: PredictionSummary) -> list[dict[str, str]]:
    return list(csv.DictReader(predictions.table.read_text(encoding="utf-8").splitlines()))


def test_the_table_has_class_probabilities_and_the_area_fraction_of_each_mask_class(
    photos: Path, predictor: Any, tmp_path: Path
) -> None:
    predictions = predict_files(predictor, find_images([str(photos)]), tmp_path / "predictions")
    rows = table_of(predictions)
    assert (predictions.done, predictions.failed) == (3, 0)
    assert list(rows[0]) == ["image", "mask", "predicted", "probability", "top5", "area_fraction_vein", "error"]
    for row in rows:
        prediction = predictor.predict(row["image"])
        assert row["predicted"] == predictor.classes[prediction.class_probs.argmax()]
        assert float(row["probability"]) == pytest.approx(prediction.class_probs.max(), abs=1e-4)
        ranking = dict(pair.rsplit(" ", 1) for pair in row["top5"].split("; "))
        assert ranking.keys() == set(predictor.classes)
        assert sum(map(float, ranking.values())) == pytest.approx(1, abs=1e-3)
        assert float(row["area_fraction_vein"]) == pytest.approx(prediction.mask.mean(), abs=1e-6)
        assert row["error"] == ""


def test_a_measurer_adds_a_column_per_trait(photos: Path, predictor: Any, tmp_path: Path) -> None:
    measurer = TraitMeasurer(find_roles(predictor.mask_classes), px_per_mm=4.0)
    (photos / "empty.png").write_bytes(b"")
    rows = table_of(predict_files(predictor, find_images([str(photos)]), tmp_path / "predictions", measurer=measurer))
    assert list(rows[0]) == [
        "image",
        "mask",
        "predicted",
        "probability",
        "top5",
        "area_fraction_vein",
        "px_per_mm",
        *measurer.columns,
        "error",
    ]
    for row in rows:
        measured = {name: row[name] for name in measurer.columns}
        if row["error"]:
            assert set(measured.values()) == {""}
        else:
            assert measured == measurer.measure_row(predictor.predict(row["image"]).mask)
            assert float(row["vein_reference_area_mm2"]) >= 0


def test_masks_read_back_equal_and_overlays_have_the_images_size(photos: Path, predictor: Any, tmp_path: Path) -> None:
    out = tmp_path / "predictions"
    predict_files(predictor, [photos / "other.png"], out)
    np.testing.assert_array_equal(
        read_mask(out / "masks" / "other.png", 1).numpy(), predictor.predict(photos / "other.png").mask
    )
    assert size_of(out / "overlays" / "other.jpg") == (33, 90)
    assert (out / "sheet.png").exists()


def test_two_images_of_one_name_have_image_files_of_their_own(photos: Path, predictor: Any, tmp_path: Path) -> None:
    out = tmp_path / "predictions"
    rows = table_of(predict_files(predictor, find_images([str(photos)]), out))
    assert {row["mask"]: size_of(out / row["mask"]) for row in rows} == {
        "masks/twin.png": (70, 45),
        "masks/other.png": (33, 90),
        "masks/deep/twin.png": (64, 64),
    }
    assert all(size_of(out / row["mask"]) == size_of(Path(row["image"])) for row in rows)
    drawn = [path.relative_to(out / "overlays").as_posix() for path in (out / "overlays").rglob("*.jpg")]
    assert sorted(drawn) == ["deep/twin.jpg", "other.jpg", "twin.jpg"]


def test_the_sheet_names_every_photo_with_the_folder_where_names_repeat_and_its_class(
    photos: Path, predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[list[str]] = []

    def note_captions(tiles: Any, path: Path, **_: Any) -> None:
        captions.extend(lines for lines, _ in tiles)
        path.touch()

    monkeypatch.setattr("mnsa.batch.prediction_folder.write_image_grid", note_captions)
    rows = table_of(predict_files(predictor, find_images([str(photos)]), tmp_path / "predictions"))
    assert {name for name, _ in captions} == {"deep/twin.PNG", "other.png", "twin.jpg"}
    assert [text.rsplit(" ", 1)[0] for _, text in captions] == [row["predicted"] for row in rows]


def test_a_broken_file_has_its_error_in_the_table_and_the_others_are_predicted(
    photos: Path, predictor: Any, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    (photos / "empty.png").write_bytes(b"")
    predictions = predict_files(predictor, find_images([str(photos)]), tmp_path / "predictions")
    reasons = {row["image"].rsplit("/", 1)[1]: row["error"] for row in table_of(predictions)}
    assert (predictions.done, predictions.failed) == (3, 2)
    assert "broken.jpg" in reasons["broken.jpg"]
    assert "0 bytes" in reasons["empty.png"]
    assert [name for name, reason in reasons.items() if not reason] == ["twin.PNG", "other.png", "twin.jpg"]


def test_nothing_but_broken_files_leaves_a_table_and_no_sheet(predictor: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    predictions = predict_files(predictor, [tmp_path / "empty.png"], tmp_path / "predictions")
    assert predictions.sheet is None
    assert {path.name for path in (tmp_path / "predictions").iterdir()} == {"predictions.csv", "predictions.json"}


def test_a_folder_that_exists_is_not_changed(photos: Path, predictor: Any) -> None:
    before = sorted(photos.rglob("*"))
    with pytest.raises(RunError, match="exists and was not changed"):
        predict_files(predictor, [photos / "twin.jpg"], photos)
    assert sorted(photos.rglob("*")) == before


def test_a_folder_that_cannot_be_created_is_an_error(photos: Path, predictor: Any) -> None:
    with pytest.raises(RunError, match=r"can't be written.*Choose another --out"):
        predict_files(predictor, [photos / "twin.jpg"], photos / "notes.txt" / "predictions")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stop_after(monkeypatch: pytest.MonkeyPatch, predicted: int, error: BaseException | None) -> list[Sequence[str]]:
    """Let the network fail when it has predicted so many batches. Returns: the paths of each batch."""
    batches, real = list[Sequence[str]](), Predictor.predict_batch

    def predict(self: Predictor, inputs: Any, sizes: Any, paths: Sequence[str]) -> Any:
        if len(batches) == predicted and error is not None:
            raise error
        batches.append(paths)
        return real(self, inputs, sizes, paths)

    monkeypatch.setattr(Predictor, "predict_batch", predict)
    return batches


def test_the_same_call_does_not_change_a_finished_folder(
    photos: Path, predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = find_images([str(photos)]), tmp_path / "predictions"
    first = predict_files(predictor, images, out)
    before = contents(out)
    monkeypatch.setattr(Predictor, "predict_batch", lambda *_: pytest.fail("it was predicted before"))
    second = predict_files(predictor, images, out)
    assert (second.done, second.failed, second.new, first.new) == (3, 0, 0, 3)
    assert contents(out) == before


def test_a_second_call_predicts_only_the_images_that_an_interrupted_one_left(
    dataset: Path, predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = find_images([str(dataset / "images")])
    predict_files(predictor, images, tmp_path / "whole", batch_size=4)
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        with pytest.raises(PredictionInterruptedError, match="Run the same command again") as stopped:
            predict_files(predictor, images, tmp_path / "predictions", batch_size=4)
    assert stopped.value.exit_code == 130
    assert len(list((tmp_path / "predictions" / "masks").iterdir())) == 8
    assert not (tmp_path / "predictions" / "predictions.csv").exists()
    predicted = stop_after(monkeypatch, -1, None)
    assert predict_files(predictor, images, tmp_path / "predictions", batch_size=4).new == len(images) - 8
    assert [path for batch in predicted for path in batch] == [str(path) for path in images[8:]]
    assert contents(tmp_path / "predictions") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["measurer", "batch size", "head"])
def test_a_folder_of_other_predictions_is_not_changed(
    photos: Path, predictor: Any, tmp_path: Path, change: str
) -> None:
    images, out = find_images([str(photos)]), tmp_path / "predictions"
    predict_files(predictor, images, out, batch_size=2, options={"head": "network"})
    before = contents(out)
    with pytest.raises(RunError, match="was begun otherwise"):
        predict_files(
            predictor, images, out, batch_size=3 if change == "batch size" else 2,
            measurer=TraitMeasurer(find_roles(predictor.mask_classes)) if change == "measurer" else None,
            options={"head": "trees" if change == "head" else "network"},
        )  # fmt: skip
    assert contents(out) == before


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_predictions_do_not_depend_on_the_batch_size(
    dataset: Path, photos: Path, predictor: Any, tmp_path: Path, batch_size: int
) -> None:
    images = find_images([str(photos), str(dataset / "images")])
    rows = table_of(predict_files(predictor, images, tmp_path / "predictions", batch_size=batch_size))
    for row, path in zip(rows, images, strict=True):
        prediction = predictor.predict(path)
        assert row["image"] == str(path)
        assert float(row["probability"]) == pytest.approx(prediction.class_probs.max(), abs=1e-4)
        assert float(row["area_fraction_vein"]) == pytest.approx(prediction.mask.mean(), abs=1e-3)


def test_two_shards_write_the_table_that_one_process_writes(dataset: Path, predictor: Any, tmp_path: Path) -> None:
    images = find_images([str(dataset / "images")])
    predict_files(predictor, images, tmp_path / "alone", batch_size=4)
    first = predict_files(predictor, images, tmp_path / "shared", batch_size=4, shard=Shard(0, 2))
    assert (first.new, first.missing) == (10, 8)
    assert not first.table.exists()
    second = predict_files(predictor, images, tmp_path / "shared", batch_size=4, shard=Shard(1, 2))
    assert (second.new, second.missing, second.done) == (8, 0, 18)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_a_call_without_a_shard_predicts_the_missing_shard(dataset: Path, predictor: Any, tmp_path: Path) -> None:
    images = find_images([str(dataset / "images")])
    predict_files(predictor, images, tmp_path / "predictions", batch_size=4, shard=Shard(1, 2))
    assert predict_files(predictor, images, tmp_path / "predictions", batch_size=4).new == 10


def test_a_full_disk_is_an_error_and_finished_images_are_kept(
    dataset: Path, predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = find_images([str(dataset / "images")]), tmp_path / "predictions"
    real = write_mask_and_overlay

    def full(mask: Any, pixels: Any, folder: Any, name: str, mask_classes: Any) -> None:
        if name == images[5].stem:
            raise OSError(28, "No space left on device")
        real(mask, pixels, folder, name, mask_classes)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_mask_and_overlay", full)
        with pytest.raises(RunError, match=r"can't be written: No space left on device.*run the same command again"):
            predict_files(predictor, images, out, batch_size=4)
    assert predict_files(predictor, images, out, batch_size=4).done == 18


def test_progress_counts_all_images(dataset: Path, predictor: Any, tmp_path: Path) -> None:
    seen = list[tuple[int, ...]]()
    images = find_images([str(dataset / "images")])
    predict_files(predictor, images, tmp_path / "a", batch_size=4, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (18, 18, 18)
    assert seen == sorted(seen)


def test_an_error_in_the_network_is_raised_and_threads_end(
    dataset: Path, predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        predict_files(predictor, find_images([str(dataset / "images")]), tmp_path / "predictions", batch_size=4)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("reader", "writer"))]


def test_large_small_and_too_small_images_can_be_mixed(
    dataset: Path, make_config: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_config().model
    card = ModelSpec(model, DataConfig(size=(32, 32), resize_mode="crop"), ("a", "b"), ("vein",))
    predictor = Predictor(build_network(model, 2, 1), card)
    leaf = Image.open(next((dataset / "images").iterdir()))
    folder = tmp_path / "photos"
    folder.mkdir()
    sizes = {"a": (64, 50), "large": (150, 140), "b": (64, 50), "narrow": (16, 40), "tiny": (15, 40)}
    for name, size in sizes.items():
        leaf.resize(size).save(folder / f"{name}.png")
    predictions = predict_files(predictor, find_images([str(folder)]), tmp_path / "predictions", batch_size=5)
    assert (predictions.done, predictions.failed) == (4, 1)
    for row in table_of(predictions):
        name = Path(row["image"]).name
        if name == "tiny.png":
            assert "tiny.png has 15 x 40 pixels" in row["error"]
            continue
        assert predictor.needs_tiling(size_of(folder / name)) == (name == "large.png")
        mask = read_mask(tmp_path / "predictions" / "masks" / name, 1).numpy()
        assert (mask == predictor.predict(folder / name).mask).mean() > 0.999
        assert size_of(tmp_path / "predictions" / "overlays" / f"{Path(name).stem}.jpg") == size_of(folder / name)


def test_predictions_in_views_go_into_a_folder_of_their_own(
    photos: Path, finished: RunFolder, predictor: Any, tmp_path: Path
) -> None:
    images = find_images([str(photos)])
    predict_files(predictor, images, tmp_path / "predictions")
    with pytest.raises(RunError, match="begun otherwise \\(other network\\)"):
        predict_files(load(finished.path, tta=["flips"]), images, tmp_path / "predictions")
