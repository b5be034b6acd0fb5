from dataclasses import astuple

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from mnsa.data.synthetic.leaf_shape import (
    MAX_PARAMETERS,
    MIN_PARAMETERS,
    LeafParameters,
    make_cultivar,
    sample_parameters,
)


def sample_many(cultivar_index: int, count: int) -> np.ndarray:
    cultivar, rng = make_cultivar(1, cultivar_index), np.random.default_rng(cultivar_index)
    return np.array([astuple(sample_parameters(cultivar, rng)) for _ in range(count)])


def test_a_cultivar_does_not_depend_on_the_number_of_cultivars() -> None:
    assert [make_cultivar(3, index) for index in range(4)] == [make_cultivar(3, index) for index in range(9)][:4]


def test_another_seed_gives_other_cultivars_with_the_same_names() -> None:
    assert make_cultivar(1, 0).name == make_cultivar(2, 0).name == "cultivar_01"
    assert make_cultivar(1, 0).position != make_cultivar(2, 0).position


@pytest.mark.parametrize(("count", "distance"), [(12, 0.8), (48, 0.6)])
def test_cultivars_have_a_minimum_distance_for_every_seed(count: int, distance: float) -> None:
    for seed in range(20):
        positions = [make_cultivar(seed, index).position for index in range(count)]
        assert pdist(positions).min() > distance


def test_a_cultivar_has_one_coordinate_per_parameter_within_the_range() -> None:
    position = np.array(make_cultivar(1, 5).position)
    assert len(position) == len(astuple(MIN_PARAMETERS)) == len(LeafParameters.__dataclass_fields__)
    assert ((position >= 0.0) & (position < 1.0)).all()


def test_cultivars_differ_more_between_than_within_in_every_trait() -> None:
    groups = np.stack([sample_many(index, count=40) for index in range(12)])  # (cultivar, individual, trait)
    between, within = groups.mean(axis=1).std(axis=0), groups.std(axis=1).mean(axis=0)
    assert (within < 0.5 * between).all()
    assert (within > 0.1 * between).all()


def test_individuals_are_nearest_to_their_own_cultivar() -> None:
    spread = np.array(astuple(MAX_PARAMETERS)) - np.array(astuple(MIN_PARAMETERS))
    centers = np.stack([sample_many(index, count=12).mean(axis=0) for index in range(12)]) / spread
    fresh = np.stack([sample_many(index, count=40)[12:] for index in range(12)]) / spread
    distances = np.linalg.norm(fresh[:, :, None] - centers, axis=-1)  # (cultivar, individual, center)
    assert (distances.argmin(axis=-1) == np.arange(12)[:, None]).mean() > 0.95
