import torch

from timing import machine_facts, speed_up, take_turns


def test_candidates_take_turns_and_the_warm_up_is_not_counted() -> None:
    calls = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert [len(times[name]) for name in ("a", "b")] == [2, 2]


def test_a_speed_up_is_the_median_of_adjacent_ratios_not_the_ratio_of_medians() -> None:
    times = {"slow": [2.0, 30.0, 4.0], "fast": [1.0, 10.0, 1.0]}
    assert speed_up(times, slow="slow", fast="fast") == (3.0, 2.0, 4.0)


def test_the_machine_line_names_the_versions_that_ran() -> None:
    assert f"torch {torch.__version__}" in machine_facts()
