"""The major veins: a midrib, and secondaries that arch into each other before they reach the margin (brochidodromous).

Everything here is in the leaf frame of `leaf_shape`; radii too are in leaf lengths.
"""

from typing import NamedTuple

import numpy as np

from mnsa.data.synthetic.leaf_shape import LeafOutline, LeafParameters

SECONDARY_RADIUS = 0.0036  # where a secondary leaves the midrib

THIN_RADIUS = 0.0019  # where a secondary has given all it has to finer veins

ARCH_START = 0.66  # where a secondary turns into its arch, as a share of the half-width


class Vein(NamedTuple):
    """A curve: points (N, 2), radii (N,). Order 1 is the midrib, 2 a secondary or an arch between two."""

    points: np.ndarray
    radii: np.ndarray
    order: int


class SecondaryVeins(NamedTuple):
    """The secondaries of one side (+1 left, -1 right): where they leave the midrib, (R,), and their advance, (R,)."""

    side: int
    starts: np.ndarray
    advances: np.ndarray
    curvature: float

    def at(self, share: np.ndarray) -> np.ndarray:
        """Position along the midrib, (R, N), of every secondary where it is `share` (N,) of the way to the margin."""
        room = (1.0 - self.starts)[:, None]
        advance = self.advances[:, None] * (share + self.curvature * share**2)
        return np.asarray(self.starts[:, None] + room * (1.0 - np.exp(-advance / room)))


def place_secondaries(parameters: LeafParameters, rng: np.random.Generator) -> tuple[SecondaryVeins, SecondaryVeins]:
    """Where the secondaries of both sides run; the sides alternate."""
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


def draw_secondaries(ribs: SecondaryVeins, outline: LeafOutline, rng: np.random.Generator) -> list[Vein]:
    """Draw one side's secondaries, each with the arch that joins it to the next one up (the last: to the midrib)."""
    turn = ARCH_START + rng.uniform(-0.05, 0.05, len(ribs.starts))
    meet = rng.uniform(0.12, 0.3, len(ribs.starts))
    veins: list[Vein] = []
    landing = np.array([0.985, 0.0])  # where the next arch ends, as (x, share)
    for i in reversed(range(len(ribs.starts))):
        share = np.linspace(0.0, turn[i], 40)
        x = ribs.at(share)[i]
        bow = 0.6 * (1.0 - turn[i])
        control = np.array([x[-1] + (x[-1] - x[-2]) / (share[-1] - share[-2]) * bow, turn[i] + bow])
        arch = _bezier(np.array([x[-1], turn[i]]), control, landing)
        taper = _murray_taper(1.0 - np.linspace(0.0, 1.0, len(x)))
        thin = np.full(len(arch), THIN_RADIUS)
        veins.append(Vein(_to_blade(x, share, ribs.side, outline), taper, order=2))
        veins.append(Vein(_to_blade(arch[:, 0], arch[:, 1], ribs.side, outline), thin, order=2))
        landing = arch[int(meet[i] * len(arch))]
    return veins


def draw_midrib(sides: tuple[SecondaryVeins, SecondaryVeins]) -> Vein:
    """Draw the midrib. By Murray's law its radius cubed feeds all secondaries still ahead.

    Source: C. D. Murray, The physiological principle of minimum work, PNAS 12 (1926).
    """
    x = np.linspace(0.0, 0.995, 160)
    starts = np.concatenate([side.starts for side in sides])
    ahead = np.clip((starts[None, :] - x[:, None]) / 0.05 + 0.5, 0.0, 1.0).sum(axis=1)
    radii = np.cbrt(THIN_RADIUS**3 + 0.6 * SECONDARY_RADIUS**3 * ahead)
    return Vein(np.stack([x, np.zeros_like(x)], axis=1), radii, order=1)


def _murray_taper(remaining: np.ndarray) -> np.ndarray:
    """Radius of a secondary that has `remaining` of its finer veins still ahead."""
    return np.asarray(np.cbrt(THIN_RADIUS**3 + remaining * (SECONDARY_RADIUS**3 - THIN_RADIUS**3)))


def _to_blade(x: np.ndarray, share: np.ndarray, side: int, outline: LeafOutline) -> np.ndarray:
    return np.stack([x, side * share * outline.blade(x, np.full_like(x, side))], axis=1)


def _bezier(start: np.ndarray, control: np.ndarray, end: np.ndarray) -> np.ndarray:
    t = np.linspace(0.0, 1.0, 24)[:, None]
    return np.asarray((1.0 - t) ** 2 * start + 2.0 * t * (1.0 - t) * control + t**2 * end)
