"""Traits of the vein network: length, width, branching, and distance to the nearest vein.

V nodes; E edges; P vertices of all edges.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from mnsa.traits.records import Distribution, VeinTraits, summarize
from mnsa.traits.skeleton import Centerlines, distance_to_edge, find_centerlines, normalize_vectors

_PROBE_PX = 1.5  # beyond the end of a vein, to find whether the leaf or image ends there

_OFF_CENTER_PX = 1.5  # maximum distance of a pixel centerline from the middle of its vein


def measure_veins(
    veins: np.ndarray, reference_area: np.ndarray, reference_name: str, leaf: np.ndarray | None
) -> VeinTraits:
    """Measure a vein mask. Ends at the margin of the leaf are not free. veins, reference_area, leaf: bool (H, W)."""
    found = find_centerlines(veins)
    to_ends, free_endings = _measure_ends(found, veins, leaf)
    is_split = _find_split_crossings(found)
    width, weight = _measure_widths(found, veins, is_split)
    edge_length = found.lines.lengths + to_ends
    order_length = np.bincount(_vein_orders(found, width, weight), edge_length, minlength=3)
    length, area = float(edge_length.sum()), float(reference_area.sum())
    return VeinTraits(
        reference=reference_name,
        reference_area_px2=area,
        length_px=length,
        density_px_per_px2=length / area if area else float("nan"),
        area_fraction=float((veins & reference_area).sum()) / area if area else float("nan"),
        width_px=summarize(width, weight),
        branch_count=int((found.graph.degree > 2).sum() - is_split.sum()),
        free_ending_count=free_endings,
        tortuosity=_tortuosity(found),
        order1_length_px=float(order_length[0]),
        order2_length_px=float(order_length[1]),
        order3_length_px=float(order_length[2]),
        distance_px=_vein_distance(veins, reference_area),
    )


def _measure_ends(found: Centerlines, veins: np.ndarray, leaf: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Measure the missing length at the ends of each edge, (E,) px: thinning shortens a vein by about half its width.

    Also return the number of free ends: those that are not at the margin of the leaf or the border of the image.
    """
    lines, degree = found.lines, found.graph.degree
    first, last = lines.starts[:-1], lines.starts[1:] - 1
    tip, inward = np.concatenate([first, last]), np.repeat([1, -1], len(first))
    is_end = degree[np.concatenate(found.graph.ends.T)] == 1
    tip, inward, edge = tip[is_end], inward[is_end], np.tile(np.arange(len(first)), 2)[is_end]
    radius = found.radius[tip]
    reach = np.minimum(np.ceil(2.0 * radius).astype(np.intp) + 4, (last - first)[edge])
    outward = normalize_vectors(lines.points[tip] - lines.points[tip + inward * reach])
    to_end = distance_to_edge(veins, lines.points[tip], outward, limit=2.0 * radius + 4.0)
    beyond = np.rint(lines.points[tip] + (to_end + _PROBE_PX)[:, None] * outward).astype(np.intp)
    inside = ((beyond >= 0) & (beyond < veins.shape)).all(axis=1)
    if leaf is not None:
        inside[inside] = leaf[tuple(beyond[inside].T)]
    return np.bincount(edge, to_end, minlength=len(first)), int(inside.sum())


def _measure_widths(found: Centerlines, veins: np.ndarray, is_split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure the vein width at every vertex, in pixels, and its weight, a length in pixels: (P,) each.

    Inside the disc around a branch point an edge runs in the other vein: those vertices have weight 0, and the rest of
    the edge gets their weight. If the whole edge is inside, its middle gets all weight.
    """
    lines, graph = found.lines, found.graph
    along = lines.tangents
    across, limit = np.stack([-along[:, 1], along[:, 0]], axis=1), found.radius + _OFF_CENTER_PX
    width = sum(distance_to_edge(veins, lines.points, side, limit) for side in (across, -across))
    disc = np.where(graph.degree > 2, found.node_radius + _OFF_CENTER_PX, 0.0)[graph.ends][lines.owner]  # (P, 2)
    arc_lengths, length = lines.arc_lengths, lines.lengths
    outside = np.minimum(arc_lengths - disc[:, 0], length[lines.owner] - arc_lengths - disc[:, 1])
    farthest = np.maximum.reduceat(outside, lines.starts[:-1]) if len(length) else length
    counts = outside >= np.minimum(farthest, 0.0)[lines.owner]
    weight = length * ~is_split / np.maximum(np.bincount(lines.owner, counts, minlength=len(length)), 1.0)
    return np.asarray(width), counts * weight[lines.owner]


def _find_split_crossings(found: Centerlines) -> np.ndarray:
    """Find the short edges that thinning creates when it splits a crossing into two branch points, bool (E,).

    The two branch points are close, and each is the nearest of the other.
    """
    graph, length = found.graph, found.lines.lengths
    near = length <= 2.0 + found.node_radius[graph.ends].max(axis=1, initial=0.0)
    near &= (graph.degree[graph.ends] > 2).all(axis=1) & (graph.ends[:, 0] != graph.ends[:, 1])
    rank = np.full(len(length), len(length))
    rank[near] = np.argsort(np.argsort(length[near], kind="stable"), kind="stable")
    nearest = np.full(len(graph.nodes), len(length))
    for side in graph.ends.T:
        np.minimum.at(nearest, side, rank)
    return np.asarray(near & (nearest[graph.ends] == rank[:, None]).all(axis=1))


def _tortuosity(found: Centerlines) -> Distribution:
    """Compute length / distance of the ends, over all edges with different ends."""
    length, ends = found.lines.lengths, found.graph.nodes[found.graph.ends]
    distance = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    apart = distance > 0.0
    return summarize(length[apart] / distance[apart], length[apart])


def _vein_orders(found: Centerlines, width: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the order of every edge minus one, (E,), from its mean width, or from its disc for a split crossing."""
    owner, edges = found.lines.owner, len(found.graph.ends)
    if not edges:
        return np.empty(0, dtype=np.intp)
    rank = np.argsort(width, kind="stable")
    widest = width[rank][np.searchsorted(np.cumsum(weight[rank]), 0.99 * weight.sum())]
    total = np.bincount(owner, weight, minlength=edges)
    edge_width = np.bincount(owner, weight * width, minlength=edges) / np.maximum(total, 1e-9)
    edge_width = np.where(total > 0.0, edge_width, 2.0 * found.node_radius[found.graph.ends].mean(axis=1))
    return np.asarray((edge_width <= widest / 2.0).astype(np.intp) + (edge_width <= widest / 4.0))


def _vein_distance(veins: np.ndarray, reference_area: np.ndarray) -> Distribution:
    """Summarize the distance from each pixel between the veins to the edge of the nearest vein."""
    if not veins.any():
        return summarize(np.empty(0))
    return summarize(distance_transform_edt(~veins)[reference_area & ~veins] - 0.5)
