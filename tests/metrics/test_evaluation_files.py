"""The files of an evaluation: evaluation.json, a row per image, and which images get pictures."""

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from mnsa.errors import RunError
from mnsa.metrics import evaluation_files
from mnsa.metrics.calibration import ReliabilityBin
from mnsa.metrics.evaluation_files import (
    EvaluationFolder,
    ImageRow,
    evaluation_folder,
    image_columns,
    image_row,
    leave_out_classes,
    read_evaluations,
    read_image_rows,
    replace_evaluation_folder,
    save_evaluation,
    topology_cells,
    worst_and_best,
    write_image_rows,
)
from mnsa.metrics.scores import Evaluation, SampleSize, Score
from mnsa.metrics.topology import mask_topology
from mnsa.run_folder import RunFolder
from mnsa.structures import NO_LABEL, Prediction, Sample

EVALUATION = Evaluation(
    dataset="leaves",
    images=5,
    calibrated=True,
    sizes={"classification": SampleSize(4, "groups", 2), "segmentation": SampleSize(5, "images", 5)},
    scores=(
        Score("accuracy", 0.75, (0.5, 1.0), "fraction", "classification", "accuracy", headline=True),
        Score("iou", None, None, "fraction", "segmentation", "IoU", 'a "vein", {\n'),
    ),
    classes=("oak", "elm"),
    confusion=[[2, 0], [1, 1]],
    reliability=(ReliabilityBin(0.0, 0.5, 0, None, None), ReliabilityBin(0.5, 1.0, 4, 0.8, 0.75)),
)


def test_an_evaluation_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_evaluations(run) == {}
    save_evaluation(run, "test", EVALUATION)
    assert read_evaluations(run) == {"test": EVALUATION}


def test_the_file_has_a_line_per_score_and_per_row_of_the_confusion_matrix(tmp_path: Path) -> None:
    save_evaluation(RunFolder(tmp_path), "test", EVALUATION)
    text = (tmp_path / "evaluation.json").read_text()
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    for score in EVALUATION.scores:
        assert json.dumps(score.to_dict()) in lines
    assert {"[2, 0]", "[1, 1]"} <= set(lines)
    assert '{"low": 0.5, "high": 1.0, "images": 4, "confidence": 0.8, "accuracy": 0.75}' in lines


def test_an_entry_replaces_the_one_with_its_key_and_leaves_the_others(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for key, images in (("test", 5), ("val", 6), ("test", 7)):
        save_evaluation(run, key, Evaluation("leaves", images, calibrated=False, sizes={}, scores=()))
    assert {key: entry.images for key, entry in read_evaluations(run).items()} == {"test": 7, "val": 6}


def test_evaluations_at_the_same_time_lose_no_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, both_have_read = RunFolder(tmp_path), threading.Barrier(2)
    read = evaluation_files.read_evaluations

    def read_and_wait(run: Any) -> Any:
        entries = read(run)
        with suppress(threading.BrokenBarrierError):
            both_have_read.wait(timeout=0.3)  # without the lock both read before one writes
        return entries

    monkeypatch.setattr(evaluation_files, "read_evaluations", read_and_wait)
    threads = [threading.Thread(target=save_evaluation, args=(run, key, EVALUATION)) for key in ("test", "val")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(run).keys() == {"test", "val"}


def damaged(**values: Any) -> Any:
    return {"test": {**EVALUATION.to_dict(), **values}}


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {"test": 3},
        {"test": {"classification": {}}},
        damaged(images="5"),
        damaged(sizes={}),
        damaged(scores=[{"name": "accuracy"}]),
        damaged(scores=[{**EVALUATION.scores[0].to_dict(), "value": "0.5"}]),
        damaged(scores=[{**EVALUATION.scores[0].to_dict(), "interval": [0.5]}]),
        damaged(scores=[{**EVALUATION.scores[0].to_dict(), "label": 1}]),
        damaged(scores=[{**EVALUATION.scores[0].to_dict(), "group": "depth"}]),
        damaged(confusion=[[1, 2]]),
    ],
)
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, tree: Any) -> None:
    run = RunFolder(tmp_path)
    run.evaluation_file.write_text(json.dumps(tree))
    before = run.evaluation_file.read_text()
    for use in (read_evaluations, lambda run: save_evaluation(run, "val", EVALUATION)):
        with pytest.raises(RunError, match=r"evaluation\.json is damaged.*Move it away"):
            use(run)
    assert run.evaluation_file.read_text() == before


