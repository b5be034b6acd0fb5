import math
from typing import Any

import pytest

from coffee_table import Result, estimate, markdown
from mnsa.metrics.scores import Evaluation, SampleSize, Score
from scoring import SPLITS


def result(method: str, seed: int, accuracy: float, seconds: Any = 60.0) -> Result:
    scores = (
        Score("accuracy", accuracy, None, "fraction", "classification", "accuracy"),
        Score("macro_f1", 0.25, None, "fraction", "classification", "macro F1"),
        Score("iou", 0.9, None, "fraction", "segmentation", "IoU", "leaf"),
        Score("iou", 0.5, None, "fraction", "segmentation", "IoU", "symptom"),
        Score("iou_per_image", None, None, "fraction", "segmentation", "IoU per image", "symptom"),
    )
    sizes = dict.fromkeys(("classification", "segmentation"), SampleSize(49, "images", 49))
    evaluation = Evaluation("coffee", 49, calibrated=False, sizes=sizes, scores=scores)
    return Result(method, seed, seconds, dict.fromkeys(SPLITS, evaluation.to_dict()))


def lines_of(results: list[Result]) -> dict[str, str]:
    return {line.split(" | ")[0].strip("| "): line for line in markdown(results).splitlines() if line.startswith("| ")}


def test_the_interval_over_seeds_is_students() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)  # t(0.975; 2), from a printed table


def test_a_single_seed_has_no_interval() -> None:
    assert estimate([0.7]) == (0.7, None)


def test_the_table_gives_each_seed_the_mean_and_the_paired_difference() -> None:
    lines = lines_of([result("mnsa", 1, 0.8), result("mnsa", 2, 0.9), result("peer", 1, 0.7), result("peer", 2, 0.8)])
    assert lines["mnsa, seed 1"].startswith("| mnsa, seed 1 | 0.800 | 0.250 | 0.900 | 0.500 | - | 1.0 |")
    assert "| 0.850 ± 0.635 |" in lines["**mnsa, mean of 2**"]  # t(0.975; 1) = 12.706
    assert "| 0.100 ± 0.000 |" in lines["**mnsa - peer**"]


def test_a_resumed_run_shows_a_dash_instead_of_a_time() -> None:
    lines = lines_of([result("mnsa", 1, 0.8), result("mnsa", 2, 0.8, seconds=None)])
    assert lines["mnsa, seed 2"].endswith("| - |")
    assert lines["**mnsa, mean of 2**"].endswith("| - |")
