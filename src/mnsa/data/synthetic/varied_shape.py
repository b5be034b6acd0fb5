"""Sample species of the kind `varied`, and draw their blades: outline, petiole and veins of order 1 to 3.

Every blade is made of pinnate parts: a midrib with secondary veins in an outline of `leaf_shape`. Lobes are ribbons
along secondary veins, a palmate leaf is a fan of pinnate parts, a compound leaf a row of leaflets. Frame of a leaf:
x along the midrib, 0 at the base and 1 at the tip, y across it. Finer veins are drawn in `varied_layers`.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mnsa.data.synthetic.leaf_shape import LeafOutline, LeafParameters
from mnsa.data.synthetic.major_veins import SecondaryVeins, Vein, draw_secondaries, place_secondaries

OUTLINES = {
    "simple": 0.27,
    "toothed": 0.15,
    "lobed": 0.19,
    "palmate": 0.13,
    "cordate": 0.1,
    "compound": 0.1,
    "strap": 0.06,
}

ASPECTS = {"strap": (0.06, 0.3), "cordate": (0.6, 1.0), "palmate": (0.35, 0.75), "compound": (0.3, 0.65)}

SECONDARY_COUNTS = {"lobed": (4.0, 9.0), "palmate": (3.0, 7.0), "cordate": (3.0, 7.0)}

PINNATE = ("craspedodromous", "brochidodromous", "eucamptodromous")  # secondaries end in teeth, in loops, or fade


@dataclass(frozen=True, slots=True)
class Species:
    """What the leaves of one image share. Lengths and radii are in leaf lengths, angles in degrees."""

    outline: str  # a key of OUTLINES
    venation: str  # one of PINNATE, "palmate" or "parallel"
    aspect: float  # width / length
    widest_at: float  # where the blade is widest: 0 base, 1 tip
    base_bluntness: float  # exponent of the outline at the base
    tooth_depth: float
    teeth: int  # along one side
    lobe_depth: float  # 0: no lobes, 1: down to the midrib
    lobe_angles: tuple[float, ...]  # of the parts of a palmate or cordate leaf, beside its middle one
    secondary_count: float  # per side
    vein_angle: float
    midrib_radius: float
    secondary_ratio: float  # radius of a secondary vein / midrib
    tertiary_ratio: float  # radius of a tertiary vein / secondary vein
    fine_ratio: float  # radius of finer veins / tertiary vein
    intersecondary: float  # chance of a short vein between two secondary veins
    ladder: bool  # tertiary veins as rungs between secondary veins; otherwise a net
    tertiary_spacing: float
    areole_size: float  # distance of the finer veins
    wiggle: float  # how far veins wander
    lines: int  # parallel veins per side, 0 in other venations

    @property
    def secondary_gap(self) -> float:
        """Distance between neighboring secondary or parallel veins."""
        return self.aspect / (2.2 * self.lines) if self.lines else 0.7 / self.secondary_count


class Blade(NamedTuple):
    """A leaf: polygons (N, 2) whose union is the blade, its petiole, and veins of order 1 to 3."""

    polygons: list[np.ndarray]
    petiole: Vein
    veins: list[Vein]


def sample_species(rng: np.random.Generator) -> Species:
    """Sample a species: the outline, the venation that goes with it, and the widths of the veins."""
    outline = str(rng.choice(list(OUTLINES), p=list(OUTLINES.values())))
    angles: tuple[float, ...] = ()
    if outline in {"palmate", "cordate"}:
        pairs = int(rng.integers(1, 4))
        angles = tuple(float(a) for a in np.cumsum(rng.uniform(28.0, 52.0 if pairs < 3 else 42.0, pairs)))
    venation = {"palmate": "palmate", "cordate": "palmate", "strap": "parallel"}.get(outline, str(rng.choice(PINNATE)))
    if outline in {"lobed", "toothed"} and rng.random() < 0.7:
        venation = "craspedodromous"
    if outline == "simple" and rng.random() < 0.07:
        venation = "parallel"  # acrodromous: a few veins that run from the base to the tip
    count = rng.uniform(*SECONDARY_COUNTS.get(outline, (4.5, 14.0)))
    lines = int(rng.integers(4, 16)) if outline == "strap" else int(rng.integers(1, 4))
    spacing = 0.9 / count * rng.uniform(0.25, 0.8)
    return Species(
        outline=outline,
        venation=venation,
        aspect=rng.uniform(*ASPECTS.get(outline, (0.28, 0.9))),
        widest_at=rng.uniform(0.28, 0.6),
        base_bluntness=rng.uniform(0.35, 0.95) if outline != "strap" else rng.uniform(0.2, 0.4),
        tooth_depth=rng.uniform(0.006, 0.03) if outline in {"toothed", "palmate"} else rng.choice([0.0, 0.003, 0.012]),
        teeth=int(rng.integers(6, 40)),
        lobe_depth=rng.uniform(0.2, 0.75) if outline == "lobed" else 0.0,
        lobe_angles=angles,
        secondary_count=count,
        vein_angle=rng.uniform(35.0, 75.0),
        midrib_radius=float(np.exp(rng.uniform(np.log(0.0035), np.log(0.0105)))),
        secondary_ratio=rng.uniform(0.25, 0.6),
        tertiary_ratio=rng.uniform(0.3, 0.65),
        fine_ratio=rng.uniform(0.45, 0.8),
        intersecondary=rng.choice([0.0, rng.uniform(0.2, 0.9)], p=[0.3, 0.7]),
        ladder=bool(rng.random() < 0.55),
        tertiary_spacing=spacing,
        areole_size=spacing * rng.uniform(0.25, 0.6),
        wiggle=rng.uniform(0.0, 1.0) ** 2,
        lines=lines if venation == "parallel" else 0,
    )


def draw_blade(species: Species, rng: np.random.Generator) -> Blade:
    """Draw one leaf of a species. A compound leaf gives one of its leaflets (`draw_leaflets` gives all)."""
    if species.venation == "parallel":
        blade = _parallel(species, rng)
    elif species.lobe_angles:
        blade = _palmate(species, rng)
    else:
        blade = _pinnate(species, rng)
    x = np.linspace(0.01, -(rng.uniform(0.0, 0.3) ** 1.4) - 0.02, 20)
    radius = species.midrib_radius * rng.uniform(1.0, 1.3)
    petiole = Vein(np.stack([x, rng.uniform(-2.0, 2.0) * x**2], axis=1), np.full(20, radius), 1)
    return Blade(blade.polygons, petiole, blade.veins)


def draw_leaflets(species: Species, rng: np.random.Generator) -> list[tuple[Blade, float, np.ndarray, float]]:
    """Draw the leaflets of a compound leaf: each with its length, the place of its base, and its angle in radians."""
    pairs, palmate = int(rng.integers(1, 5)), rng.random() < 0.25
    leaflets = []
    for pair in range(pairs):
        for side in (-1.0, 1.0):
            length = rng.uniform(0.3, 0.42) if palmate else rng.uniform(0.26, 0.4) * min(1.0, 3.0 / pairs)
            base = np.zeros(2) if palmate else np.array([0.08 + 0.56 * pair / pairs, 0.0])
            angle = (pair + 1) * rng.uniform(0.6, 0.75) if palmate else rng.uniform(0.7, 1.3)
            leaflets.append((draw_blade(species, rng), length, base, side * angle))
    last, base = draw_blade(species, rng), np.zeros(2) if palmate else np.array([0.62, 0.0])
    stalk = np.linspace(0.01, -(base[0] + 0.15) / 0.38, 20)  # the rachis, as the petiole of the last leaflet
    last = last._replace(petiole=last.petiole._replace(points=np.stack([stalk, 0.02 * stalk**2], axis=1)))
    return [*leaflets, (last, 0.38, base, 0.0)]


def ribbon(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The polygon (2 N, 2) around a curve (N, 2) with half-widths (N,)."""
    step = np.gradient(points, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(np.hypot(*step.T), 1e-9)[:, None]
    offset = radii[:, None] * normal
    return np.concatenate([points + offset, (points - offset)[::-1]])


def _outline(species: Species, rng: np.random.Generator) -> LeafOutline:
    asymmetry = 0.05 * rng.standard_normal()
    widest = float(np.clip(species.widest_at + 0.03 * rng.standard_normal(), 0.2, 0.7))
    return LeafOutline(
        half_width=species.aspect / 2.0 * rng.uniform(0.92, 1.08),
        base_exponent=species.base_bluntness,
        tip_exponent=species.base_bluntness * (1.0 - widest) / widest,
        tooth_depth=species.tooth_depth,
        teeth=species.teeth,
        side_widths=(1.0 + asymmetry, 1.0 - asymmetry),
        waves=0.03 * rng.standard_normal((2, 3)) / np.array([1.0, 2.0, 3.0]),
    )


def _pinnate(species: Species, rng: np.random.Generator) -> Blade:
    outline = _outline(species, rng)
    parameters = LeafParameters(
        species.aspect, species.widest_at, species.base_bluntness, species.tooth_depth, species.vein_angle,
        species.secondary_count, species.areole_size, 0.0, 0.0, 0.0,
    )  # fmt: skip
    x = np.linspace(0.0, 0.99, 80)
    taper = species.midrib_radius * (0.12 + 0.88 * (1.0 - x) ** rng.uniform(0.6, 1.3))
    wander = 0.006 * species.wiggle * _wander(rng, 80)
    veins = [Vein(np.stack([x, wander], axis=1), taper, 1)]
    polygon = outline.polygon(max(160, 12 * species.teeth if species.tooth_depth else 0))
    if species.lobe_depth:
        polygon = polygon * np.array([1.0, 1.0 - species.lobe_depth])
    polygons = [polygon]
    for side in place_secondaries(parameters, rng):
        secondaries = _secondaries(species, side, outline, rng)
        if species.lobe_depth:
            polygons += [_lobe(species, vein, rng) for vein in secondaries if vein.points[-1, 0] < 0.97]
        veins += secondaries + _between(species, side, outline, rng)
        if species.venation == "craspedodromous":
            veins += [branch for vein in secondaries for branch in _branches(species, vein, rng)]
        if species.ladder and not species.lobe_depth:
            veins += _rungs(species, side, outline, rng)
    return Blade(polygons, veins[0], veins)


def _secondaries(
    species: Species, side: SecondaryVeins, outline: LeafOutline, rng: np.random.Generator
) -> list[Vein]:  # fmt: skip
    thick = species.midrib_radius * species.secondary_ratio
    size = 0.6 + 0.4 * np.sin(np.pi * np.clip(side.starts, 0.05, 0.95))  # those in the middle are the thickest
    if species.venation == "brochidodromous":
        drawn = draw_secondaries(side, outline, rng)
        return [
            replace_radii(vein, thick * (np.linspace(1.0, 0.5, len(vein.radii)) if n % 2 == 0 else 0.4))
            for n, vein in enumerate(drawn)
        ]
    end = 1.0 if species.venation == "craspedodromous" else rng.uniform(0.8, 0.95)
    fraction = np.linspace(0.0, end, 36)
    veins = []
    for row, straight in enumerate(side.at(fraction)):
        x = np.minimum(straight + 0.02 * species.wiggle * fraction * _wander(rng, 36), 0.995)
        points = _across(x, fraction, side.side, outline)
        veins.append(Vein(points, thick * size[row] * np.linspace(1.0, 0.35, 36), 2))
    return veins


def _between(species: Species, side: SecondaryVeins, outline: LeafOutline, rng: np.random.Generator) -> list[Vein]:
    """Draw intersecondary veins: thin, between two secondary veins, and they end halfway."""
    veins = []
    curves = side.at(np.linspace(0.0, 1.0, 24))
    for lower, upper in pairwise(curves):
        if rng.random() < species.intersecondary:
            share, end = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.6)
            fraction = np.linspace(0.0, end, 24)
            x = (1.0 - share) * np.interp(fraction, np.linspace(0, 1, 24), lower)
            x = x + share * np.interp(fraction, np.linspace(0, 1, 24), upper)
            x = x + 0.012 * fraction * _wander(rng, 24)
            thin = species.midrib_radius * species.secondary_ratio * rng.uniform(0.35, 0.6)
            veins.append(Vein(_across(x, fraction, side.side, outline), thin * np.linspace(1.0, 0.4, 24), 2))
    return veins