def test_a_class_that_no_truth_has_is_left_out_of_rows_and_their_mean() -> None:
    names = ("background", "leaf", "vein", "lesion")
    rows: list[ImageRow] = [
        {"image": "a", "iou": 0.3, "iou_background": 0.9, "iou_leaf": 0.8, "iou_vein": 0.1, "iou_lesion": 0.0},
        {"image": "b", "iou": 0.0, "iou_background": 1.0, "iou_lesion": 0.0},
        {"image": "c"},
    ]
    leave_out_classes(rows, names, ("lesion",))
    assert [row.get("iou") for row in rows] == [pytest.approx(0.45), None, None]
    assert not any("iou_lesion" in row for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> EvaluationFolder:
    return evaluation_folder(RunFolder(tmp_path), "test/trees")


def fill(folder: Any, rows: Any, columns: Any = ("image", "iou")) -> None:
    with replace_evaluation_folder(folder) as unfinished:
        write_image_rows(unfinished, columns, rows)
        unfinished.image_path(3, "truth").write_bytes(b"picture")


def test_file_names_may_contain_any_character_and_missing_numbers_are_empty(folder: EvaluationFolder) -> None:
    name = 'a "b", c\r\nd;\te.jpg'
    fill(folder, [{"image": name, "iou": 0.123456789}, {"image": "b.jpg"}])
    assert [dict(row) for row in read_image_rows(folder)] == [
        {"image": name, "iou": "0.123457"},
        {"image": "b.jpg", "iou": ""},
    ]


def test_a_later_evaluation_replaces_an_earlier_one(folder: EvaluationFolder, tmp_path: Path) -> None:
    fill(folder, [{"image": "a.jpg"}, {"image": "b.jpg"}])
    (folder.path / "pictures" / "000009_truth.jpg").touch()
    fill(folder, [{"image": "c.jpg"}])
    assert [row["image"] for row in read_image_rows(folder)] == ["c.jpg"]
    assert [path.name for path in (folder.path / "pictures").iterdir()] == ["000003_truth.jpg"]
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["test-trees"]


def test_an_evaluation_that_fails_leaves_the_earlier_one(folder: EvaluationFolder, tmp_path: Path) -> None:
    fill(folder, [{"image": "a.jpg"}])
    with pytest.raises(ZeroDivisionError):
        fill(folder, ({"image": 1 / (3 - n)} for n in range(9)))
    assert [row["image"] for row in read_image_rows(folder)] == ["a.jpg"]
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["test-trees"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("a file")
    with pytest.raises(RunError, match=r"predictions/val can't be written"):
        fill(evaluation_folder(RunFolder(tmp_path), "val"), [])


CLASSES = ("oak", "elm", "ash")


def sample(label: Any, mask: Any = None) -> Any:
    return Sample("a.jpg", torch.zeros(3, 2, 4, dtype=torch.uint8), mask, label)


def predict(probs: Any = None, mask: Any = None) -> Any:
    return Prediction("a.jpg", None if probs is None else np.array(probs, np.float32), mask, None)


def test_a_row_has_both_classes_with_their_probabilities() -> None:
    row = image_row(sample(2), predict([0.1, 0.7, 0.2]), CLASSES, ())
    assert (row["image"], row["label"], row["predicted"]) == ("a.jpg", "ash", "elm")
    assert (row["probability"], row["true_probability"]) == pytest.approx((0.7, 0.2))
    assert row["top5"] == "elm 0.7000; ash 0.2000; oak 0.1000"
    assert list(row) == ["image", "group", "label", "predicted", "probability", "top5", "true_probability"]
    assert set(row) == set(image_columns(CLASSES, ()))


def test_an_image_without_a_label_has_no_true_probability() -> None:
    row = image_row(sample(NO_LABEL), predict([0.1, 0.7, 0.2]), CLASSES, ())
    assert "true_probability" not in row
    assert "label" not in row


def test_the_iou_of_an_image_is_torchmetrics_and_leaves_the_background_out() -> None:
    drawn = torch.Generator().manual_seed(3)
    truth, predicted = (torch.randint(0, 3, (8, 9), generator=drawn, dtype=torch.uint8) for _ in range(2))
    names = ("background", "leaf", "rust")
    row = image_row(sample(NO_LABEL, truth), predict(mask=predicted.numpy()), (), names)
    expected = multiclass_jaccard_index(predicted.int(), truth.int(), 3, average="none")
    assert [row[f"iou_{name}"] for name in names] == pytest.approx(expected.tolist())
    assert row["iou"] == pytest.approx(expected[1:].mean().item())
    assert list(row) == image_columns((), names)


def test_an_iou_that_does_not_exist_is_left_out() -> None:
    nothing = torch.zeros(2, 4, dtype=torch.uint8)
    assert image_row(sample(NO_LABEL, nothing), predict(mask=nothing.numpy()), (), ("vein",)) == {
        "image": "a.jpg",
        "group": "",
    }


def test_the_worst_come_worst_first_and_the_best_best_first() -> None:
    found = worst_and_best([0.5, None, 0.9, 0.1, 0.3, 0.8, 0.2, 0.7, 0.6, 0.4, 1.0])
    assert found.worst == [3, 6, 4, 9, 0, 8]
    assert found.best == [10, 2, 5]


@pytest.mark.parametrize("count", range(6))
def test_no_image_is_in_both_lists(count: Any) -> None:
    found = worst_and_best([float(value) for value in range(count)])
    assert sorted(found.worst + found.best) == list(range(count))


def test_topology_cells_are_of_thin_classes_and_left_out_where_there_is_nothing_to_score() -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[10:50, 10:50:13] = 2
    truth[[10, 49], 10:50] = 2
    predicted = truth.copy()
    predicted[30, 10] = predicted[30, 23] = 0
    names = ("background", "leaf", "vein")
    cells = topology_cells(mask_topology(predicted, truth, 3), names, ("vein",))
    assert list(cells) == image_columns((), names, ("vein",))[-3:] == [
        "cldice_vein", "betti0_error_vein", "betti1_error_vein"
    ]  # fmt: skip
    assert (cells["betti0_error_vein"], cells["betti1_error_vein"]) == (0, 2)
    assert 0.99 < float(cells["cldice_vein"]) < 1
    empty = mask_topology(truth * 0, truth * 0, 3)
    assert topology_cells(empty, names, ("vein",)) == {"betti0_error_vein": 0, "betti1_error_vein": 0}
