"""Peaks of processes of their own: this one may keep what it frees, as training has it."""

from pathlib import Path

import pytest
import torch

import peak_memory
from peak_memory import Peak, in_child, middle, most_held, rises

pytestmark = pytest.mark.slow


SCRIPT = f"""
import json, sys, torch
sys.path.insert(0, {str(Path(peak_memory.__file__).parent)!r})
from peak_memory import peak_of
%s
print(json.dumps(peak_of(lambda: %s, torch.device("cpu"))))
"""


@pytest.mark.parametrize(
    ("before", "work", "least", "most"),
    [
        pytest.param("", "torch.ones(50_000_000 // 4).sum()", 45, 80, id="what the work held and let go again counts"),
        pytest.param("torch.ones(200_000_000 // 4).sum()", "None", 0, 20, id="what was freed before it does not"),
    ],
)
def test_a_peak_is_that_of_the_work_alone(tmp_path: Path, before: str, work: str, least: int, most: int) -> None:
    script = tmp_path / "work.py"
    script.write_text(SCRIPT % (before, work), encoding="utf-8")
    assert least <= in_child([str(script)]).rise < most


def test_tensors_hold_at_most_what_lives_at_the_same_time() -> None:
    def work() -> None:
        one = torch.ones(3_000_000 // 4)
        one = one + 1  # two of them for a moment
        del one
        torch.ones(4_000_000 // 4)

    assert most_held(work) == pytest.approx(6, abs=0.1)


def test_a_child_answers_by_its_last_line(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("import sys; print('noise'); print([1.0, float(sys.argv[1])])", encoding="utf-8")
    assert in_child([str(script), "3"]) == Peak(1.0, 3.0)


def test_the_middle_of_peaks_is_the_median_rise_whatever_was_held_before() -> None:
    peaks = [Peak(100, 130), Peak(0, 10), Peak(50, 70)]
    assert middle(peaks) == Peak(50, 70)
    assert rises(peaks) == "20 (10-30)"
