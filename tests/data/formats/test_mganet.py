import logging
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from miniature_datasets import make_mganet
from mnsa.data.dataset import read_sample
from mnsa.data.formats.mganet import import_mganet
from mnsa.data.manifest import Manifest, read_manifest, write_manifest
from mnsa.data.validation.validate import find_errors
from mnsa.errors import DataError
from narrowing import some

if TYPE_CHECKING:
    from conftest import Finished


@pytest.fixture
def soybean(tmp_path: Path) -> Path:
    """Three cultivars of six tif images, ids 2, 5, 8, ...; the last has none for testing."""
    return make_mganet(tmp_path, classes=3, per_class=6, size_px=32)


def relabel(folder: Path, labels: dict[Any, Any]) -> None:
    (folder / "labels.pkl").write_bytes(pickle.dumps(labels))


def by_image(manifest: Manifest) -> dict[str, tuple[str, str]]:
    return {row.image: (row.mask, row.label) for row in manifest.rows}


def test_every_image_gets_its_own_mask_and_label(soybean: Path) -> None:
    manifest = import_mganet(soybean)
    labels = pickle.loads((soybean / "labels.pkl").read_bytes())
    assert by_image(manifest) == {
        path.relative_to(soybean).as_posix(): (f"l2_mask/{path.stem}.png", str(labels[int(path.stem)]))
        for path in soybean.glob("t*/*.tif")
    }
    assert (manifest.name, manifest.root) == ("soybean_2_1", soybean.resolve())
    assert (manifest.classes, manifest.mask_classes) == (("1", "2", "3"), ("vein",))


