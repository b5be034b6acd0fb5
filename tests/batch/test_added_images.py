"""Photos that are added to a finished folder are answered, and nothing else is done again."""

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnsa.batch import added_images
from mnsa.batch.predict_files import PredictionInterruptedError, predict_files
from mnsa.errors import RunError
from mnsa.inference.image_input import to_sources
from mnsa.inference.predictor import Predictor


@pytest.fixture
def photos(dataset: Path, tmp_path: Path) -> list[Path]:
    """Six photos; the last has the name of the first, in another folder."""
    leaves = sorted((dataset / "images").iterdir())[:5]
    copies = [tmp_path / "photos" / f"{number}.jpg" for number in range(5)] + [tmp_path / "photos" / "new" / "0.jpg"]
    copies[-1].parent.mkdir(parents=True)
    for leaf, copy in zip([*leaves, leaves[0]], copies, strict=True):
        shutil.copy(leaf, copy)
    return copies


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the images that the network has seen."""
    paths, real = list[str](), Predictor.predict_batch

    def predict(self: Predictor, inputs: Any, sizes: Any, names: Sequence[str]) -> Any:
        paths.extend(names)
        return real(self, inputs, sizes, names)

    monkeypatch.setattr(Predictor, "predict_batch", predict)
    return paths


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "predictions.csv").read_text(encoding="utf-8").splitlines()))


def test_only_new_photos_are_predicted_and_the_table_has_all(
    photos: list[Path], predictor: Any, predicted: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_files(predictor, photos[:4], out, batch_size=1)
    before = rows_of(out)
    masks = {path: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    predicted.clear()
    summary = predict_files(predictor, photos, out, batch_size=1)  # the whole folder again
    assert (summary.done, summary.new, predicted) == (6, 2, [str(path) for path in photos[4:]])
    rows = rows_of(out)
    assert rows[:4] == before
    assert [row["mask"] for row in rows[4:]] == ["masks/4.png", "masks/new/0.png"]  # 0.png is that of the first photo
    assert {path: path.stat().st_mtime_ns for path in masks} == masks
    assert not (out / "parts").exists()

    predicted.clear()
    again = predict_files(predictor, photos[2:], out, batch_size=1)  # some of them: nothing is new, and nothing is lost
    assert (again.done, again.new, predicted, rows_of(out)) == (6, 0, [], rows)


def test_other_photos_alone_join_the_table(photos: list[Path], predictor: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for part in (photos[:2], photos[2:3], photos[3:]):
        predict_files(predictor, part, out, batch_size=4)
    whole = predict_files(predictor, photos, tmp_path / "whole", batch_size=4)
    rows, expected = rows_of(out), rows_of(whole.table.parent)
    assert [row["image"] for row in rows] == [str(path) for path in photos]
    for row, other in zip(rows, expected, strict=True):
        assert row["predicted"] == other["predicted"]
        assert float(row["probability"]) == pytest.approx(float(other["probability"]), abs=2e-4)


def test_a_photo_that_failed_is_tried_again_when_photos_are_added(
    photos: list[Path], predictor: Any, tmp_path: Path
) -> None:
    whole = photos[1].read_bytes()
    photos[1].write_bytes(whole[:100])
    assert predict_files(predictor, photos[:2], tmp_path / "out").failed == 1
    photos[1].write_bytes(whole)
    summary = predict_files(predictor, photos[:3], tmp_path / "out")
    assert (summary.done, summary.failed, summary.new) == (3, 0, 2)


@pytest.mark.parametrize("step", ["write_json", "replace", "predict"])
def test_an_addition_that_is_interrupted_anywhere_is_continued(
    photos: list[Path], predictor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    out = tmp_path / "out"
    predict_files(predictor, photos[:3], out, batch_size=1)
    first = rows_of(out)
    with monkeypatch.context() as patch:
        owner: Any = {"write_json": added_images, "replace": Path, "predict": Predictor}[step]
        name = "predict_batch" if step == "predict" else step
        patch.setattr(owner, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(PredictionInterruptedError):
            predict_files(predictor, photos, out, batch_size=1)
    assert predict_files(predictor, photos, out, batch_size=1).done == 6
    rows = rows_of(out)
    assert rows[:3] == first
    assert [row["image"] for row in rows] == [str(path) for path in photos]


def test_other_options_and_images_in_memory_are_refused(photos: list[Path], predictor: Any, tmp_path: Path) -> None:
    out, pixels = tmp_path / "out", np.zeros((64, 64, 3), np.uint8)
    predict_files(predictor, photos[:2], out, batch_size=1)
    with pytest.raises(RunError, match="other batch size, images"):
        predict_files(predictor, photos, out, batch_size=2)
    with pytest.raises(RunError, match="other list of images"):
        predict_files(predictor, to_sources([photos[0], pixels], None), out, batch_size=1)
    assert len(rows_of(out)) == 2


def test_the_command_says_how_many_are_new(
    photos: list[Path], finished: Any, mnsa: Callable[..., Any], tmp_path: Path
) -> None:
    command = ("predict", finished.path, tmp_path / "photos", "--out", tmp_path / "out")
    photos[-1].unlink()
    assert mnsa(*command).out.startswith("5 predicted, 0 failed")
    shutil.copy(photos[0], photos[-1])
    assert mnsa(*command).out.startswith("6 predicted (1 now), 0 failed")
    assert mnsa(*command).out.startswith("Already complete, nothing to do: 6 predicted")
