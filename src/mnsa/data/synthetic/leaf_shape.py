"""Sample cultivars, and the parameters, outline and pose of a leaf.

A cultivar is a point in a space of leaf parameters. The parameters of its leaves vary around this point.
Leaf frame: x along the midrib, 0 at the base and 1 at the tip; y across it; both in units of the leaf's length.
Image frame: column and row, both 0..1 over the image; independent of its size in pixels.
"""

from dataclasses import astuple, dataclass, fields

import numpy as np

# Standard deviation of leaves around their cultivar, in units of each parameter's range. Twelve cultivars are at
# least 0.8 apart in the unit cube, thirteen times this: they look alike, but can be separated.
WITHIN_STD = 0.06


@dataclass(frozen=True, slots=True)
class LeafParameters:
    """The parameters of a leaf. Lengths are in units of the leaf's length; lightness is CIE L*."""

    aspect: float  # width / length
    widest_at: float  # where the blade is widest: 0 base, 1 tip
    base_bluntness: float  # exponent of the outline at the base: small is round, large is wedge-shaped
    crenation: float  # depth of the margin's teeth
    vein_angle_deg: float  # of the secondary veins to the midrib
    secondary_count: float  # per side
    areole_size: float  # distance between neighboring areoles
    vein_lightness: float  # how much lighter than the blade the veins are
    puckering: float  # how far the blade bulges between its veins
    hue_deg: float  # of the blade, in CIE Lab: 90 yellow, 180 green


# The range of the species: all cultivars are inside it and look like soybean leaflets.
MIN_PARAMETERS = LeafParameters(0.49, 0.36, 0.44, 0.001, 42.0, 6.5, 0.059, 18.0, 0.6, 121.0)

MAX_PARAMETERS = LeafParameters(0.64, 0.46, 0.62, 0.006, 60.0, 9.5, 0.078, 34.0, 2.2, 132.0)


@dataclass(frozen=True, slots=True)
class Cultivar:
    """A name and a point in the unit cube, with one coordinate per field of `LeafParameters`."""

    name: str
    position: tuple[float, ...]


def make_cultivar(seed: int, index: int) -> Cultivar:
    """Make cultivar `index` (from 0) of a seed. It does not depend on the number of cultivars.

    The positions are a randomly shifted additive recurrence (R-sequence): any number of points is well spread.
    Source: M. Roberts, The unreasonable effectiveness of quasirandom sequences (2018).
    """
    dimensions = len(fields(LeafParameters))
    golden = 1.5
    for _ in range(64):  # the positive root of golden**(dimensions + 1) = golden + 1
        golden = (1.0 + golden) ** (1.0 / (dimensions + 1))
    shift = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed]))).random(dimensions)
    steps = golden ** -np.arange(1.0, dimensions + 1.0)
    position = (shift + (index + 1) * steps) % 1.0
    return Cultivar(f"cultivar_{index + 1:02d}", tuple(position.tolist()))


def sample_parameters(cultivar: Cultivar, rng: np.random.Generator) -> LeafParameters:
    """Sample the parameters of one leaf: those of its cultivar with random deviations."""
    deviation = np.clip(rng.standard_normal(len(cultivar.position)), -2.0, 2.0)  # no outliers
    position = np.asarray(cultivar.position) + WITHIN_STD * deviation
    low, high = np.asarray(astuple(MIN_PARAMETERS)), np.asarray(astuple(MAX_PARAMETERS))
    parameters = low + position * (high - low)
    return LeafParameters(*np.maximum(parameters, 0.0).tolist())