def _branches(species: Species, vein: Vein, rng: np.random.Generator) -> list[Vein]:
    """Draw the branches of a secondary vein, towards the margin: tertiary veins that run into teeth and lobes."""
    length = float(np.hypot(*np.diff(vein.points, axis=0).T).sum())
    branches = []
    for n in rng.integers(10, 33, int(rng.integers(1, 6 if species.lobe_depth else 4))):
        step = vein.points[n] - vein.points[n - 1]
        turn = rng.choice([-1.0, 1.0]) * np.deg2rad(rng.uniform(25.0, 55.0))
        direction = _rotate(step / max(np.hypot(*step), 1e-9), turn)
        t = np.linspace(0.0, 1.0, 12)[:, None] * rng.uniform(0.12, 0.3) * length
        bend = _rotate(direction, -turn)
        radius = species.tertiary_ratio * vein.radii[n] * 1.2
        branches.append(Vein(vein.points[n] + t * direction + 1.2 * t**2 / length * bend, np.full(12, radius), 3))
    return branches


def _rungs(species: Species, side: SecondaryVeins, outline: LeafOutline, rng: np.random.Generator) -> list[Vein]:
    """Draw tertiary veins as rungs between neighboring secondary veins; a few end halfway."""
    grid, veins = np.linspace(0.0, 1.0, 24), []
    curves = [_across(x, grid, side.side, outline) for x in side.at(grid)]
    radius = species.midrib_radius * species.secondary_ratio * species.tertiary_ratio
    for lower, upper in pairwise(curves):
        length = float(np.hypot(*np.diff(lower, axis=0).T).sum())
        count = max(int(length / species.tertiary_spacing), 2)
        at = (np.arange(count) + 0.5 + rng.uniform(-0.3, 0.3, count)) / count
        slant = rng.uniform(-0.12, 0.12)
        for f in at[at < 0.93]:
            ends = np.clip([f + slant, f - slant], 0.02, 0.96)
            start = np.array([np.interp(ends[0], grid, c) for c in lower.T])
            end = np.array([np.interp(ends[1], grid, c) for c in upper.T])
            t = np.linspace(0.0, 1.0 if rng.random() < 0.85 else rng.uniform(0.3, 0.8), 10)[:, None]
            step = end - start
            bow = (rng.uniform(-0.15, 0.15) * np.sin(np.pi * t) + 0.06 * _wander(rng, 10)[:, None]) * np.array(
                [-step[1], step[0]]
            )
            veins.append(Vein(start + t * step + bow, np.full(10, radius * rng.uniform(0.7, 1.2)), 3))
    return veins


