"""How sure a score is: percentile bootstrap over images."""

from collections.abc import Callable

import numpy as np


def bootstrap_interval(
    score: Callable[[np.ndarray], float], images: int, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The interval in which `score` falls when the images are drawn again, with replacement.

    score: takes image indices (N,), returns a number; NaN draws are left out. Returns: lower and upper bound,
    both NaN when no draw has a score. Source: B. Efron, "Bootstrap methods", Annals of Statistics 7 (1979).
    """
    rng = np.random.default_rng(seed)
    draws = np.array([score(rng.integers(0, images, images)) for _ in range(resamples)])
    draws = draws[~np.isnan(draws)]
    if draws.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
