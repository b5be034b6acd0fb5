"""Evolution scores no point twice, goes on where it stopped, and finds better points than chance."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from mnsa.config import Config
from mnsa.search.evolution import RANDOM_POINTS, next_point
from mnsa.search.selection import pareto_front
from mnsa.search.space import Point, SearchSpace, build_search_space, levels_without_branch, random_point
from mnsa.study_folder import TrialRecord

BUDGET = 120


@pytest.fixture
def space_of(search_config: Callable[..., Config]) -> Callable[..., SearchSpace]:
    return lambda **search: build_search_space(search_config(search=search))


def score(number: int, point: Point) -> TrialRecord:
    """A made-up slice: every width costs the same, and those of odd levels are worth three times as much."""
    widths = {name: float(value) for name, value in point.items()}
    iou = sum(value * (3 if int(name[5]) % 2 else 1) for name, value in widths.items())
    return TrialRecord(number, number, "complete", point, iou, macs=int(1000 * sum(widths.values())))


def search(space: SearchSpace, seed: int, scored: list[TrialRecord], budget: int = BUDGET) -> list[TrialRecord]:
    while (point := next_point(space, budget, seed, scored, "macs")) is not None:
        scored = [*scored, score(len(scored), point)]
    return scored


def test_a_small_space_is_scored_whole_and_cheap_points_come_first(space_of: Callable[..., SearchSpace]) -> None:
    space = space_of(ratios=(0.0, 0.25), skip_ratios=(0.0, 0.5))
    points: list[Point] = []
    while (point := next_point(space, 64, 1, [record(i, p) for i, p in enumerate(points)], "macs")) is not None:
        points.append(point)
    assert len({str(sorted(point.items())) for point in points}) == len(points) == 62  # two have no branch
    assert not any(levels_without_branch(point) for point in points)
    sums = [sum(map(float, point.values())) for point in points]
    assert sums == sorted(sums)


def record(number: int, point: Point) -> TrialRecord:
    return TrialRecord(number, number, "complete", point, 0.5, macs=1)


def test_evolution_begins_with_the_smallest_network_and_repeats_none(space_of: Callable[..., SearchSpace]) -> None:
    space = space_of(per_level="kinds", ratios=(0.0, 0.125, 0.25))
    found = search(space, 3, [])
    assert len({str(sorted(one.point.items())) for one in found}) == len(found) == BUDGET
    assert not any(levels_without_branch(one.point) for one in found)
    assert found[0].macs == min(one.macs or 0 for one in found)


def test_an_interrupted_evolution_goes_on_as_if_it_had_not_been(space_of: Callable[..., SearchSpace]) -> None:
    space = space_of(per_level="kinds")
    whole = search(space, 3, [])
    assert search(space, 3, whole[: RANDOM_POINTS + 9]) == whole
    assert search(space, 4, []) != whole


def test_evolution_reaches_more_at_a_cost_than_random_points(space_of: Callable[..., SearchSpace]) -> None:
    space = space_of(per_level="kinds")
    rng: Any = random.Random(1)
    drawn = [score(number, random_point(space, rng)) for number in range(BUDGET)]
    evolved = search(space, 1, [])
    limits = [one.macs or 0 for one in pareto_front(drawn, "macs")[1:]]
    best = [
        [max(one.iou or 0.0 for one in records if (one.macs or 0) <= limit) for records in (evolved, drawn)]
        for limit in limits
    ]
    assert sum(mine - theirs for mine, theirs in best) > 0
    assert sum(mine > theirs for mine, theirs in best) > len(best) / 2