def _lobe(species: Species, vein: Vein, rng: np.random.Generator) -> np.ndarray:
    """Draw a lobe: a blunt ribbon along a secondary vein, which it overtops a little."""
    tip = vein.points[-1] - vein.points[-4]
    points = np.concatenate([vein.points[:-1], vein.points[-1] + np.linspace(0.0, 0.5, 5)[:, None] * tip])
    t = np.linspace(0.0, 1.0, len(points))
    profile = np.maximum(0.6 + 0.8 * t, 1.3 - 2.0 * t) * (1.0 - t ** rng.uniform(2.5, 5.0)) ** 0.6
    profile = profile + 0.06 * np.sin(2.0 * np.pi * (rng.uniform(1.0, 3.0) * t + rng.random())) * (t < 0.9)
    return ribbon(points, 0.9 / species.secondary_count * rng.uniform(0.4, 0.62) * np.maximum(profile, 0.02))


def _palmate(species: Species, rng: np.random.Generator) -> Blade:
    """Draw a fan of pinnate parts. Secondary veins end where another primary vein is nearer."""
    parts = [(0.0, 1.0)]
    for n, angle in enumerate(species.lobe_angles):
        shrink = (
            rng.uniform(0.72, 0.95) ** (n + 1) if species.outline == "palmate" else rng.uniform(0.8, 0.95) ** (n + 1)
        )
        parts += [(side * np.deg2rad(angle + rng.uniform(-4.0, 4.0)), shrink) for side in (-1.0, 1.0)]
    polygons, primaries, others = [], [], []
    part = replace(species, venation="craspedodromous" if species.tooth_depth > 0.005 else "eucamptodromous")
    for angle, scale in parts:
        blade = _pinnate(part, rng)
        polygons += [_rotate(polygon * scale, angle) for polygon in blade.polygons]
        turned = [Vein(_rotate(v.points * scale, angle), v.radii * scale, v.order) for v in blade.veins]
        primaries.append(turned[0])
        others.append(turned[1:])
    axes = np.stack([vein.points[::8] for vein in primaries])  # (parts, 10, 2)
    veins, tree = list(primaries), cKDTree(axes.reshape(-1, 2))
    for own, family in enumerate(others):
        for vein in family:
            nearest = tree.query(vein.points)[1] // axes.shape[1]
            foreign = np.flatnonzero((nearest != own) & (np.arange(len(nearest)) > 1))
            end = foreign[0] if len(foreign) else len(nearest)
            if end > 4:
                veins.append(Vein(vein.points[:end], vein.radii[:end], vein.order))
    return Blade(polygons, primaries[0], veins)


