"""The tables fit a terminal of 80 columns and show every score of an evaluation."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from mnsa.cli.tables import export_table, head_table, score_tables
from mnsa.metrics.scores import Evaluation, SampleSize, Score
from narrowing import some

IMAGES = SampleSize(24, "images", 24)
CLASSES = tuple(
    Score(name, value, interval, "fraction", "classification", label, headline=True)
    for name, value, interval, label in (
        ("accuracy", 0.875, (0.75, 1.0), "accuracy"),
        ("balanced_accuracy", 0.8625, None, "balanced accuracy"),
        ("macro_f1", 0.8512, None, "macro F1"),
        ("top5_accuracy", 1.0, None, "top-5 accuracy"),
        ("ece", 0.0912, None, "calibration error"),
    )
)


def masks(name: str, *, empty: bool = False) -> tuple[Score, ...]:
    values: tuple[Any, ...] = (
        ("iou", 0.5312, (0.5123, 0.5519), "fraction", "IoU"),
        ("dice", 0.6939, None, "fraction", "Dice"),
        ("iou_per_image", 0.5276, None, "fraction", "IoU per image"),
        ("dice_per_image", 0.6881, None, "fraction", "Dice per image"),
        ("images_empty", 3.0, None, "images", "empty images"),
    )
    return tuple(
        Score(key, None if empty else value, None if empty else interval, unit, "segmentation", label, name)
        for key, value, interval, unit, label in values
    )


@pytest.fixture
def show() -> Callable[..., str]:
    """The text of an evaluation's tables on a terminal of 80 columns."""

    def text(*scores: Score, size: SampleSize = IMAGES) -> str:
        sizes: dict[str, SampleSize] = {score.group: size for score in scores}
        evaluation = Evaluation("leaves", 24, calibrated=False, sizes=sizes, scores=scores)
        text_file = io.StringIO()
        console = Console(width=80, file=text_file, soft_wrap=True)
        for table in score_tables(evaluation, "test"):
            console.print(table)
        return text_file.getvalue()

    return text


def test_every_score_is_shown_whole(show: Callable[..., str]) -> None:
    text = show(*CLASSES, *masks("vein"))
    for number in ("0.875", "0.750", "1.000", "0.863", "0.851", "0.091"):
        assert number in text
    for number in ("0.531", "0.512", "0.552", "0.694", "0.528", "0.688", " 3 "):
        assert number in text
    assert "…" not in text


def test_topology_scores_have_a_row_each_with_their_interval(show: Callable[..., str]) -> None:
    scores = [
        Score("cldice", 0.853, (0.841, 0.86), "fraction", "topology", "clDice", "vein"),
        Score("length_bias", -0.29, (-0.3, -0.28), "relative", "topology", "length bias", "vein"),
        Score("betti0_error", 56.2, None, "count", "topology", "Betti-0 error", "vein"),
    ]
    text = show(*scores)
    for line in ("clDice 0.853 (0.841 to 0.860)", "length bias -0.290 (-0.300 to -0.280)", "Betti-0 error 56.20"):
        assert line in " ".join(text.replace("│", " ").split())


def test_no_line_is_wider_than_the_terminal(show: Callable[..., str]) -> None:
    upstream = Score("iou_upstream", 0.6, None, "fraction", "segmentation", "IoU of the upstream code (too high)", "b")
    text = show(*CLASSES, *masks("a mask class with quite a long name of its own"), *masks("b"), upstream)
    assert max(map(len, text.splitlines())) <= 80


def test_the_title_has_data_set_split_and_images(show: Callable[..., str]) -> None:
    assert "leaves, split test, 24 images" in show(*CLASSES)


def test_the_caption_says_what_the_interval_draws(show: Callable[..., str]) -> None:
    assert "95 % interval over 24 images" in show(*CLASSES)
    assert "95 % interval over 12 groups (plants) of 24 images" in show(*CLASSES, size=SampleSize(24, "groups", 12))
    assert "over" not in show(*CLASSES[1:])


def test_a_task_that_was_not_scored_has_no_table(show: Callable[..., str]) -> None:
    assert "accuracy" not in show(*masks("vein"))
    assert "IoU" not in show(*CLASSES)


def test_a_mask_class_that_never_occurs_has_no_score(show: Callable[..., str]) -> None:
    text = show(*masks("background"), *masks("vein"), *masks("lesion", empty=True))
    row = next(line for line in text.splitlines() if "lesion" in line)
    assert row.count("none") == 5
    assert "Not scored, as no mask has a pixel of it: lesion." in " ".join(text.split())


@pytest.mark.parametrize("markup", [True, False])
def test_names_with_brackets_are_shown_as_they_are(markup: bool) -> None:
    """The console of mnsa reads no markup, so nothing may be escaped for one."""
    sizes = {"segmentation": IMAGES}
    evaluation = Evaluation("set [a]", 24, calibrated=False, sizes=sizes, scores=masks("vein [red]"))
    text_file = io.StringIO()
    for table in score_tables(evaluation, "test"):
        Console(width=100, file=text_file, markup=markup).print(table)
    assert "set [a], split test" in text_file.getvalue()
    assert "vein [red]" in text_file.getvalue()
    assert "\\" not in text_file.getvalue()


def text_of(table: Any) -> Any:
    text_file = io.StringIO()
    Console(width=80, file=text_file).print(table)
    return [line.split() for line in text_file.getvalue().splitlines()]


def test_two_heads_have_a_row_each() -> None:
    heads = {"network": {"accuracy": 0.5, "log_loss": 1.25}, "trees": {"accuracy": 0.625, "log_loss": 1.0}}
    rows = text_of(head_table(heads, "leaves, split val, 8 images"))
    assert ["│", "network", "│", "0.500", "│", "1.250", "│"] in rows
    assert ["│", "trees", "│", "0.625", "│", "1.000", "│"] in rows


def test_an_export_has_the_headline_scores_of_both_networks() -> None:
    exported = [replace(score, value=some(score.value) / 2) for score in CLASSES]
    scores = {"eager": [one.to_dict() for one in CLASSES], "exported": [one.to_dict() for one in exported]}
    comparison = {
        "differences": {"random": {"mask_logits": 0.00012}},
        "labels": [7, 8],
        "mask_iou": 0.97,
        "scores": scores,
        "bytes": {"eager": 2e6, "exported": 1e6},
    }
    rows = text_of(export_table(comparison, "onnx"))
    assert ["│", "accuracy,", "validation", "│", "0.875", "│", "0.438", "│"] in rows
    assert ["│", "equal", "labels", "│", "│", "7", "of", "8", "│"] in rows
