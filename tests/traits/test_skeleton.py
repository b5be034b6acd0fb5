"""A skeleton's graph has the nodes, edges and lengths that networkx finds, and as many loops as the mask has holes."""

from typing import Any

import networkx as nx
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from skimage.morphology import skeletonize

from mnsa.traits.skeleton import Polylines, SkeletonGraph, trace_skeleton

SQUARE = np.ones((3, 3))


def pixel_graph(skeleton: Any) -> Any:
    """Neighbouring pixels linked, without the diagonals that a side step bridges; pixel by pixel."""
    graph, pixels = nx.Graph(), set(map(tuple, np.argwhere(skeleton).tolist()))
    graph.add_nodes_from(pixels)
    for row, column in pixels:
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            there = (row + down, column + right)
            if there not in pixels:
                continue
            if down and right and ({(row + down, column), (row, column + right)} & pixels):
                continue
            graph.add_edge((row, column), there, px=float(np.hypot(down, right)))
    return graph


def blobs(seed: int, side: Any = 80) -> Any:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 2.0)
    return np.abs(noise) < 0.5 * noise.std()


def traced_length(graph: SkeletonGraph) -> Any:
    return Polylines(graph.pixels[graph.vertices].astype(float), graph.starts).lengths.sum()


@pytest.mark.parametrize("seed", range(5))
def test_nodes_and_edges_equal_those_of_networkx(seed: int) -> None:
    skeleton = skeletonize(blobs(seed), method="lee").astype(bool)
    theirs, ours = pixel_graph(skeleton), trace_skeleton(skeleton)
    junctions = theirs.subgraph([pixel for pixel, degree in theirs.degree if degree > 2])
    assert (ours.degree == 1).sum() == sum(degree == 1 for _, degree in theirs.degree)
    assert (ours.degree == 0).sum() == nx.number_of_isolates(theirs)
    loose = [part for part in nx.connected_components(theirs) if all(theirs.degree[pixel] == 2 for pixel in part)]
    rings = len(loose)
    several = sum(degree != 2 for _, degree in theirs.degree) - len(junctions)  # ends and lone pixels
    assert len(ours.nodes) == nx.number_connected_components(junctions) + several + rings
    inner_px = sum(px for *_, px in junctions.edges.data("px"))
    assert traced_length(ours) == pytest.approx(theirs.size(weight="px") - inner_px)
    loops = theirs.number_of_edges() - theirs.number_of_nodes() + nx.number_connected_components(theirs)
    inner_loops = junctions.number_of_edges() - junctions.number_of_nodes() + nx.number_connected_components(junctions)
    parts = nx.number_connected_components(theirs)
    assert len(ours.ends) - len(ours.nodes) + parts == loops - inner_loops


@pytest.mark.parametrize("seed", range(5))
def test_every_hole_of_the_mask_is_a_loop_of_the_graph(seed: int) -> None:
    mask = np.pad(blobs(seed), 1)
    holes = label(~mask)[1] - 1
    graph = trace_skeleton(skeletonize(mask, method="lee").astype(bool))
    assert holes > 5
    assert len(graph.ends) - len(graph.nodes) + label(mask, SQUARE)[1] == holes


def test_an_edge_lists_its_pixels_in_order() -> None:
    path = np.array([(2, 1), (2, 2), (3, 3), (4, 3), (5, 4), (5, 5), (4, 6)])
    skeleton = np.zeros((8, 8), dtype=bool)
    skeleton[tuple(path.T)] = True
    graph = trace_skeleton(skeleton)
    walked = graph.pixels[graph.vertices]
    assert walked.tolist() in (path.tolist(), path[::-1].tolist())
    assert graph.degree.tolist() == [1, 1]


def test_a_ring_is_one_edge_that_ends_where_it_begins() -> None:
    ring = np.array([(1, 2), (2, 3), (3, 2), (2, 1)])
    skeleton = np.zeros((5, 5), dtype=bool)
    skeleton[tuple(ring.T)] = True
    graph = trace_skeleton(skeleton)
    assert graph.ends.tolist() == [[0, 0]]
    assert graph.degree.tolist() == [2]
    assert len(graph.vertices) == 5
    assert traced_length(graph) == pytest.approx(4 * np.sqrt(2))


@pytest.mark.parametrize("pixels", [0, 1])
def test_an_empty_mask_and_a_single_pixel_have_no_edge(pixels: int) -> None:
    skeleton = np.zeros((4, 5), dtype=bool)
    skeleton.flat[7 : 7 + pixels] = True
    graph = trace_skeleton(skeleton)
    assert (len(graph.nodes), len(graph.ends), graph.starts.tolist()) == (pixels, 0, [0])