def _parallel(species: Species, rng: np.random.Generator) -> Blade:
    """Draw veins that run side by side from base to tip, with short cross veins between them."""
    outline = _outline(replace(species, tooth_depth=0.0), rng)
    x = np.linspace(0.004, 0.99, 90)
    thick = species.midrib_radius * (0.25 + 0.75 * (1.0 - x))
    veins = [Vein(np.stack([x, np.zeros(90)], axis=1), thick, 1)]
    thick = np.minimum(species.secondary_ratio * thick, 0.18 * species.secondary_gap)
    curves = []
    for side in (-1, 1):
        at = (np.arange(species.lines) + 1.0) / (species.lines + (0.7 if species.outline == "strap" else 1.0))
        for n, f in enumerate(at + rng.uniform(-0.2, 0.2, species.lines) / species.lines):
            points = _across(x, np.full(90, f), side, outline)
            curves.append((side, f, points))
            strength = 1.0 if n % int(rng.integers(1, 4)) == 0 else 0.5
            veins.append(Vein(points, strength * thick, 2))
    radius = species.tertiary_ratio * float(thick.mean())
    for (side, _, first), (other, _, second) in pairwise(curves):
        if side == other:
            for n in rng.integers(3, 85, int(rng.integers(3, 22))):
                cross = np.linspace(first[n], second[min(n + int(rng.integers(0, 4)), 89)], 6)
                veins.append(Vein(cross, np.full(6, 0.8 * radius), 3))
    return Blade([outline.polygon(160)], veins[0], veins)


def replace_radii(vein: Vein, radii: np.ndarray | float) -> Vein:
    """The same vein with other radii."""
    return Vein(vein.points, np.broadcast_to(np.asarray(radii, dtype=np.float64), vein.radii.shape), vein.order)


def _across(x: np.ndarray, fraction: np.ndarray, side: int, outline: LeafOutline) -> np.ndarray:
    return np.stack([x, side * fraction * outline.blade(x, np.full_like(x, side))], axis=1)


def _wander(rng: np.random.Generator, count: int) -> np.ndarray:
    """A smooth random curve (count,) that starts at 0, with a standard deviation of about 1."""
    knots = np.concatenate([[0.0], rng.standard_normal(5)])
    t = np.linspace(0.0, 5.0, count)
    low = np.minimum(t.astype(int), 4)
    share = 0.5 - 0.5 * np.cos(np.pi * (t - low))
    return np.asarray((1.0 - share) * knots[low] + share * knots[low + 1])


def _rotate(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))
