"""Score records: looked up, shown as text, and found in every place that shows scores."""

from typing import Any

import pytest

from mnsa.metrics.scores import SampleSize, Score, evaluation_key, format_interval, format_score


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.12345, "fraction", "0.123"),
        (3.0, "images", "3"),
        (56.208, "count", "56.21"),
        (0.0414, "relative", "+0.041"),
        (-0.29, "relative", "-0.290"),
        (-0.29, "correlation", "-0.290"),
        (None, "fraction", "none"),
    ],
)
def test_a_value_is_shown_by_its_unit(value: Any, unit: Any, expected: Any) -> None:
    assert format_score(value, unit) == expected


def test_an_interval_is_shown_with_both_bounds() -> None:
    assert format_interval((0.5, 0.61234)) == "0.500 to 0.612"
    assert format_interval((-0.1, 0.25), "relative") == "-0.100 to +0.250"
    assert format_interval(None) == ""


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SampleSize(24, "images", 24), "95 % interval over 24 images"),
        (SampleSize(24, "groups", 12), "95 % interval over 12 groups (plants) of 24 images"),
        (SampleSize(24, "groups", 1), "no intervals over one group (plant)"),
        (SampleSize(1, "images", 1), "no intervals over one image"),
    ],
)
def test_captions_say_what_an_interval_draws(size: Any, expected: Any) -> None:
    assert size.interval_text == expected


def test_a_score_of_a_mask_class_has_it_in_its_title() -> None:
    plain = Score("iou", 0.5, None, "fraction", "segmentation", "IoU")
    assert plain.title == "IoU"
    assert Score("iou", 0.5, None, "fraction", "segmentation", "IoU", "vein").title == "IoU of vein"


@pytest.mark.parametrize(
    ("head", "tta", "key"),
    [("network", (), "val"), ("trees", (), "val/trees"), ("trees", ["scales"], "val/trees/scales")],
)
def test_each_way_to_predict_has_a_key_of_its_own(head: str, tta: Any, key: str) -> None:
    assert evaluation_key("val", head, tta) == key
    assert evaluation_key("val", "network", ["rot90", "flips", "flips"]) == "val/flips+rot90"
    assert evaluation_key("val", "trees", mask_threshold=0.5) == "val/trees/mask threshold 0.5"
    assert [evaluation_key("val", "network", repair=one) for one in (True, False)] == ["val/repair", "val/no repair"]
