"""The next slice to score: all of a small space in order of size, else the children of the best so far.

Evolution: parents are drawn from the Pareto fronts of the scored points; a child takes each value from one of the two,
and draws some values again at random. What is drawn depends on the seed and on the scored points alone, so that a
search that was interrupted goes on as if it had not been.
"""

import random
from collections.abc import Sequence

from mnsa.search.selection import pareto_front
from mnsa.search.space import (
    ParamValue,
    Point,
    SearchSpace,
    grid_points,
    levels_without_branch,
    random_point,
    smallest_point,
)
from mnsa.study_folder import TrialRecord

PARENTS = 16  # at least so many points are parents, from the first Pareto fronts
RANDOM_POINTS = 32  # before evolution begins
MUTATION_RATE = 0.15  # of each value
MAX_DRAWS = 200  # of a point that was not scored yet


def is_exhaustive(space: SearchSpace, budget: int) -> bool:
    """Check whether a budget of slices is enough for every point of the space."""
    return space.num_points <= budget


def next_point(space: SearchSpace, budget: int, seed: int, scored: Sequence[TrialRecord], cost: str) -> Point | None:
    """Choose the point after those that were scored; None if there is none left.

    cost: the second axis of the Pareto front.
    """
    known = {_key(record.point) for record in scored}
    if len(scored) >= budget:
        return None
    if is_exhaustive(space, budget):
        points = sorted(grid_points(space, seed), key=_size)
        return next((point for point in points if _key(point) not in known), None)
    if not scored:
        return smallest_point(space)
    rng = random.Random(f"{seed}/{len(scored)}")  # noqa: S311 - a search, no secrets
    parents = _parents(scored, cost) if len(scored) >= RANDOM_POINTS else []
    for draw in range(MAX_DRAWS):
        is_child = len(parents) > 1 and draw < MAX_DRAWS // 2
        point = _child(space, parents, rng) if is_child else random_point(space, rng)
        if _key(point) not in known and not levels_without_branch(point):
            return point
    return None


def _parents(scored: Sequence[TrialRecord], cost: str) -> list[Point]:
    """Return the points of the first fronts: the Pareto front, then that of the others, until there are enough."""
    parents, others = list[TrialRecord](), list(scored)
    while len(parents) < PARENTS and (front := pareto_front(others, cost)):
        parents += front
        taken = {record.number for record in front}
        others = [record for record in others if record.number not in taken]
    return [record.point for record in parents]


def _child(space: SearchSpace, parents: Sequence[Point], rng: random.Random) -> Point:
    pair = rng.sample(range(len(parents)), 2)
    child: dict[str, ParamValue] = {}
    for name, values in space.choices.items():
        child[name] = rng.choice(values) if rng.random() < MUTATION_RATE else parents[rng.choice(pair)][name]
    return child


def _size(point: Point) -> float:
    """Return a number that grows with the widths, so that cheap points come first."""
    return sum(float(value) for value in point.values() if not isinstance(value, str))


def _key(point: Point) -> tuple[tuple[str, ParamValue], ...]:
    return tuple(sorted(point.items()))
