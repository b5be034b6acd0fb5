"""The centerlines of a vein mask: skeletonized, traced as a graph, pruned, smoothed.

N skeleton pixels; L links between neighbors; V nodes; E edges; P vertices of all edges, one edge after the other.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.morphology import skeletonize

from mnsa.traits.polyline import Polylines


class SkeletonGraph(NamedTuple):
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


class _DirectedLinks(NamedTuple):
    """Every link in both directions, (2 L,) each: the pixels it leaves and reaches, and the same link's way back."""

    tail: np.ndarray
    head: np.ndarray
    back: np.ndarray


def trace_skeleton(skeleton: np.ndarray) -> SkeletonGraph:
    """Trace a skeleton, bool (H, W), one pixel wide. A ring without branches is cut open at one pixel."""
    pixels = np.argwhere(skeleton)
    hops = _find_links(skeleton)
    degree = np.bincount(hops.tail, minlength=len(pixels))
    is_junction = degree > 2
    within = is_junction[hops.tail] & is_junction[hops.head]
    is_node = (degree != 2) | _find_ring_cuts(hops, degree)
    node_of = _number_nodes(hops, within, is_node)
    size = np.bincount(node_of[is_node])
    nodes = np.stack([np.bincount(node_of[is_node], axis[is_node]) / size for axis in pixels.T], axis=1)
    vertices, starts = _follow_edges(hops, is_node, within)
    ends = node_of[vertices[np.stack([starts[:-1], starts[1:] - 1], axis=1)]]
    return SkeletonGraph(pixels, node_of, nodes, vertices, starts, ends)


def _find_links(skeleton: np.ndarray) -> _DirectedLinks:
    """Link 8-neighbors, but no diagonal that a side step bridges."""
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
    return _DirectedLinks(tail, head, np.roll(np.arange(len(tail)), len(tail) // 2))


def _find_ring_cuts(hops: _DirectedLinks, degree: np.ndarray) -> np.ndarray:
    """Where to cut rings that have no node: at their first pixel. bool (N,)."""
    component = _components(hops, np.ones(len(hops.tail), dtype=bool), len(degree))
    _, first = np.unique(component, return_index=True)
    is_ring = np.bincount(component, degree != 2) == 0
    cuts = np.zeros(len(degree), dtype=bool)
    cuts[first[is_ring]] = True
    return cuts


def _number_nodes(hops: _DirectedLinks, within: np.ndarray, is_node: np.ndarray) -> np.ndarray:
    """Number the nodes, neighboring junction pixels as one: (N,), -1 for the pixels in between."""
    node_of = np.full(len(is_node), -1)
    node_of[is_node] = np.unique(_components(hops, within, len(is_node))[is_node], return_inverse=True)[1]
    return node_of


def _components(hops: _DirectedLinks, chosen: np.ndarray, count: int) -> np.ndarray:
    matrix = coo_array((np.ones(chosen.sum()), (hops.tail[chosen], hops.head[chosen])), shape=(count, count))
    return np.asarray(connected_components(matrix, directed=False)[1])


def _follow_edges(hops: _DirectedLinks, is_node: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


class Centerlines(NamedTuple):
    """The veins' graph with its geometry, in pixels.

    lines: one polyline per edge, from node to node. radius: (P,) distance from each vertex to the vein's edge;
    node_radius: (V,), the same for nodes.
    """

    graph: SkeletonGraph
    lines: Polylines
    radius: np.ndarray
    node_radius: np.ndarray


def find_centerlines(veins: np.ndarray) -> Centerlines:
    """Find the centerlines of a vein mask, bool (H, W).

    Lee's thinning keeps the topology; Zhang and Suen's, the usual one, loses whole veins that run at 45 degrees.
    Source: T. C. Lee, R. L. Kashyap, C. N. Chu, CVGIP: Graphical Models and Image Processing 56 (1994).
    """
    depth = distance_transform_edt(veins) - 0.5  # to the vein's edge, half a pixel before the next pixel's center
    skeleton = skeletonize(veins, method="lee").astype(bool)
    while True:  # a pruned spur can leave a shorter one behind; every round leaves fewer pixels
        found = _measure_graph(trace_skeleton(skeleton), depth)
        surplus = _find_spurious_pixels(found)
        if not len(surplus):
            return found
        skeleton[tuple(surplus.T)] = False


def _measure_graph(graph: SkeletonGraph, depth: np.ndarray) -> Centerlines:
    at_pixel = depth[tuple(graph.pixels.T)]
    in_node = graph.node_of >= 0
    node_radius = np.zeros(len(graph.nodes))
    np.maximum.at(node_radius, graph.node_of[in_node], at_pixel[in_node])
    points = graph.pixels[graph.vertices].astype(np.float64)
    for side, vertex in enumerate((graph.starts[:-1], graph.starts[1:] - 1)):
        points[vertex] = graph.nodes[graph.ends[:, side]]
    return Centerlines(graph, Polylines(points, graph.starts).smooth(), at_pixel[graph.vertices], node_radius)


def _find_spurious_pixels(found: Centerlines) -> np.ndarray:
    """Pixels (n, 2) that stand for no vein: spurs, specks and lone pixels.

    A spur is an edge with a free end that reaches out of the disc around its root by less than half that disc's
    radius and 2 px: the corner of a vein's end, a bump on its side. A speck is no longer than twice its width.
    """
    graph, length = found.graph, found.lines.lengths
    degree = graph.degree
    is_tip, radius = degree[graph.ends] == 1, found.node_radius[graph.ends]  # (E, 2)
    tip, root = (np.where(is_tip[:, 0], *pair) for pair in (radius.T, radius.T[::-1]))
    is_spur = (is_tip.sum(axis=1) == 1) & (length + tip <= 1.5 * root + 2.0)
    is_speck = is_tip.all(axis=1) & (length <= 2.0 * radius.max(axis=1))
    node = graph.node_of[graph.vertices]
    is_root = (node >= 0) & (degree[node] > 1)
    dead = np.isin(np.arange(len(graph.pixels)), graph.vertices[(is_spur | is_speck)[found.lines.owner] & ~is_root])
    lone = (graph.node_of >= 0) & (degree[graph.node_of] == 0)
    return np.asarray(graph.pixels[dead | lone])
