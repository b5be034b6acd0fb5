"""A random generator and a plain species for the tests of the kind `varied`."""

from dataclasses import replace

import numpy as np

from mnsa.data.synthetic.varied_shape import PINNATE, Species, sample_species


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def a_species(**changes: object) -> Species:
    species = sample_species(rng(1))
    while species.outline != "simple" or species.venation not in PINNATE:
        species = sample_species(rng(int(1e6 * species.aspect)))
    return replace(species, **changes)  # type: ignore[arg-type]
