"""Place the leaves of the kind `varied` in an image, draw their finer veins, and rasterize all of it.

Coordinates are pixels, x to the right and y down. S: side of the image in pixels.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.spatial import Voronoi, cKDTree

from mnsa.data.synthetic.major_veins import Vein
from mnsa.data.synthetic.varied_shape import Blade, Species, draw_blade, draw_leaflets, ribbon

VIEWS = {"whole": 0.34, "several": 0.1, "closeup": 0.36, "patch": 0.2}  # patch: cut from a blade, without outline

FINEST_SPACING_PX = 9.0  # a finer net is no more than texture

THINNEST_RADIUS_PX = 0.75  # of a vein in a mask, so that it has no gaps


class PlacedLeaf(NamedTuple):
    """A leaf in the image: blade in pixels, and the length of its midrib in pixels."""

    blade: Blade
    length_px: float


class Layers(NamedTuple):
    """What is where, (S, S) each; float32 in 0..1 if not stated otherwise.

    blade, stem: covered fraction of a pixel. veins: covered fraction by veins of order 1, 2, 3, 4. tone: a random value
    per leaf. orders: uint8, order of the vein at a pixel as in a mask: at least 1.5 px wide; 0: no vein. widths_px:
    typical width of the veins of order 1 to 4. gaps_px: their typical distance.
    """

    blade: np.ndarray
    stem: np.ndarray
    veins: tuple[np.ndarray, ...]
    tone: np.ndarray
    orders: np.ndarray
    widths_px: tuple[float, float, float, float]
    gaps_px: tuple[float, float, float, float]


def sample_view(rng: np.random.Generator) -> str:
    """Sample how much of a leaf the image shows: a key of VIEWS."""
    return str(rng.choice(list(VIEWS), p=list(VIEWS.values())))


def place_leaves(species: Species, view: str, size_px: int, rng: np.random.Generator) -> list[PlacedLeaf]:
    """Draw the leaves of an image and place them; later ones lie on earlier ones."""
    if view != "several":
        return _place_one(species, view, size_px, rng)
    count = int(rng.integers(2, 7))
    cells = rng.permutation(9)[:count]
    placed = []
    for cell in cells:
        center = (np.array([cell % 3, cell // 3]) + rng.uniform(0.1, 0.9, 2)) / 3.0 * size_px
        leaves = _draw_leaf(species, rng)
        extent = rng.uniform(0.35, 0.7) * size_px
        placed += _fit(leaves, extent, center, rng.uniform(0.0, 2.0 * np.pi))
    return placed


def rasterize(leaves: list[PlacedLeaf], species: Species, size_px: int, rng: np.random.Generator) -> Layers:
    """Draw the layers of all leaves."""
    scale = 4 if size_px <= 512 else 2
    names = ("stem", 1, 2, 3, 4)
    canvas = {name: _Canvas(size_px, scale) for name in names}
    # Every second pixel of a mask's canvas is taken, so these have their centers where the image has them.
    blade, tone, mask = _Canvas(size_px, 2), _Canvas(size_px, 1), _Canvas(size_px, 2, offset=1.0)
    near: list[Vein] = []
    length_px = float(np.median([leaf.length_px for leaf in leaves]))
    for leaf, shade in zip(leaves, rng.permutation(np.linspace(1, 255, len(leaves)).astype(int)), strict=True):
        for polygon in leaf.blade.polygons:
            blade.polygon(polygon, 255)
            tone.polygon(polygon, int(shade))
            if len(leaves) > 1:
                for each in (*canvas.values(), mask):
                    each.polygon(polygon, 0)
        visible = [vein for vein in leaf.blade.veins if _is_near(vein.points, size_px)]
        canvas["stem"].ribbon(leaf.blade.petiole)
        mask.ribbon(leaf.blade.petiole, 1, THINNEST_RADIUS_PX)
        for vein in sorted(visible, key=lambda vein: -vein.order):
            if vein.order == 3:
                canvas[3].lines(vein.points[None], float(vein.radii[0]))
                mask.lines(vein.points[None], max(float(vein.radii[0]), THINNEST_RADIUS_PX), 3)
            else:
                canvas[vein.order].ribbon(vein)
                mask.ribbon(vein, vein.order, THINNEST_RADIUS_PX)
        near += visible
    majors = _segments(near)
    radius = species.midrib_radius * species.secondary_ratio * species.tertiary_ratio * length_px
    nets, fine = _Canvas(size_px, 2, offset=1.0), []
    if not species.ladder and species.venation != "parallel":
        walls = draw_net(majors, species.tertiary_spacing * length_px, size_px, rng)
        majors = np.concatenate([majors, walls])
        fine.append((3, radius, bend_walls(walls, rng)))
    walls = draw_net(majors, species.areole_size * length_px, size_px, rng)
    fine.append((4, radius * species.fine_ratio, bend_walls(walls, rng)))
    for order, thin, walls in reversed(fine):
        canvas[order].lines(walls, thin)
        if thin > 0.3:  # no mask has thinner veins
            nets.lines(walls, max(thin, THINNEST_RADIUS_PX), order)
    cover = blade.rounded(0.006 * length_px if species.lobe_depth or species.outline == "palmate" else 0.0)
    stem = canvas["stem"].coverage()
    drawn, net = (np.asarray(image)[::2, ::2] for image in (mask.image, nets.image))
    net = np.where(cover >= 0.5, net, 0)
    orders = np.where((drawn > 0) & ((drawn < 4) | (net == 0)), drawn, net)
    orders = np.where((cover >= 0.5) | ((stem >= 0.5) & (orders == 1)), orders, 0).astype(np.uint8)
    veins = tuple(canvas[order].coverage() * cover for order in (1, 2, 3, 4))
    second = 2.0 * species.midrib_radius * species.secondary_ratio * length_px * 0.7
    widths = (1.4 * species.midrib_radius * length_px, second, 2.0 * radius, 2.0 * radius * species.fine_ratio)
    gaps = (
        length_px,
        species.secondary_gap * length_px,
        species.tertiary_spacing * length_px,
        species.areole_size * length_px,
    )
    return Layers(cover, stem, veins, np.asarray(tone.image, np.float32) / 255.0, orders, widths, gaps)


def draw_net(segments: np.ndarray, spacing: float, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the walls of Voronoi cells about `spacing` wide, (N, 2, 2) start and end; none if they are too fine.

    segments: (N, 2, 2) veins of lower orders. Seeds lie in pairs along them, so that walls meet them at right angles.
    """
    if spacing < FINEST_SPACING_PX:
        return np.zeros((0, 2, 2))
    count = int(size_px / spacing) + 4
    column, row = np.meshgrid(np.arange(count), np.arange(int(count / np.sqrt(0.75)) + 1))
    lattice = np.stack([column + 0.5 * (row % 2), np.sqrt(0.75) * row], axis=-1).reshape(-1, 2) - 1.5
    inner = spacing * (lattice + 0.25 * rng.standard_normal(lattice.shape))
    pairs = _seeds_beside(segments, spacing, rng)
    pairs = pairs[((pairs > -2.0 * spacing) & (pairs < size_px + 2.0 * spacing)).all(axis=1)]
    if len(pairs):
        inner = inner[cKDTree(pairs).query(inner)[0] > 0.65 * spacing]
    seeds = np.concatenate([pairs, inner])
    diagram = Voronoi(seeds)
    ends = np.asarray(diagram.ridge_vertices, dtype=np.intp)
    ends = ends[(ends >= 0).all(axis=1)]
    walls = diagram.vertices[ends]
    walls = walls[((walls > -spacing) & (walls < size_px + spacing)).all(axis=(1, 2))]
    free = rng.random(len(walls)) < rng.uniform(0.0, 0.15)
    walls[free, 1] = walls[free, 0] + 0.5 * (walls[free, 1] - walls[free, 0])
    return np.asarray(walls)


