from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.synthetic import draw_leaf, make_cultivar, synthesize
from mnsa.errors import DataError


def synth(
    out: Path, *, cultivars: int = 2, per_cultivar: int = 5, size_px: int = 64, seed: int = 1, workers: int = 1
) -> Manifest:
    return synthesize(out, cultivars=cultivars, per_cultivar=per_cultivar, size_px=size_px, seed=seed, workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "dataset.toml")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return synth(tmp_path_factory.mktemp("synth") / "leaves")


def test_the_returned_manifest_equals_the_one_on_disk(drawn: Manifest) -> None:
    assert read_manifest(drawn.root) == drawn
    assert drawn.classes == ("cultivar_01", "cultivar_02")
    assert drawn.mask_classes == ("vein",)
    assert len(drawn.rows) == 10


def test_each_cultivar_is_split_three_to_one_to_one(drawn: Manifest) -> None:
    expected = {"train": 3, "val": 1, "test": 1}
    for name in drawn.classes:
        assert Counter(row.split for row in drawn.rows if row.label == name) == expected


def test_images_and_masks_exist_at_the_paths_of_the_manifest(drawn: Manifest) -> None:
    for row in drawn.rows:
        with Image.open(drawn.image_path(row)) as image, Image.open(drawn.mask_path(row)) as mask:
            assert (image.size, image.mode) == ((64, 64), "RGB")
            assert (mask.size, mask.mode) == ((64, 64), "L")
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert (drawn.root / row.extra["leaf_mask"]).is_file()


def test_a_row_contains_the_true_traits_of_the_leaf(drawn: Manifest) -> None:
    row = drawn.rows[6]  # the second individual of the second cultivar
    source = np.random.SeedSequence([1, 1, 1])
    leaf = draw_leaf(make_cultivar(1, 1), np.random.Generator(np.random.PCG64(source)), 64)
    assert np.array_equal(np.asarray(Image.open(drawn.mask_path(row))), leaf.vein_mask)
    assert np.array_equal(np.asarray(Image.open(drawn.root / row.extra["leaf_mask"])), leaf.leaf_mask)
    assert int(row.extra["areole_count"]) == leaf.traits.areole_count
    assert float(row.extra["vein_length_px"]) == pytest.approx(leaf.traits.vein_length_px, rel=1e-4)
    assert float(row.extra["leaf_area_px2"]) == pytest.approx(leaf.traits.leaf_area_px2, rel=1e-4)
    assert row.px_per_mm is not None
    length_mm = np.ptp(np.nonzero(leaf.leaf_mask)[0]) / row.px_per_mm
    assert 60.0 < length_mm < 100.0


def test_the_number_of_workers_changes_nothing(drawn: Manifest, tmp_path: Path) -> None:
    again = synth(tmp_path / "leaves", workers=2)
    assert contents(again.root) == contents(drawn.root)
    assert again.digest() == drawn.digest()


def test_a_longer_data_set_begins_with_the_same_leaves(drawn: Manifest, tmp_path: Path) -> None:
    longer = synth(tmp_path / "longer", cultivars=1, per_cultivar=6)
    for row in longer.rows[:5]:
        assert longer.image_path(row).read_bytes() == (drawn.root / row.image).read_bytes()


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="exists already"):
        synth(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnsa.data.synthetic.generate.draw_leaf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        synth(tmp_path / "leaves")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cultivars": 0}, "--cultivars is 0; expected 1 or more"),
        ({"per_cultivar": -1}, "--per-cultivar is -1; expected 1 or more"),
        ({"size_px": 63}, "--size is 63; expected 64 or more"),
        ({"size_px": 5000}, "--size is 5000; expected 2048 or less"),
        ({"seed": -1}, "--seed is -1; expected 0 or more"),
        ({"workers": 0}, "--workers is 0; expected 1 or more"),
    ],
)
def test_a_number_out_of_range_is_an_error(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        synth(tmp_path / "leaves", **wrong)
    assert not (tmp_path / "leaves").exists()