@dataclass(frozen=True, slots=True)
class LeafOutline:
    """The outline of a leaf: a beta curve with teeth on the margin; left and right side differ slightly."""

    half_width: float
    base_exponent: float
    tip_exponent: float
    tooth_depth: float
    teeth: int  # along one side
    side_widths: tuple[float, float]  # factors of the left (y > 0) and right half
    waves: np.ndarray  # (2, 3) amplitudes of slow irregularities: side, harmonic

    def blade(self, x: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Compute the half-width without the teeth, (N,). x: (N,). side: (N,), +1 left or -1 right."""
        x = np.clip(x, 0.0, 1.0)
        a, b = self.base_exponent, self.tip_exponent
        peak = (a / (a + b)) ** a * (b / (a + b)) ** b
        row = np.where(side > 0, 0, 1)
        harmonics = np.stack([np.sin((k + 2) * np.pi * x) for k in range(3)])  # (3, N)
        uneven = np.asarray(self.side_widths)[row] * (1.0 + (self.waves[row].T * harmonics).sum(axis=0))
        tip = 1.0 - 0.22 * np.exp(-(((1.0 - x) / 0.11) ** 2))  # narrows the tip to a short point
        return np.asarray(self.half_width * uneven * tip * x**a * (1.0 - x) ** b / peak)

    def margin(self, x: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Compute the half-width with the teeth, which point towards the tip. Shapes as in `blade`."""
        blade = self.blade(x, side)
        phase = self.teeth * x + 0.13 * side
        tooth = (phase % 1.0) ** 2 * (1.0 - phase % 1.0) * 27.0 / 4.0  # 0..1, rises slowly, falls quickly
        return np.asarray(blade + self.tooth_depth * (tooth - 0.5) * np.minimum(blade / (0.5 * self.half_width), 1.0))

    def polygon(self, points_per_side: int = 320) -> np.ndarray:
        """Return the margin as a polygon, (2 * points_per_side - 2, 2): from the base along the left side and back."""
        x = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, points_per_side))  # denser at base and tip
        left = np.stack([x, self.margin(x, np.ones_like(x))], axis=1)
        right = np.stack([x, -self.margin(x, -np.ones_like(x))], axis=1)
        return np.concatenate([left, right[-2:0:-1]])


@dataclass(frozen=True, slots=True)
class Pose:
    """The pose of a leaf in the image: bend of the midrib, then scale, rotation and position."""

    bend: float  # sideways shift of the midrib's middle, in leaf lengths
    length: float  # of the leaf, in image sides
    angle: float  # radians, of the midrib to the vertical
    center: tuple[float, float]  # image frame, of the midrib's middle

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Convert points (N, 2) from the leaf frame to the image frame, (N, 2) columns and rows."""
        along = points[:, 0] - 0.5
        across = points[:, 1] + self.bend * (1.0 - 4.0 * along**2)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        column = self.center[0] + self.length * (sin * along + cos * across)
        row = self.center[1] + self.length * (sin * across - cos * along)
        return np.stack([column, row], axis=1)

    def to_leaf(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert columns and rows from the image frame to x and y of the leaf frame.

        All arrays have the same shape.
        """
        column, row = (columns - self.center[0]) / self.length, (rows - self.center[1]) / self.length
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = sin * column - cos * row, cos * column + sin * row
        return along + 0.5, across - self.bend * (1.0 - 4.0 * along**2)


def draw_outline(parameters: LeafParameters, rng: np.random.Generator) -> LeafOutline:
    """Sample the outline of one leaf."""
    asymmetry = 0.04 * rng.standard_normal()
    return LeafOutline(
        half_width=parameters.aspect / 2.0,
        base_exponent=parameters.base_bluntness,
        tip_exponent=parameters.base_bluntness * (1.0 - parameters.widest_at) / parameters.widest_at,
        tooth_depth=parameters.crenation,
        teeth=int(rng.integers(17, 22)),
        side_widths=(1.0 + asymmetry, 1.0 - asymmetry),
        waves=0.018 * rng.standard_normal((2, 3)) / np.array([1.0, 2.0, 3.0]),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """Sample a pose: nearly upright, nearly centered, slightly bent."""
    return Pose(
        bend=float(np.clip(0.015 * rng.standard_normal(), -0.035, 0.035)),
        length=float(rng.uniform(0.71, 0.79)),
        angle=float(np.deg2rad(rng.uniform(-20.0, 20.0))),
        center=(float(rng.uniform(0.47, 0.53)), float(rng.uniform(0.46, 0.50))),
    )
