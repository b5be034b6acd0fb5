"""A skeleton as a graph: nodes where veins branch or end, and an edge for each run of pixels between two of them.

N skeleton pixels; L links between neighbours; V nodes; E edges; P vertices of all edges, one edge after the other.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Graph(NamedTuple):
    """Nodes and edges of a skeleton.

    pixels: (N, 2) row, column. node_of: (N,) the node a pixel belongs to, -1 along an edge. nodes: (V, 2) row, column:
    the middle of the node's pixels. vertices: (P,) pixels along every edge, both its nodes' included.
    starts: (E + 1,) edge e has vertices[starts[e] : starts[e + 1]]. ends: (E, 2) its two nodes.
    """

    pixels: np.ndarray
    node_of: np.ndarray
    nodes: np.ndarray
    vertices: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def degree(self) -> np.ndarray:
        """How many edges leave each node, (V,); 0 for a lone pixel, 2 where a ring is cut open."""
        return np.bincount(self.ends.ravel(), minlength=len(self.nodes))


class _Hops(NamedTuple):
    """Every link in both directions, (2 L,) each: the pixels it leaves and reaches, and the same link's way back."""

    tail: np.ndarray
    head: np.ndarray
    back: np.ndarray


def trace(skeleton: np.ndarray) -> Graph:
    """Trace a skeleton, bool (H, W), one pixel wide. A ring without branches is cut open at one pixel."""
    pixels = np.argwhere(skeleton)
    hops = _hops(skeleton)
    degree = np.bincount(hops.tail, minlength=len(pixels))
    is_junction = degree > 2
    within = is_junction[hops.tail] & is_junction[hops.head]
    is_node = (degree != 2) | _cuts(hops, degree)
    node_of = _merge(hops, within, is_node)
    size = np.bincount(node_of[is_node])
    nodes = np.stack([np.bincount(node_of[is_node], axis[is_node]) / size for axis in pixels.T], axis=1)
    vertices, starts = _runs(hops, is_node, within)
    ends = node_of[vertices[np.stack([starts[:-1], starts[1:] - 1], axis=1)]]
    return Graph(pixels, node_of, nodes, vertices, starts, ends)


def _hops(skeleton: np.ndarray) -> _Hops:
    """Link 8-neighbours, but no diagonal that a side step bridges."""
    padded = np.pad(skeleton, 1)
    number = np.full(padded.shape, -1, dtype=np.intp)
    number[padded] = np.arange(padded.sum())
    links = []
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        linked = padded & np.roll(padded, (-step[0], -step[1]), axis=(0, 1))
        if step[0] and step[1]:
            linked &= ~np.roll(padded, -step[0], axis=0) & ~np.roll(padded, -step[1], axis=1)
        links.append(np.stack([number[linked], number[np.roll(linked, step, axis=(0, 1))]]))
    tail, head = np.concatenate([*links, *(link[::-1] for link in links)], axis=1)
    return _Hops(tail, head, np.roll(np.arange(len(tail)), len(tail) // 2))


def _cuts(hops: _Hops, degree: np.ndarray) -> np.ndarray:
    """Where to cut rings that have no node: at their first pixel. bool (N,)."""
    component = _components(hops, np.ones(len(hops.tail), dtype=bool), len(degree))
    _, first = np.unique(component, return_index=True)
    is_ring = np.bincount(component, degree != 2) == 0
    cuts = np.zeros(len(degree), dtype=bool)
    cuts[first[is_ring]] = True
    return cuts


def _merge(hops: _Hops, within: np.ndarray, is_node: np.ndarray) -> np.ndarray:
    """Number the nodes, neighbouring junction pixels as one: (N,), -1 for the pixels in between."""
    node_of = np.full(len(is_node), -1)
    node_of[is_node] = np.unique(_components(hops, within, len(is_node))[is_node], return_inverse=True)[1]
    return node_of


def _components(hops: _Hops, chosen: np.ndarray, count: int) -> np.ndarray:
    matrix = coo_array((np.ones(chosen.sum()), (hops.tail[chosen], hops.head[chosen])), shape=(count, count))
    return np.asarray(connected_components(matrix, directed=False)[1])


def _runs(hops: _Hops, is_node: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow every hop to the node it leads to, all at once; the hops that lead to one hop's end are one edge.

    Pointers are doubled until all have arrived, in log2(longest edge) rounds. Returns: vertices (P,), starts (E + 1,).
    """
    hop = np.arange(len(hops.tail))
    # Along an edge two hops leave a pixel. Of the sum of their numbers, what is not the way back is the way on.
    leaving = np.bincount(hops.tail, hop, minlength=len(is_node)).astype(np.intp)
    last = np.where(is_node[hops.head], hop, leaving[hops.head] - hops.back)
    ahead = (last != hop).astype(np.intp)
    while not np.array_equal(further := last[last], last):
        ahead, last = ahead + ahead[last], further
    first = hop[is_node[hops.tail] & ~within]
    first = first[first < hops.back[last[first]]]  # each edge is found from both its ends: keep one
    edge_at = np.full(len(hop), -1)
    edge_at[last[first]] = np.arange(len(first))
    edge_of = edge_at[last]
    kept = hop[edge_of >= 0]
    kept = kept[np.lexsort((-ahead[kept], edge_of[kept]))]
    starts = np.concatenate([[0], np.cumsum(np.bincount(edge_of[kept], minlength=len(first)) + 1)])
    vertices = np.empty(starts[-1], dtype=np.intp)
    vertices[np.arange(len(kept)) + edge_of[kept]] = hops.tail[kept]
    vertices[starts[1:] - 1] = hops.head[last[first]]
    return vertices, starts
