"""Draw the major veins: the midrib, and secondary veins that join in loops (brochidodromous venation).

Coordinates are in the leaf frame of `leaf_shape`; radii are in leaf lengths too.
R secondary veins of one side; fraction: position across the blade, 0 at the midrib and 1 at the margin.
"""

from typing import NamedTuple

import numpy as np

from mnsa.data.synthetic.leaf_shape import LeafOutline, LeafParameters

SECONDARY_RADIUS = 0.0036  # of a secondary vein at the midrib

THIN_RADIUS = 0.0019  # of a secondary vein at its end

ARCH_START = 0.66  # where the arch of a secondary vein starts, as a fraction of the half-width


class Vein(NamedTuple):
    """A curve: points (N, 2), radii (N,). Order 1: the midrib; order 2: a secondary vein or its arch."""

    points: np.ndarray
    radii: np.ndarray
    order: int


class SecondaryVeins(NamedTuple):
    """The secondary veins of one side (+1 left, -1 right).

    starts: (R,) where they leave the midrib. advances: (R,) how far they advance towards the tip up to the margin.
    """

    side: int
    starts: np.ndarray
    advances: np.ndarray
    curvature: float

    def at(self, fraction: np.ndarray) -> np.ndarray:
        """Compute x of every secondary vein, (R, N), at each fraction (N,) of the way to the margin."""
        limit = (1.0 - self.starts)[:, None]
        advance = self.advances[:, None] * (fraction + self.curvature * fraction**2)
        return np.asarray(self.starts[:, None] + limit * (1.0 - np.exp(-advance / limit)))


def place_secondaries(parameters: LeafParameters, rng: np.random.Generator) -> tuple[SecondaryVeins, SecondaryVeins]:
    """Sample the secondary veins of both sides. Veins of the two sides alternate."""
    count = int(parameters.secondary_count + rng.random())
    curvature = 0.55 + 0.08 * rng.standard_normal()
    phase = rng.uniform(0.0, 1.0)
    sides = []
    for side, offset in ((1, phase), (-1, (phase + 0.5) % 1.0)):
        rank = (np.arange(count) + 0.9 * offset + rng.uniform(-0.13, 0.13, count)) / count
        starts = 0.02 + 0.87 * np.maximum(rank, 0.0)
        angle = np.deg2rad(parameters.vein_angle_deg + 6.0 * (0.5 - starts) + 2.0 * rng.standard_normal(count))
        reach = parameters.aspect / 2.0 * (0.45 + 2.0 * starts * (1.0 - starts))
        sides.append(SecondaryVeins(side, starts, reach / np.tan(angle), curvature))
    return sides[0], sides[1]


def draw_secondaries(secondaries: SecondaryVeins, outline: LeafOutline, rng: np.random.Generator) -> list[Vein]:
    """Draw the secondary veins of one side.

    An arch joins each one to the next one towards the tip, or to the midrib.
    """
    turn = ARCH_START + rng.uniform(-0.05, 0.05, len(secondaries.starts))
    meet = rng.uniform(0.12, 0.3, len(secondaries.starts))
    veins: list[Vein] = []
    landing = np.array([0.985, 0.0])  # end of the next arch, as (x, fraction)
    for i in reversed(range(len(secondaries.starts))):
        fraction = np.linspace(0.0, turn[i], 40)
        x = secondaries.at(fraction)[i]
        bow = 0.6 * (1.0 - turn[i])
        control = np.array([x[-1] + (x[-1] - x[-2]) / (fraction[-1] - fraction[-2]) * bow, turn[i] + bow])
        arch = _bezier(np.array([x[-1], turn[i]]), control, landing)
        taper = _murray_taper(1.0 - np.linspace(0.0, 1.0, len(x)))
        thin = np.full(len(arch), THIN_RADIUS)
        veins.append(Vein(_to_blade(x, fraction, secondaries.side, outline), taper, order=2))
        veins.append(Vein(_to_blade(arch[:, 0], arch[:, 1], secondaries.side, outline), thin, order=2))
        landing = arch[int(meet[i] * len(arch))]
    return veins


def draw_midrib(sides: tuple[SecondaryVeins, SecondaryVeins]) -> Vein:
    """Draw the midrib. By Murray's law, the cube of its radius is the sum over the secondary veins ahead.

    Source: C. D. Murray, The physiological principle of minimum work, PNAS 12 (1926).
    """
    x = np.linspace(0.0, 0.995, 160)
    starts = np.concatenate([side.starts for side in sides])
    ahead = np.clip((starts[None, :] - x[:, None]) / 0.05 + 0.5, 0.0, 1.0).sum(axis=1)
    radii = np.cbrt(THIN_RADIUS**3 + 0.6 * SECONDARY_RADIUS**3 * ahead)
    return Vein(np.stack([x, np.zeros_like(x)], axis=1), radii, order=1)


def _murray_taper(remaining: np.ndarray) -> np.ndarray:
    """Compute the radius of a secondary vein where the fraction `remaining` of its finer veins is ahead."""
    return np.asarray(np.cbrt(THIN_RADIUS**3 + remaining * (SECONDARY_RADIUS**3 - THIN_RADIUS**3)))


def _to_blade(x: np.ndarray, fraction: np.ndarray, side: int, outline: LeafOutline) -> np.ndarray:
    return np.stack([x, side * fraction * outline.blade(x, np.full_like(x, side))], axis=1)


def _bezier(start: np.ndarray, control: np.ndarray, end: np.ndarray) -> np.ndarray:
    t = np.linspace(0.0, 1.0, 24)[:, None]
    return np.asarray((1.0 - t) ** 2 * start + 2.0 * t * (1.0 - t) * control + t**2 * end)
