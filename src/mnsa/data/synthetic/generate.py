"""Draw one leaf of a cultivar with its masks and true traits, or generate a data set of leaves with several processes.

Polygons are anti-aliased by supersampling, veins by the distance from the pixel to the vein. The data set does not
depend on the number of processes.

N segments; H, W or size_px image size in pixels.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import label

from mnsa.data.manifest import Manifest, Row, new_dataset_folder, read_manifest, write_manifest_files
from mnsa.data.synthetic.leaf_shape import (
    Cultivar,
    LeafOutline,
    LeafParameters,
    Pose,
    draw_outline,
    draw_pose,
    make_cultivar,
    sample_parameters,
)
from mnsa.data.synthetic.major_veins import draw_midrib, draw_secondaries, place_secondaries
from mnsa.data.synthetic.minor_veins import VeinSegments, assemble_veins, draw_minor_veins
from mnsa.data.synthetic.photo import LeafLayers, render_photo
from mnsa.errors import DataError

Job = TypeVar("Job")

IMAGE_SIDE_MM = 110.0  # so the leaves are 78 to 87 mm long

MIN_VALUES = {"size": 64, "seed": 0}  # the minimum of other options is 1

MAX_SIZE_PX = 2048

FOLDERS = ("images", "vein_masks", "leaf_masks")

SUPERSAMPLING = 8

EDGE_PX = 0.5  # half of the soft edge of a drawn vein

TONE_OF_ORDER = {1: 1.0, 2: 0.82, 3: 0.52, 4: 0.38}  # contrast of the veins of each order

PETIOLE_RADIUS = 0.0095  # in leaf lengths


class SynthesisPlan(NamedTuple):
    """Numbers of cultivars and of leaves per cultivar, image size, and seed."""

    cultivars: int
    per_cultivar: int
    size_px: int
    seed: int


def synthesize(out: Path, *, cultivars: int, per_cultivar: int, size_px: int, seed: int, workers: int) -> Manifest:
    """Write a data set of `cultivars` times `per_cultivar` leaves into the new folder `out`. An error leaves no folder.

    The first 60 % of each cultivar are for training, the next 20 % for validation, the rest for testing.
    Raises: DataError when `out` exists or a number is out of range.
    """
    validate_numbers(cultivars=cultivars, per_cultivar=per_cultivar, size=size_px, seed=seed, workers=workers)
    plan = SynthesisPlan(cultivars, per_cultivar, size_px, seed)
    with new_dataset_folder(out) as folder:
        for name in FOLDERS:
            (folder / name).mkdir()
        classes = tuple(make_cultivar(seed, index).name for index in range(cultivars))
        jobs = product(range(plan.cultivars), range(plan.per_cultivar))
        rows = write_rows(partial(_write_leaf, plan, folder), jobs, workers)
        manifest = Manifest(out.name, folder.resolve(), classes, ("vein",), rows)
        write_manifest_files(manifest, folder)
    return read_manifest(out)


def fill_polygon(polygon: np.ndarray, size_px: int) -> np.ndarray:
    """Compute the covered fraction of each pixel, (size_px, size_px) in 0..1. polygon: (N, 2) x and y, in pixels."""
    canvas = Image.new("L", (size_px * SUPERSAMPLING,) * 2)
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in (polygon * SUPERSAMPLING - 0.5).tolist()], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float64) / 255.0


def vein_depth(segments: VeinSegments, size_px: int) -> np.ndarray:
    """Compute how deep each pixel's center is inside a vein, in pixels, (size_px, size_px); negative outside.

    The minimum is -EDGE_PX, where a vein covers no part of the pixel. segments: in pixels.
    """
    half = int(np.ceil(segments.radius.max() + EDGE_PX + segments.length.max() / 2.0))
    window = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 2)).reshape(2, 1, -1)
    middle = 0.5 * (segments.start + segments.end)
    columns, rows = np.floor(middle).T.astype(np.intp)[:, :, None] + window  # (N, window) each
    depth = segments.radius[:, None] - _distance(columns + 0.5, rows + 0.5, segments)
    near = (depth > -EDGE_PX) & (columns >= 0) & (columns < size_px) & (rows >= 0) & (rows < size_px)
    deepest = np.full(size_px * size_px, -EDGE_PX)
    np.maximum.at(deepest, (rows * size_px + columns)[near], depth[near])
    return deepest.reshape(size_px, size_px)


@dataclass(frozen=True, slots=True)
class TrueTraits:
    """The true traits of a drawn leaf. Units: pixels of the image.

    leaf_area_px2: area of the outline polygon, without the petiole. vein_length_px: length of all vein centerlines
    inside the outline, from the geometry. vein_density_px_per_px2: their ratio. areole_count: regions closed by veins,
    that is, 4-connected regions of the leaf mask without the vein mask that have no 4-neighbor outside of the leaf.
    """

    leaf_area_px2: float
    vein_length_px: float
    vein_density_px_per_px2: float
    areole_count: int

    def columns(self) -> dict[str, str]:
        """Return the traits as text, by column of the manifest."""
        return {name: f"{value:.6g}" for name, value in asdict(self).items()}


def compute_true_traits(
    polygon_px: np.ndarray, segments_px: VeinSegments, leaf: np.ndarray, veins: np.ndarray
) -> TrueTraits:
    """Compute the true traits. polygon_px: outline (N, 2). leaf, veins: masks, bool (H, W)."""
    area = polygon_area(polygon_px)
    length = float(segments_px.length.sum())
    return TrueTraits(area, length, length / area, count_areoles(leaf, veins))


def polygon_area(polygon: np.ndarray) -> float:
    """Compute the area of a simple polygon (N, 2) with the shoelace formula."""
    x, y = polygon.T
    return float(0.5 * abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()))


def count_areoles(leaf: np.ndarray, veins: np.ndarray) -> int:
    """Count the regions that are enclosed by veins. leaf, veins: bool (H, W)."""
    regions, count = label(~(leaf & veins))  # 4-connected, as the veins are 8-connected
    return int(count - len(np.setdiff1d(regions[~leaf], 0)))


def fill_single_pixels(veins: np.ndarray) -> np.ndarray:
    """Add the single pixels that veins, bool (H, W), enclose.

    They are gaps of the raster between veins at a sharp angle, no areoles: they are not visible
    in the image, and yet at 256 px they were a seventh of all closed regions.
    """
    neighbors = np.pad(veins, 1)
    enclosed = neighbors[:-2, 1:-1] & neighbors[2:, 1:-1] & neighbors[1:-1, :-2] & neighbors[1:-1, 2:]
    return np.asarray(veins | enclosed)


@dataclass(frozen=True, slots=True)
class DrawnLeaf:
    """The image, masks and true traits of a leaf.

    image: uint8 (H, W, 3), sRGB. vein_mask, leaf_mask: uint8 (H, W), 0 or 255; the petiole is in neither mask.
    """

    image: np.ndarray
    vein_mask: np.ndarray
    leaf_mask: np.ndarray
    traits: TrueTraits


def draw_leaf(cultivar: Cultivar, rng: np.random.Generator, size_px: int) -> DrawnLeaf:
    """Draw one leaf of a cultivar. The same state of rng gives the same leaf at every size_px."""
    parameters = sample_parameters(cultivar, rng)
    outline, pose = draw_outline(parameters, rng), draw_pose(rng)
    veins, petiole = _draw_veins(parameters, outline, rng), _draw_petiole(rng)
    veins_px, petiole_px = (_to_pixels(segments, pose, size_px) for segments in (veins, petiole))
    margin_px = pose.to_image(outline.polygon()) * size_px

    blade = fill_polygon(margin_px, size_px)
    leaf = blade >= 0.5
    depths = {order: vein_depth(veins_px.of_order(order), size_px) for order in TONE_OF_ORDER}
    vein = leaf & fill_single_pixels(np.maximum.reduce(list(depths.values())) >= 0.0)
    tone = np.maximum.reduce([TONE_OF_ORDER[order] * _coverage(depth) for order, depth in depths.items()])
    centers = (np.arange(size_px) + 0.5) / size_px
    along, across = pose.to_leaf(*np.meshgrid(centers, centers))
    layers = LeafLayers(blade, _coverage(vein_depth(petiole_px, size_px)), tone, along, across)
    image = render_photo(layers, parameters, rng)
    return DrawnLeaf(image, _to_mask(vein), _to_mask(leaf), compute_true_traits(margin_px, veins_px, leaf, vein))


def write_rows(write: Callable[[Job], Row], jobs: Iterable[Job], workers: int) -> tuple[Row, ...]:
    """Call `write` for every job, in `workers` processes. Returns: the rows, in the order of the jobs."""
    if workers == 1:
        return tuple(map(write, jobs))
    # Spawn, not fork: a forked process would copy locks that other threads of the caller hold.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return tuple(pool.map(write, jobs, chunksize=4))


def validate_numbers(**numbers: int) -> None:
    """Check the numbers of a command by their names. Raises: DataError."""
    for name, number in numbers.items():
        lowest = MIN_VALUES.get(name, 1)
        if number < lowest:
            raise DataError(f"--{name.replace('_', '-')} is {number}; expected {lowest} or more.")
    if numbers["size"] > MAX_SIZE_PX:
        raise DataError(
            f"--size is {numbers['size']}; expected {MAX_SIZE_PX} or less, as memory grows with its square."
        )


def _write_leaf(plan: SynthesisPlan, folder: Path, job: tuple[int, int]) -> Row:
    index, individual = job
    cultivar = make_cultivar(plan.seed, index)
    source = np.random.SeedSequence([plan.seed, index, individual])
    leaf = draw_leaf(cultivar, np.random.Generator(np.random.PCG64(source)), plan.size_px)
    stem = f"{cultivar.name}_{individual:04d}"
    image, vein_mask, leaf_mask = f"images/{stem}.jpg", f"vein_masks/{stem}.png", f"leaf_masks/{stem}.png"
    Image.fromarray(leaf.image).save(folder / image, quality=95)
    Image.fromarray(leaf.vein_mask).save(folder / vein_mask)
    Image.fromarray(leaf.leaf_mask).save(folder / leaf_mask)
    return Row(
        image=image,
        mask=vein_mask,
        label=cultivar.name,
        split=_split_of_individual(individual, plan.per_cultivar),
        px_per_mm=plan.size_px / IMAGE_SIDE_MM,
        extra={"leaf_mask": leaf_mask, **leaf.traits.columns()},
    )


def _split_of_individual(individual: int, per_cultivar: int) -> str:
    fraction = (individual + 0.5) / per_cultivar
    return "train" if fraction < 0.6 else "val" if fraction < 0.8 else "test"


def _distance(x: np.ndarray, y: np.ndarray, segments: VeinSegments) -> np.ndarray:
    """Compute the distance from the points x, y, (N, W) each, to the segment of the same row, (N, W)."""
    start_x, start_y = segments.start.T[:, :, None]
    step_x, step_y = (segments.end - segments.start).T[:, :, None]
    x, y = x - start_x, y - start_y
    position = (x * step_x + y * step_y) / np.maximum(step_x**2 + step_y**2, 1e-12)
    position = np.clip(position, 0.0, 1.0)
    return np.asarray(np.sqrt((x - position * step_x) ** 2 + (y - position * step_y) ** 2))


def _draw_veins(parameters: LeafParameters, outline: LeafOutline, rng: np.random.Generator) -> VeinSegments:
    sides = place_secondaries(parameters, rng)
    major = [
        draw_midrib(sides),
        *(vein for secondaries in sides for vein in draw_secondaries(secondaries, outline, rng)),
    ]
    return assemble_veins(major, draw_minor_veins(major, sides, outline, parameters.areole_size, rng), outline)


def _draw_petiole(rng: np.random.Generator) -> VeinSegments:
    x = np.linspace(0.005, -rng.uniform(0.07, 0.13), 24)
    points = np.stack([x, rng.uniform(-2.0, 2.0) * x**2], axis=1)
    return VeinSegments(points[:-1], points[1:], np.full(23, PETIOLE_RADIUS), np.zeros(23, dtype=int))


def _to_pixels(segments: VeinSegments, pose: Pose, size_px: int) -> VeinSegments:
    """Convert to pixels. Radii have a minimum, so that thin veins have no gaps: 1 px along a row or column."""
    start, end = (pose.to_image(points) * size_px for points in (segments.start, segments.end))
    step = end - start
    thinnest = 0.5 * np.abs(step).max(axis=1) / np.maximum(np.hypot(*step.T), 1e-9)
    return VeinSegments(start, end, np.maximum(segments.radius * pose.length * size_px, thinnest), segments.order)


def _coverage(depth: np.ndarray) -> np.ndarray:
    return np.clip(depth + EDGE_PX, 0.0, 1.0)


def _to_mask(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, 255, 0).astype(np.uint8)
