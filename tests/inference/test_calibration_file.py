"""calibration.json holds its calibration without loss, and belongs to the weights that it was fitted for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mnsa.checked_files import write_checked
from mnsa.errors import RunError
from mnsa.inference.calibration_file import CALIBRATION_FILE, Calibration, load_calibration, save_calibration
from mnsa.metrics.calibration import ReliabilityBin

BINS = [ReliabilityBin(0.0, 0.5, 0, None, None), ReliabilityBin(0.5, 1.0, 7, 0.8, 0.75)]
SCORES = {"before": 0.3, "after": 0.1}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with weights alone."""
    (tmp_path / "model").mkdir()
    write_checked(tmp_path / "model/model.safetensors", lambda file: file.write(b"weights"))
    return tmp_path


@pytest.fixture
def calibration(run: Path) -> Calibration:
    digest = write_checked(run / "model/model.safetensors", lambda file: file.write(b"weights"))
    return Calibration(
        1.5, True, 0.6, 0.95, "95 %", "val", 7, 6, 5, 5, 2, SCORES, SCORES, {"before": BINS, "after": BINS},
        "leaves", "0", digest,
    )  # fmt: skip


def test_a_calibration_is_read_as_it_was_written(run: Path, calibration: Calibration) -> None:
    assert load_calibration(run) is None
    assert save_calibration(run, calibration) == run / CALIBRATION_FILE
    assert load_calibration(run) == calibration
    save_calibration(run, replace(calibration, threshold=None))
    assert load_calibration(run) == replace(calibration, threshold=None)


def test_a_calibration_of_other_weights_is_refused(run: Path, calibration: Calibration) -> None:
    save_calibration(run, calibration)
    write_checked(run / "model/model.safetensors", lambda file: file.write(b"others"))
    with pytest.raises(RunError, match=r"fitted for other weights.*mnsa calibrate"):
        load_calibration(run)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": -1},
        {"temperature": "x"},
        {"threshold": 1.5},
        {"threshold": -0.1},
        {"reliability": None},
        {"other": 1},
    ],
)
def test_a_damaged_calibration_is_named_with_the_fix(
    run: Path, calibration: Calibration, change: dict[str, object]
) -> None:
    values = {**json.loads(calibration.to_json()), **change}
    (run / CALIBRATION_FILE).write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"calibration\.json is damaged.*Run mnsa calibrate .* again"):
        load_calibration(run)