def test_validation_is_held_out_from_train_and_test_does_not_change(soybean: Path) -> None:
    splits = Counter((row.image.split("/")[0], row.label, row.split) for row in import_mganet(soybean).rows)
    assert splits == {
        ("train", "1", "train"): 3, ("train", "1", "val"): 1, ("test", "1", "test"): 2,
        ("train", "2", "train"): 3, ("train", "2", "val"): 1, ("test", "2", "test"): 2,
        ("train", "3", "train"): 5, ("train", "3", "val"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("mask_value", [1, 255])
def test_the_data_set_is_valid_and_veins_are_read_from_both_kinds_of_masks(tmp_path: Path, mask_value: int) -> None:
    source = make_mganet(tmp_path, classes=2, per_class=3, size_px=40, mask_value=mask_value)
    write_manifest(import_mganet(source), tmp_path / "set")
    manifest = read_manifest(tmp_path / "set")
    assert manifest == import_mganet(source)
    assert find_errors(manifest) == []
    for row in manifest.rows:
        sample = read_sample(manifest, row)
        assert sample.label == int(row.label) - 1
        assert np.array_equal(some(sample.mask), np.asarray(Image.open(source / row.mask)) > 0)
        assert np.array_equal(sample.image.permute(1, 2, 0), np.asarray(Image.open(source / row.image)))


def test_butterflies_are_found_by_name(tmp_path: Path) -> None:
    source = make_mganet(tmp_path, classes=2, per_class=3, size_px=32, name="btf").rename(tmp_path / "any name")
    rows = by_image(import_mganet(source, mask_classes=["wing vein"]))
    assert rows["train/butterfly_0002.png"] == ("l2_mask/butterfly_0002.png", "1")
    assert len(rows) == 6


def test_the_mask_class_can_be_renamed(soybean: Path) -> None:
    assert import_mganet(soybean, mask_classes=["lesion"]).mask_classes == ("lesion",)


def test_leading_zeros_and_capital_suffixes_are_ignored(soybean: Path) -> None:
    (soybean / "train" / "2.tif").rename(soybean / "train" / "0002.TIF")
    (soybean / "l2_mask" / "5.png").rename(soybean / "l2_mask" / "05.PNG")
    rows = by_image(import_mganet(soybean))
    assert rows["train/0002.TIF"] == ("l2_mask/2.png", "1")
    assert rows["train/5.tif"] == ("l2_mask/05.PNG", "1")
    assert find_errors(import_mganet(soybean)) == []


def test_ten_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = make_mganet(tmp_path, classes=11, per_class=1, size_px=32)
    assert import_mganet(source).classes == tuple(map(str, range(1, 12)))


def test_a_class_that_is_only_in_test_is_kept(soybean: Path) -> None:
    labels = pickle.loads((soybean / "labels.pkl").read_bytes())
    lone = int(next((soybean / "test").iterdir()).stem)
    relabel(soybean, {**labels, lone: np.int64(9)})
    manifest = import_mganet(soybean)
    assert manifest.classes == ("1", "2", "3", "9")
    assert [row.split for row in manifest.rows if row.label == "9"] == ["test"]


def test_without_a_mask_folder_there_are_only_classes(soybean: Path) -> None:
    (soybean / "l2_mask").rename(soybean / "elsewhere")
    manifest = import_mganet(soybean)
    assert manifest.mask_classes == ()
    assert {row.mask for row in manifest.rows} == {""}
    with pytest.raises(DataError, match="no image has a mask"):
        import_mganet(soybean, mask_classes=["vein"])


def test_labels_without_an_image_are_left_out_and_counted(soybean: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = import_mganet(soybean)
    assert caplog.messages == []
    labels = pickle.loads((soybean / "labels.pkl").read_bytes())
    relabel(soybean, labels | {1000: 7, 1001: 7, 1002: 8, 0: 1})
    with caplog.at_level(logging.WARNING):
        assert import_mganet(soybean) == whole
    assert caplog.messages == [f"4 labels of {soybean}/labels.pkl have no image and are left out: 0, 1000, 1001, ..."]


def test_hidden_files_and_other_files_are_skipped(soybean: Path) -> None:
    whole = import_mganet(soybean)
    for name in ("Thumbs.db", "._2.tif", "notes.txt"):
        (soybean / "train" / name).touch()
    assert import_mganet(soybean) == whole


def duplicate(folder: Path, copy: str) -> None:
    (folder / copy).write_bytes((folder / "train" / "2.tif").read_bytes())


@pytest.mark.parametrize(
    ("copy", "reason"),
    [
        ("train/02.tif", "train/02.tif and train/2.tif have the same key"),
        ("train/2.JPG", "train/2.JPG and train/2.tif have the same key"),
        ("test/2.tif", "train/2.tif and test/2.tif have the same key"),
        ("l2_mask/002.png", "l2_mask/002.png and l2_mask/2.png have the same key"),
        ("train/3.tif", r"train/3\.tif has no label: labels\.pkl has no key 3, but keys such as 2, 5, 8, \.\.\."),
        ("test/leaf.tif", r"test/leaf\.tif has no label: labels\.pkl has no key 'leaf\.tif'"),
        ("test/²5.tif", r"has no key '²5\.tif'"),
    ],
)
def test_an_image_without_a_key_or_with_the_key_of_another_image_is_an_error(
    soybean: Path, copy: str, reason: str
) -> None:
    duplicate(soybean, copy)
    with pytest.raises(DataError, match=reason):
        import_mganet(soybean)


def test_a_missing_mask_is_an_error(soybean: Path) -> None:
    (soybean / "l2_mask" / "8.png").unlink()
    with pytest.raises(DataError, match=r"train/8\.tif has no mask l2_mask/8\.png\. Restore it"):
        import_mganet(soybean)


@pytest.mark.parametrize("labels", [{}, {2: 1, "5.tif": 1}])
def test_labels_with_mixed_keys_or_without_keys_are_rejected(soybean: Path, labels: dict[Any, Any]) -> None:
    relabel(soybean, labels)
    with pytest.raises(DataError, match=rf"labels\.pkl holds {len(labels)} labels; expected one or more, by numbers"):
        import_mganet(soybean)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_folder_without_a_data_set_is_an_error(soybean: Path, missing: str) -> None:
    with pytest.raises(DataError, match=r"has no folder train\. Give the folder of one set, such as data/soybean_2_1"):
        import_mganet(soybean.parent)
    (soybean / missing).rename(soybean / "elsewhere")
    with pytest.raises(DataError, match=f"has no folder {missing}"):
        import_mganet(soybean)


def test_missing_labels_are_an_error(soybean: Path) -> None:
    (soybean / "labels.pkl").unlink()
    with pytest.raises(DataError, match=r"There is no file .*labels\.pkl"):
        import_mganet(soybean)


def test_a_malicious_labels_file_ends_the_command_before_anything_is_written(
    mnsa: "Callable[..., Finished]", soybean: Path, tmp_path: Path
) -> None:
    (soybean / "labels.pkl").write_bytes(b"cos\nmkdir\n(S'%s'\ntR." % str(tmp_path / "ran").encode())
    ended = mnsa("import", "mganet", soybean, "--out", tmp_path / "set")
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {soybean}/labels.pkl refers to 'os'.'mkdir'")
    assert list(tmp_path.iterdir()) == [soybean]


def test_the_command_writes_a_data_set(mnsa: "Callable[..., Finished]", soybean: Path, tmp_path: Path) -> None:
    ended = mnsa("import", "mganet", soybean, "--out", tmp_path / "set", "--val-fraction", "0.5", "--seed", 3)
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"18 images, 3 classes, 1 mask classes: {tmp_path / 'set'}")
    assert read_manifest(tmp_path / "set") == import_mganet(soybean, val_fraction=0.5, seed=3)
