"""From a vein mask to its centrelines: thinned, rid of what thinning makes up, smoothed.

N skeleton pixels; V nodes; E edges; P vertices of all edges.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize

from mnsa.traits.graph import Graph, trace
from mnsa.traits.polyline import Polylines


class Centrelines(NamedTuple):
    """The veins' graph with its geometry, in pixels.

    lines: one polyline per edge, from node to node. radius: (P,) distance from each vertex to the vein's edge;
    node_radius: (V,), the same for nodes.
    """

    graph: Graph
    lines: Polylines
    radius: np.ndarray
    node_radius: np.ndarray


def centrelines(veins: np.ndarray) -> Centrelines:
    """Find the centrelines of a vein mask, bool (H, W).

    Lee's thinning keeps the topology; Zhang and Suen's, the usual one, loses whole veins that run at 45 degrees.
    Source: T. C. Lee, R. L. Kashyap, C. N. Chu, CVGIP: Graphical Models and Image Processing 56 (1994).
    """
    depth = distance_transform_edt(veins) - 0.5  # to the vein's edge, half a pixel before the next pixel's centre
    skeleton = skeletonize(veins, method="lee").astype(bool)
    while True:  # a pruned spur can leave a shorter one behind; every round leaves fewer pixels
        found = _measured(trace(skeleton), depth)
        surplus = _surplus(found)
        if not len(surplus):
            return found
        skeleton[tuple(surplus.T)] = False


def _measured(graph: Graph, depth: np.ndarray) -> Centrelines:
    at_pixel = depth[tuple(graph.pixels.T)]
    in_node = graph.node_of >= 0
    node_radius = np.zeros(len(graph.nodes))
    np.maximum.at(node_radius, graph.node_of[in_node], at_pixel[in_node])
    points = graph.pixels[graph.vertices].astype(np.float64)
    for side, vertex in enumerate((graph.starts[:-1], graph.starts[1:] - 1)):
        points[vertex] = graph.nodes[graph.ends[:, side]]
    return Centrelines(graph, Polylines(points, graph.starts).smooth(), at_pixel[graph.vertices], node_radius)


def _surplus(found: Centrelines) -> np.ndarray:
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
