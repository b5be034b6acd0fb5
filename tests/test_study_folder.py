"""The record of a study is the same after it is written and read; costs that are not known are infinite."""

from pathlib import Path

from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, read_study_record, write_study_record

TRIALS = (
    TrialRecord(0, 0, "complete", {"deform3": 0.25}, 0.5, (0.4, 0.5), 10, 20, 3.5, 100.0, 9.0),
    TrialRecord(1, 1, "failed", {"attention": "mean"}, reason="out of memory"),
)
RECORD = StudyRecord("s", "tpe", "none", 4, "macs", (64, 96), TRIALS, {"deform3": 1.0}, (0,), 0, "best")


def test_a_record_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    write_study_record(folder, RECORD)
    assert read_study_record(folder) == RECORD


def test_attempts_are_found_by_their_states() -> None:
    assert RECORD.with_status("failed") == [TRIALS[1]]
    assert RECORD.with_status("complete", "failed") == list(TRIALS)


def test_a_cost_that_is_not_known_is_infinite() -> None:
    costs = ("macs", "parameters", "latency")
    assert [TRIALS[0].cost(name) for name in costs] == [20.0, 10.0, 3.5]
    assert [TRIALS[1].cost(name) for name in costs] == [float("inf")] * 3


def test_folders_of_trials_sort_by_number(tmp_path: Path) -> None:
    folders = [StudyFolder(tmp_path).trial_folder(number) for number in (2, 10, 999)]
    assert folders == sorted(folders)
