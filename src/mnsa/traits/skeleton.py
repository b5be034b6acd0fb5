"""Find the centerlines of a vein mask: skeletonize it, trace the skeleton as a graph, prune and smooth it.

N skeleton pixels; L links between neighbors; V nodes; E edges; P points of all edges, in the order of the edges.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.morphology import skeletonize

_HALF_WINDOW = 2  # of the moving average, in points. Length error: 1 % for lines at any angle, 3 % for a circle of 8 px


_TANGENT_REACH = 3  # points on each side that define the direction


_STEP_PX = 0.5


class Polylines(NamedTuple):
    """points: (P, 2) row, column. starts: (E + 1,) polyline e is points[starts[e] : starts[e + 1]]."""

    points: np.ndarray
    starts: np.ndarray

    @property
    def owner(self) -> np.ndarray:
        """Index of the polyline of every point, (P,)."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def lengths(self) -> np.ndarray:
        """Length of every polyline, (E,)."""
        return np.asarray(np.bincount(self.owner, self._steps, minlength=len(self.starts) - 1))

    @property
    def arc_lengths(self) -> np.ndarray:
        """Arc length from the start of the polyline to every point, (P,)."""
        total = np.cumsum(self._steps)
        return np.asarray(total - total[self.starts[:-1]][self.owner])

    @property
    def tangents(self) -> np.ndarray:
        """Unit vector along the polyline at every point, (P, 2)."""
        before, after = self._points_around
        here = np.arange(len(self.points))
        ahead, behind = (np.minimum(available, _TANGENT_REACH) for available in (after, before))
        return normalize_vectors(self.points[here + ahead] - self.points[here - behind])

    def smooth(self) -> "Polylines":
        """Average every point with the same number of neighbors on each side. End points do not change.

        A path of pixels is up to 8 % longer than the line that it represents; the moving average corrects this.
        """
        before, after = self._points_around
        half = np.minimum(_HALF_WINDOW, np.minimum(before, after))
        here = np.arange(len(self.points))
        sums = np.concatenate([np.zeros((1, 2)), np.cumsum(self.points, axis=0)])
        return self._replace(points=(sums[here + half + 1] - sums[here - half]) / (2 * half + 1)[:, None])

    @property
    def _points_around(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of points before and after every point in its polyline, (P,) each."""
        here, owner = np.arange(len(self.points)), self.owner
        return here - self.starts[:-1][owner], self.starts[1:][owner] - 1 - here

    @property
    def _steps(self) -> np.ndarray:
        """Distance from the previous point to every point, (P,); 0 at the start of a polyline."""
        steps = np.zeros(len(self.points))
        steps[1:] = np.hypot(*np.diff(self.points, axis=0).T)
        steps[self.starts[:-1]] = 0.0
        return steps


def normalize_vectors(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (N, 2) to length 1; zero vectors do not change."""
    return np.asarray(vectors / np.maximum(np.hypot(*vectors.T), 1e-9)[:, None])


def distance_to_edge(mask: np.ndarray, origin: np.ndarray, direction: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Compute the distance that each ray runs inside the mask, (N,), in pixels; 0 for an origin outside.

    mask: bool (H, W); its edge is where the bilinear interpolation is 0.5. origin: (N, 2) row, column;
    direction: (N, 2) unit vectors; limit: (N,) maximum distances.
    """
    pixels = mask.view(np.uint8)
    distance = np.zeros(len(origin))
    before = _interpolate(pixels, origin)
    running = np.flatnonzero(before >= 0.5)
    for count in range(1, 1 + int(np.ceil(limit.max(initial=0.0) / _STEP_PX))):
        if not len(running):
            break
        distance_px = count * _STEP_PX
        here = _interpolate(pixels, origin[running] + distance_px * direction[running])
        is_out = here < 0.5
        beyond = np.where(is_out, (0.5 - here) / np.where(is_out, before[running] - here, 1.0), 0.0)
        distance[running] = np.minimum(distance_px - _STEP_PX * beyond, limit[running])
        before[running] = here
        running = running[~is_out & (distance_px < limit[running])]
    return distance


def _interpolate(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolate bilinearly at points (N, 2): (N,) in 0..1; 0 outside the image."""
    return np.asarray(map_coordinates(pixels, points.T, output=np.float64, order=1, mode="constant"))


class SkeletonGraph(NamedTuple):
    """Nodes and edges of a skeleton.

    pixels: (N, 2) row, column. node_of: (N,) node of each pixel, -1 along an edge. nodes: (V, 2) row, column: the mean
    of the node's pixels. vertices: (P,) pixels along every edge, including those of its two nodes.
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
        """Number of edges at each node, (V,); 0 for a single pixel, 2 where a ring is cut."""
        return np.bincount(self.ends.ravel(), minlength=len(self.nodes))


class _DirectedLinks(NamedTuple):
    """Every link in both directions, (2 L,) each. tail, head: its pixels. back: index of the same link in reverse."""

    tail: np.ndarray
    head: np.ndarray
    back: np.ndarray


def trace_skeleton(skeleton: np.ndarray) -> SkeletonGraph:
    """Trace a skeleton, bool (H, W), one pixel wide. A ring without branches is cut at one pixel."""
    pixels = np.argwhere(skeleton)
    links = _find_links(skeleton)
    degree = np.bincount(links.tail, minlength=len(pixels))
    is_junction = degree > 2
    within = is_junction[links.tail] & is_junction[links.head]
    is_node = (degree != 2) | _find_ring_cuts(links, degree)
    node_of = _number_nodes(links, within, is_node)
    size = np.bincount(node_of[is_node])
    nodes = np.stack([np.bincount(node_of[is_node], axis[is_node]) / size for axis in pixels.T], axis=1)
    vertices, starts = _follow_edges(links, is_node, within)
    ends = node_of[vertices[np.stack([starts[:-1], starts[1:] - 1], axis=1)]]
    return SkeletonGraph(pixels, node_of, nodes, vertices, starts, ends)


class Centerlines(NamedTuple):
    """The graph of the veins with its geometry, in pixels.

    lines: one polyline per edge, from node to node. radius: (P,) distance from each vertex to the vein's edge;
    node_radius: (V,), the same for nodes.
    """

    graph: SkeletonGraph
    lines: Polylines
    radius: np.ndarray
    node_radius: np.ndarray


def find_centerlines(veins: np.ndarray) -> Centerlines:
    """Find the centerlines of a vein mask, bool (H, W).

    Lee's thinning keeps the topology; the default of scikit-image (Zhang and Suen) loses whole veins at 45 degrees.
    Source: T. C. Lee, R. L. Kashyap, C. N. Chu, CVGIP: Graphical Models and Image Processing 56 (1994).
    """
    depth = distance_transform_edt(veins) - 0.5  # to the edge, half a pixel before the center of the next pixel
    skeleton = skeletonize(veins, method="lee").astype(bool)
    while True:  # pruning a spur can create a shorter one; every round removes pixels
        found = _measure_graph(trace_skeleton(skeleton), depth)
        surplus = _find_spurious_pixels(found)
        if not len(surplus):
            return found
        skeleton[tuple(surplus.T)] = False


def _find_links(skeleton: np.ndarray) -> _DirectedLinks:
    """Link 8-neighbors, except diagonal ones that have a common 4-neighbor in the skeleton."""
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


def _find_ring_cuts(links: _DirectedLinks, degree: np.ndarray) -> np.ndarray:
    """Find where to cut rings without a node: at their first pixel, bool (N,)."""
    component = _components(links, np.ones(len(links.tail), dtype=bool), len(degree))
    _, first = np.unique(component, return_index=True)
    is_ring = np.bincount(component, degree != 2) == 0
    cuts = np.zeros(len(degree), dtype=bool)
    cuts[first[is_ring]] = True
    return cuts


def _number_nodes(links: _DirectedLinks, within: np.ndarray, is_node: np.ndarray) -> np.ndarray:
    """Number the nodes, (N,); -1 along edges. Neighboring junction pixels are one node."""
    node_of = np.full(len(is_node), -1)
    node_of[is_node] = np.unique(_components(links, within, len(is_node))[is_node], return_inverse=True)[1]
    return node_of


def _components(links: _DirectedLinks, chosen: np.ndarray, count: int) -> np.ndarray:
    matrix = coo_array((np.ones(chosen.sum()), (links.tail[chosen], links.head[chosen])), shape=(count, count))
    return np.asarray(connected_components(matrix, directed=False)[1])


def _follow_edges(links: _DirectedLinks, is_node: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow all links to the nodes they lead to; links with the same last link are one edge.

    Pointer doubling needs log2(longest edge) rounds. Return vertices (P,), starts (E + 1,).
    """
    link = np.arange(len(links.tail))
    # Along an edge two links leave a pixel. The sum of their indices minus the link back is the next link.
    leaving = np.bincount(links.tail, link, minlength=len(is_node)).astype(np.intp)
    last = np.where(is_node[links.head], link, leaving[links.head] - links.back)
    ahead = (last != link).astype(np.intp)
    while not np.array_equal(further := last[last], last):
        ahead, last = ahead + ahead[last], further
    first = link[is_node[links.tail] & ~within]
    first = first[first < links.back[last[first]]]  # each edge is found from both ends: keep one
    edge_at = np.full(len(link), -1)
    edge_at[last[first]] = np.arange(len(first))
    edge_of = edge_at[last]
    kept = link[edge_of >= 0]
    kept = kept[np.lexsort((-ahead[kept], edge_of[kept]))]
    starts = np.concatenate([[0], np.cumsum(np.bincount(edge_of[kept], minlength=len(first)) + 1)])
    vertices = np.empty(starts[-1], dtype=np.intp)
    vertices[np.arange(len(kept)) + edge_of[kept]] = links.tail[kept]
    vertices[starts[1:] - 1] = links.head[last[first]]
    return vertices, starts


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
    """Find the pixels (n, 2) that are not part of a vein: spurs, specks and single pixels.

    A spur is an edge with a free end that leaves the disc around its other end by less than half the disc's radius
    plus 2 px: a corner at the end of a vein, or a bump on its side. A speck is at most twice as long as wide.
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
