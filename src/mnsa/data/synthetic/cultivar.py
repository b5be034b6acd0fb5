"""Cultivars: points in a small space of leaf traits, spread evenly; individuals scatter closely around them."""

from dataclasses import astuple, dataclass, fields

import numpy as np

# Standard deviation of individuals around their cultivar, in units of each trait's range. Twelve cultivars lie at
# least 0.8 apart in the unit cube of traits, thirteen times this: alike to a lay eye, yet separable.
WITHIN_STD = 0.06


@dataclass(frozen=True, slots=True)
class Habit:
    """The heritable traits of a leaf. Lengths are in units of the leaf's length, lightness is CIE L*."""

    aspect: float  # width / length
    widest_at: float  # where the blade is widest: 0 base, 1 tip
    base_bluntness: float  # exponent of the outline at the base: small is round, large is wedge-shaped
    crenation: float  # depth of the margin's teeth
    vein_angle_deg: float  # of the secondary veins to the midrib
    secondary_count: float  # per side
    areole_size: float  # distance between neighbouring areoles
    vein_lightness: float  # how much lighter than the blade the veins are
    puckering: float  # how far the blade bulges between its veins
    hue_deg: float  # of the blade, in CIE Lab: 90 yellow, 180 green


# The species: no cultivar leaves these ranges, so all of them pass for soybean leaflets.
SLENDER = Habit(0.49, 0.36, 0.44, 0.001, 42.0, 6.5, 0.059, 18.0, 0.6, 121.0)
STOUT = Habit(0.64, 0.46, 0.62, 0.006, 60.0, 9.5, 0.078, 34.0, 2.2, 132.0)


@dataclass(frozen=True, slots=True)
class Cultivar:
    """A name and a place in the unit cube of traits (one coordinate per field of `Habit`)."""

    name: str
    position: tuple[float, ...]


def make_cultivar(seed: int, index: int) -> Cultivar:
    """Cultivar `index` (from 0) of a seed; it doesn't depend on how many others there are.

    The positions are a randomly shifted additive recurrence, whose points keep apart for any number of them.
    Source: M. Roberts, The unreasonable effectiveness of quasirandom sequences (2018).
    """
    dimensions = len(fields(Habit))
    golden = 1.5
    for _ in range(64):  # the positive root of golden**(dimensions + 1) = golden + 1
        golden = (1.0 + golden) ** (1.0 / (dimensions + 1))
    shift = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed]))).random(dimensions)
    steps = golden ** -np.arange(1.0, dimensions + 1.0)
    position = (shift + (index + 1) * steps) % 1.0
    return Cultivar(f"cultivar_{index + 1:02d}", tuple(position.tolist()))


def grow(cultivar: Cultivar, rng: np.random.Generator) -> Habit:
    """Vary the habit of one individual: its cultivar's, and a little of its own."""
    deviation = np.clip(rng.standard_normal(len(cultivar.position)), -2.0, 2.0)  # no freaks
    position = np.asarray(cultivar.position) + WITHIN_STD * deviation
    low, high = np.asarray(astuple(SLENDER)), np.asarray(astuple(STOUT))
    habit = low + position * (high - low)
    return Habit(*np.maximum(habit, 0.0).tolist())
