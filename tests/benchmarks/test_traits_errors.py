from pathlib import Path

import numpy as np

from mnsa.data.decode import read_mask
from mnsa.data.manifest import read_manifest
from mnsa.data.rows import Row
from traits import errors, markdown, summary


def test_an_error_is_a_share_of_the_truth() -> None:
    true = np.array([10.0, 20.0, 40.0])
    assert summary(true, 1.1 * true) == ("+10.0 ± 0.0", "+10.0", "1.000")
    mean, worst, _ = summary(true, np.array([11.0, 16.0, 40.0]))
    assert (mean, worst) == ("-3.3 ± 12.5", "-20.0")


def test_true_masks_have_the_drawn_areas_and_areoles(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    found = errors(manifest, lambda row: read_mask(manifest.mask_path(row), 1).numpy())
    drawn, measured = found["leaf_area_px2"]
    np.testing.assert_allclose(drawn, measured, rtol=0.02)
    np.testing.assert_array_equal(*found["areole_count"])
    assert found["vein_length_px"].shape == (2, 18)
    assert markdown({"true": found}, leaves=18).count("| true |") == 4


def test_a_mask_that_lacks_half_the_leaf_measures_short(dataset: Path) -> None:
    manifest = read_manifest(dataset)

    def whole(row: Row) -> np.ndarray:
        return read_mask(manifest.mask_path(row), 1).numpy()

    half = errors(manifest, lambda row: np.where(np.arange(64) < 32, 0, whole(row)))
    lost = half["vein_length_px"][1] / errors(manifest, whole)["vein_length_px"][1]
    assert ((lost > 0.3) & (lost < 0.7)).all()
