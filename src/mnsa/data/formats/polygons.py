"""A region's outline along its pixels' edges, as one polygon that `polygon` turns back into exactly these pixels.

Holes are tied to the ring around them by a level line through the region, walked there and back.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

import numpy as np

from mnsa.data.layouts.regions import Region

_Pair = tuple[int, int]  # x, y: a corner, or a way of one pixel
_Ring = list[_Pair]  # corners, the leftmost first
_Ties = Mapping[_Pair, list[_Pair]]  # (ring, place of the edge in it) -> (y, hole)

_RIGHT_OF: Mapping[_Pair, _Pair] = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}


def outline(region: Region) -> np.ndarray:
    """Walk around a region of pixels that share edges: whole numbers (N, 2), x and y in the image."""
    rings = sorted(_rings(region.inside))  # nothing lies further left than the outer ring, so it comes first
    return np.add(_walk(rings, _ties(rings)), (region.left, region.top))


def _rings(inside: np.ndarray) -> Iterator[_Ring]:
    """Find the rings between inside and outside; whoever walks one has the inside on the right."""
    leaving = _edges(np.pad(inside, 1))
    unwalked = {(corner, way) for corner, ways in leaving.items() for way in ways}
    while unwalked:
        here, way = next(iter(unwalked))
        ring = []
        while (here, way) in unwalked:
            unwalked.remove((here, way))
            here = (here[0] + way[0], here[1] + way[1])
            # where two pixels meet at a corner alone, the walk stays with its own
            turned = _RIGHT_OF[way] if _RIGHT_OF[way] in leaving[here] else leaving[here][0]
            if turned != way:
                ring.append(here)
            way = turned
        least = ring.index(min(ring))
        yield ring[least:] + ring[:least]


def _edges(padded: np.ndarray) -> Mapping[_Pair, list[_Pair]]:
    """List the ways that lead away from each corner, between a pixel inside (on the right) and one outside."""
    leaving: defaultdict[_Pair, list[_Pair]] = defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # nothing above: along the top, to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbour, (right, below), way in sides:
        for y, x in np.argwhere(padded[1:-1, 1:-1] & ~neighbour).tolist():
            leaving[x + right, y + below].append(way)
    return leaving


def _ties(rings: Sequence[_Ring]) -> _Ties:
    """Tie each hole, at its leftmost corner, to the first edge on the left; its ring begins further left."""
    upright: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)  # pixel row -> (x, ring, place)
    for number, ring in enumerate(rings):
        for place, ((x, y), (_, to_y)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
            for row in range(min(y, to_y), max(y, to_y)):
                upright[row].append((x, number, place))
    ties: defaultdict[_Pair, list[_Pair]] = defaultdict(list)
    for hole, ((x, y), *_) in enumerate(rings[1:], 1):
        _, number, place = max((edge for edge in upright[y] if edge[0] < x), key=itemgetter(0))
        ties[number, place].append((y, hole))
    return ties


def _walk(rings: Sequence[_Ring], ties: _Ties) -> list[_Pair]:
    """Walk the first ring, and each hole on the way when its tie is met. No recursion: a hole may tie thousands."""
    corners: list[_Pair] = []
    under_way = [_stations(rings, ties, 0)]
    while under_way:
        station = next(under_way[-1], None)
        if station is None:
            under_way.pop()
        elif isinstance(station, int):
            under_way.append(_stations(rings, ties, station))
        else:
            corners.append(station)
    return corners


def _stations(rings: Sequence[_Ring], ties: _Ties, number: int) -> Iterator[_Pair | int]:
    """Pass a ring's corners, and the holes that are tied to it, as numbers."""
    ring = rings[number]
    for place, ((x, y), (_, to_y)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
        yield x, y
        for at_y, hole in sorted(ties.get((number, place), ()), reverse=to_y < y):
            yield x, at_y
            yield hole
            yield x, at_y
    if number:
        yield ring[0]
