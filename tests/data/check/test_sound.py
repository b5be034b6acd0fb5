from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.check import find_faults, require_sound
from mnsa.data.manifest import Manifest, Row
from mnsa.errors import DataError


def with_faults(leaves: Manifest, tmp_path: Path) -> Manifest:
    """Break six files of a sound data set, each in its own way."""
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "1_mask.png").unlink()
    Image.fromarray(np.zeros((40, 39), np.uint8)).save(tmp_path / "3_mask.png")
    Image.fromarray(np.full((40, 40), 17, np.uint8)).save(tmp_path / "5_mask.png")
    (tmp_path / "link.png").symlink_to(tmp_path.parent)
    return replace(leaves, rows=(*leaves.rows, Row("link.png", label="a")))


def test_a_sound_data_set_has_no_faults(leaves: Manifest) -> None:
    assert find_faults(leaves) == []
    require_sound(leaves)


def test_every_fault_is_found_in_one_pass_in_the_order_of_the_rows(leaves: Manifest, tmp_path: Path) -> None:
    faults = find_faults(with_faults(leaves, tmp_path))
    reasons = {
        "0.png": "0 bytes",
        "1_mask.png": "does not exist",
        "2.png": "is broken",
        "3_mask.png": "is 39 x 40 pixels, but its image 3.png is 40 x 40",
        "5_mask.png": "pixel values 17",
        "link.png": "outside the data set's root",
    }
    assert [fault.file for fault in faults] == list(reasons)
    assert all(reasons[fault.file] in fault.reason for fault in faults)


def test_the_error_lists_the_faults_with_their_number_and_the_fix(leaves: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaves: 6 of its files can't be used:\n  0\.png") as caught:
        require_sound(with_faults(leaves, tmp_path))
    assert "take their rows out of manifest.csv" in str(caught.value)


def test_of_many_faults_ten_are_shown(leaves: Manifest) -> None:
    absent = replace(leaves, rows=tuple(Row(f"absent{n}.png", label="a") for n in range(13)))
    with pytest.raises(DataError, match=r"(?s)13 of its files.*and 3 more") as caught:
        require_sound(absent.split(""))
    assert str(caught.value).count("does not exist") == 10


def test_progress_counts_every_row(leaves: Manifest, draw_leaf: Callable[..., None]) -> None:
    seen: list[tuple[int, int]] = []
    find_faults(leaves, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 14) for n in range(1, 15)]