def bend_walls(walls: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend the straight walls (N, 2, 2) of a net if they are long enough for it: (N, 2 or 5, 2)."""
    step = walls[:, 1] - walls[:, 0]
    if not len(walls) or np.median(np.hypot(*step.T)) < 8.0:
        return walls
    t = np.linspace(0.0, 1.0, 5)[None, :, None]
    bow = rng.normal(0.0, 0.13, (len(walls), 1, 1)) * np.sin(np.pi * t)
    bow = bow + rng.normal(0.0, 0.06, (len(walls), 1, 1)) * np.sin(2.0 * np.pi * t)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1)[:, None]
    return np.asarray(walls[:, :1] + t * step[:, None] + bow * normal)


def _place_one(species: Species, view: str, size_px: int, rng: np.random.Generator) -> list[PlacedLeaf]:
    leaves = _draw_leaf(species, rng)[-1 if view == "patch" else 0 :]  # a patch shows a single leaflet
    middle = np.full(2, size_px / 2.0)
    angle = rng.uniform(0.0, 2.0 * np.pi) if rng.random() < 0.6 else np.deg2rad(-90.0 + rng.uniform(-25.0, 25.0))
    if view == "whole":
        extent = rng.uniform(0.6, 1.05) * size_px
        return _fit(leaves, extent, middle + 0.04 * size_px * rng.standard_normal(2), angle)
    extent = size_px * (rng.uniform(1.3, 2.6) if view == "closeup" else np.exp(rng.uniform(np.log(2.0), np.log(6.5))))
    best: tuple[float, list[PlacedLeaf]] = (-1.0, [])
    for _ in range(1 if view == "closeup" else 8):
        placed = _fit(leaves, extent, middle, angle)
        vein = placed[int(rng.integers(len(placed)))].blade.veins
        chosen = vein[int(rng.integers(len(vein)))].points
        shift = middle - chosen[int(rng.integers(len(chosen)))]
        placed = [_moved(leaf, shift) for leaf in placed]
        share = _covered(placed, size_px)
        if share > best[0]:
            best = share, placed
        if share > 0.999:
            break
    return best[1]


def _draw_leaf(species: Species, rng: np.random.Generator) -> list[tuple[Blade, float, np.ndarray, float]]:
    if species.outline == "compound":
        return draw_leaflets(species, rng)
    return [(draw_blade(species, rng), 1.0, np.zeros(2), 0.0)]


def _fit(
    leaves: list[tuple[Blade, float, np.ndarray, float]], extent: float, center: np.ndarray, angle: float
) -> list[PlacedLeaf]:  # fmt: skip
    """Scale and turn the parts of a leaf so that its larger side is `extent` and its middle at `center`, in pixels."""

    def turn(points: np.ndarray, length: float, base: np.ndarray, own: float) -> np.ndarray:
        cos, sin = np.cos(own), np.sin(own)
        points = base + length * (points @ np.array([[cos, sin], [-sin, cos]]))
        cos, sin = np.cos(angle), np.sin(angle)
        return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))

    corners = np.concatenate(
        [turn(p, length, base, own) for blade, length, base, own in leaves for p in blade.polygons]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    factor = extent / (high - low).max()

    def move(points: np.ndarray, length: float, base: np.ndarray, own: float) -> np.ndarray:
        return np.asarray((turn(points, length, base, own) - 0.5 * (low + high)) * factor + center)

    placed = []
    for blade, length, base, own in leaves:
        stretch = factor * length
        petiole, *veins = (
            Vein(move(vein.points, length, base, own), vein.radii * stretch, vein.order)
            for vein in (blade.petiole, *blade.veins)
        )
        polygons = [move(polygon, length, base, own) for polygon in blade.polygons]
        placed.append(PlacedLeaf(Blade(polygons, petiole, veins), stretch))
    return placed


def _moved(leaf: PlacedLeaf, shift: np.ndarray) -> PlacedLeaf:
    blade = leaf.blade
    petiole, *veins = (Vein(v.points + shift, v.radii, v.order) for v in (blade.petiole, *blade.veins))
    return PlacedLeaf(Blade([p + shift for p in blade.polygons], petiole, veins), leaf.length_px)


def _covered(leaves: list[PlacedLeaf], size_px: int) -> float:
    """The share of the image that blades cover, from a small drawing."""
    canvas = Image.new("L", (32, 32))
    for leaf in leaves:
        for polygon in leaf.blade.polygons:
            ImageDraw.Draw(canvas).polygon((polygon * (32.0 / size_px)).ravel().tolist(), fill=255)
    return float((np.asarray(canvas) > 0).mean())


def _is_near(points: np.ndarray, size_px: int) -> bool:
    low, high = points.min(axis=0), points.max(axis=0)
    return bool((high > -20.0).all() and (low < size_px + 20.0).all())


def _segments(veins: list[Vein]) -> np.ndarray:
    pairs = [np.stack([vein.points[:-1], vein.points[1:]], axis=1) for vein in veins]
    return np.concatenate(pairs) if pairs else np.zeros((0, 2, 2))


def _seeds_beside(segments: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    step = segments[:, 1] - segments[:, 0]
    length = np.hypot(*step.T)
    segments, step, length = segments[length > 1e-6], step[length > 1e-6], length[length > 1e-6]
    if not len(length):
        return np.zeros((0, 2))
    ends = np.cumsum(length)
    stops = np.arange(0.0, ends[-1], 0.9 * spacing)
    stops = np.clip(stops + 0.15 * spacing * rng.uniform(-1.0, 1.0, len(stops)), 0.0, ends[-1] - 1e-6)
    n = np.minimum(np.searchsorted(ends, stops, side="right"), len(ends) - 1)
    direction = step[n] / length[n, None]
    points = segments[n, 0] + (stops - ends[n] + length[n])[:, None] * direction
    normal = 0.42 * spacing * np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    seeds = np.concatenate([points + normal, points - normal])
    crowded = cKDTree(seeds).query_pairs(0.3 * spacing, output_type="ndarray")
    return np.delete(seeds, np.unique(crowded[:, 1]), axis=0)


class _Canvas:
    """A gray image, `scale` times as large as the layer that it becomes.

    offset: subtracted from coordinates, as PIL counts from the center of the first pixel.
    """

    def __init__(self, size_px: int, scale: int, offset: float = 0.5) -> None:
        self.scale = scale
        self.offset = offset
        self.image = Image.new("L", (size_px * scale,) * 2)
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: np.ndarray, fill: int) -> None:
        self._draw.polygon((points * self.scale - self.offset).ravel().tolist(), fill=fill)

    def ribbon(self, vein: Vein, fill: int = 255, thinnest: float = 0.0) -> None:
        self.polygon(ribbon(vein.points, np.maximum(vein.radii, thinnest)), fill)

    def lines(self, segments: np.ndarray, radius: float, fill: int = 255) -> None:
        """Draw lines (N, points, 2). Lines thinner than a pixel of the canvas are drawn fainter."""
        width = 2.0 * radius * self.scale
        fill = round(fill * min(1.0, width))
        for line in (segments * self.scale - self.offset).reshape(len(segments), 2 * segments.shape[1]).tolist():
            self._draw.line(line, fill=fill, width=max(1, round(width)))

    def coverage(self) -> np.ndarray:
        return np.asarray(self.image.reduce(self.scale), dtype=np.float32) / np.float32(255.0)

    def rounded(self, radius_px: float) -> np.ndarray:
        """The coverage after corners were rounded: sinuses between lobes are never sharp."""
        if radius_px < 0.5:
            return self.coverage()
        soft = self.image.filter(ImageFilter.GaussianBlur(radius_px * self.scale))
        steep = max(2.0, radius_px * self.scale)
        sharp = soft.point([int(np.clip((v - 127.5) * steep + 127.5, 0, 255)) for v in range(256)])
        return np.asarray(sharp.reduce(self.scale), dtype=np.float32) / np.float32(255.0)
