"""One leaf, from its cultivar to its picture, its masks and its true traits."""

from dataclasses import dataclass

import numpy as np

from mnsa.data.synthetic.appearance import Layers, photograph
from mnsa.data.synthetic.cultivar import Cultivar, Habit, grow
from mnsa.data.synthetic.network import Pieces, assemble
from mnsa.data.synthetic.outline import Outline, Pose, draw_outline, draw_pose
from mnsa.data.synthetic.raster import EDGE_PX, fill_polygon, vein_depth
from mnsa.data.synthetic.reticulum import reticulum
from mnsa.data.synthetic.traits import Traits, measure
from mnsa.data.synthetic.venation import draw_ribs, midrib, secondaries

ORDER_TONE = {1: 1.0, 2: 0.82, 3: 0.52, 4: 0.38}  # how strongly the veins of each order stand out
PETIOLE_RADIUS = 0.0095  # in leaf lengths


@dataclass(frozen=True, slots=True)
class DrawnLeaf:
    """A picture and the truth about it, all of one height and width.

    image: uint8 (H, W, 3), sRGB. vein_mask, leaf_mask: uint8 (H, W), 0 or 255; the petiole belongs to neither.
    """

    image: np.ndarray
    vein_mask: np.ndarray
    leaf_mask: np.ndarray
    traits: Traits


def draw_leaf(cultivar: Cultivar, rng: np.random.Generator, size_px: int) -> DrawnLeaf:
    """Draw one individual. The same state of rng gives the same leaf at every size_px, larger or smaller."""
    habit = grow(cultivar, rng)
    outline, pose = draw_outline(habit, rng), draw_pose(rng)
    veins, petiole = _draw_veins(habit, outline, rng), _draw_petiole(rng)
    veins_px, petiole_px = (_to_pixels(pieces, pose, size_px) for pieces in (veins, petiole))
    margin_px = pose.to_image(outline.polygon()) * size_px

    blade = fill_polygon(margin_px, size_px)
    leaf = blade >= 0.5
    depths = {order: vein_depth(veins_px.of_order(order), size_px) for order in ORDER_TONE}
    vein = leaf & (np.maximum.reduce(list(depths.values())) >= 0.0)
    tone = np.maximum.reduce([ORDER_TONE[order] * _cover(depth) for order, depth in depths.items()])
    centres = (np.arange(size_px) + 0.5) / size_px
    along, across = pose.to_leaf(*np.meshgrid(centres, centres))
    layers = Layers(blade, _cover(vein_depth(petiole_px, size_px)), tone, along, across)
    image = photograph(layers, habit, rng)
    return DrawnLeaf(image, _mask(vein), _mask(leaf), measure(margin_px, veins_px, leaf, vein))


def _draw_veins(habit: Habit, outline: Outline, rng: np.random.Generator) -> Pieces:
    sides = draw_ribs(habit, rng)
    major = [midrib(sides), *(vein for ribs in sides for vein in secondaries(ribs, outline, rng))]
    return assemble(major, reticulum(major, sides, outline, habit.areole_size, rng), outline)


def _draw_petiole(rng: np.random.Generator) -> Pieces:
    x = np.linspace(0.005, -rng.uniform(0.07, 0.13), 24)
    points = np.stack([x, rng.uniform(-2.0, 2.0) * x**2], axis=1)
    return Pieces(points[:-1], points[1:], np.full(23, PETIOLE_RADIUS), np.zeros(23, dtype=int))


def _to_pixels(pieces: Pieces, pose: Pose, size_px: int) -> Pieces:
    """In pixels; no vein is thinner than the thinnest digital line without gaps, 1 px along a row or column."""
    start, end = (pose.to_image(points) * size_px for points in (pieces.start, pieces.end))
    step = end - start
    thinnest = 0.5 * np.abs(step).max(axis=1) / np.maximum(np.hypot(*step.T), 1e-9)
    return Pieces(start, end, np.maximum(pieces.radius * pose.length * size_px, thinnest), pieces.order)


def _cover(depth: np.ndarray) -> np.ndarray:
    return np.clip(depth + EDGE_PX, 0.0, 1.0)


def _mask(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, 255, 0).astype(np.uint8)
