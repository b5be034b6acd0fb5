"""A prediction folder records what it depends on and which images are finished, after any interruption."""

import csv
import json
from pathlib import Path

import pytest

from mnsa.batch.batching import Shard
from mnsa.batch.prediction_folder import (
    PredictionFolder,
    ResultsLog,
    find_finished,
    merge_rows,
    open_prediction_folder,
    write_prediction_table,
)
from mnsa.errors import RunError
from mnsa.inference.prediction_table import PredictionTable

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
