"""The blade's outline and its place in the image.

Leaf frame: x along the midrib, 0 at the base and 1 at the tip; y across it; both in units of the leaf's length.
Image frame: column and row, both 0..1 over the image, whatever its size in pixels.
"""

from dataclasses import dataclass

import numpy as np

from mnsa.data.synthetic.cultivar import Habit


@dataclass(frozen=True, slots=True)
class Outline:
    """Half-width of the blade along the midrib: a beta curve, its sides slightly unlike, with teeth on the margin."""

    half_width: float
    base_exponent: float
    tip_exponent: float
    tooth_depth: float
    teeth: int  # along one side
    side_widths: tuple[float, float]  # factors of the left (y > 0) and right half
    waves: np.ndarray  # (2, 3) amplitudes of slow irregularities: side, harmonic

    def blade(self, x: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Half-width without the teeth at x (N,), on the side (N,) given as +1 left or -1 right."""
        x = np.clip(x, 0.0, 1.0)
        a, b = self.base_exponent, self.tip_exponent
        peak = (a / (a + b)) ** a * (b / (a + b)) ** b
        row = np.where(side > 0, 0, 1)
        harmonics = np.stack([np.sin((k + 2) * np.pi * x) for k in range(3)])  # (3, N)
        uneven = np.asarray(self.side_widths)[row] * (1.0 + (self.waves[row].T * harmonics).sum(axis=0))
        drip = 1.0 - 0.22 * np.exp(-(((1.0 - x) / 0.11) ** 2))  # draws the tip out into a short point
        return np.asarray(self.half_width * uneven * drip * x**a * (1.0 - x) ** b / peak)

    def margin(self, x: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Half-width with the teeth, which lean towards the tip."""
        blade = self.blade(x, side)
        turns = self.teeth * x + 0.13 * side
        tooth = (turns % 1.0) ** 2 * (1.0 - turns % 1.0) * 27.0 / 4.0  # 0..1, slow rise, quick fall
        return np.asarray(blade + self.tooth_depth * (tooth - 0.5) * np.minimum(blade / (0.5 * self.half_width), 1.0))

    def polygon(self, points_per_side: int = 320) -> np.ndarray:
        """Trace the margin, a polygon (2 * points_per_side - 2, 2), from the base up the left side and back."""
        x = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, points_per_side))  # denser where the outline turns
        left = np.stack([x, self.margin(x, np.ones_like(x))], axis=1)
        right = np.stack([x, -self.margin(x, -np.ones_like(x))], axis=1)
        return np.concatenate([left, right[-2:0:-1]])


@dataclass(frozen=True, slots=True)
class Pose:
    """How the leaf lies in the image: a bend of the midrib, then scale, rotation and place."""

    bend: float  # sideways sag of the midrib's middle, in leaf lengths
    length: float  # of the leaf, in image sides
    angle: float  # radians, of the midrib to the vertical
    centre: tuple[float, float]  # image frame, of the midrib's middle

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Leaf frame (N, 2) -> image frame (N, 2) of columns and rows."""
        along = points[:, 0] - 0.5
        across = points[:, 1] + self.bend * (1.0 - 4.0 * along**2)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        column = self.centre[0] + self.length * (sin * along + cos * across)
        row = self.centre[1] + self.length * (sin * across - cos * along)
        return np.stack([column, row], axis=1)

    def to_leaf(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image frame -> x and y of the leaf frame, for arrays of any one shape."""
        column, row = (columns - self.centre[0]) / self.length, (rows - self.centre[1]) / self.length
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = sin * column - cos * row, cos * column + sin * row
        return along + 0.5, across - self.bend * (1.0 - 4.0 * along**2)


def draw_outline(habit: Habit, rng: np.random.Generator) -> Outline:
    """Draw the outline of one individual."""
    lean = 0.04 * rng.standard_normal()
    return Outline(
        half_width=habit.aspect / 2.0,
        base_exponent=habit.base_bluntness,
        tip_exponent=habit.base_bluntness * (1.0 - habit.widest_at) / habit.widest_at,
        tooth_depth=habit.crenation,
        teeth=int(rng.integers(17, 22)),
        side_widths=(1.0 + lean, 1.0 - lean),
        waves=0.018 * rng.standard_normal((2, 3)) / np.array([1.0, 2.0, 3.0]),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """Lay the leaf down as a hand would: nearly upright, nearly centred, never quite straight."""
    return Pose(
        bend=float(np.clip(0.015 * rng.standard_normal(), -0.035, 0.035)),
        length=float(rng.uniform(0.71, 0.79)),
        angle=float(np.deg2rad(rng.uniform(-20.0, 20.0))),
        centre=(float(rng.uniform(0.47, 0.53)), float(rng.uniform(0.46, 0.50))),
    )
