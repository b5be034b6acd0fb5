import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.data.formats.csv_table import import_csv
from mnsa.errors import DataError

COFFEE = Path(__file__).parents[3] / "shared" / "data" / "coffee_leaf_stress" / "labels.csv"


@pytest.fixture
def table(tmp_path: Path, draw_leaf: Callable[..., None]) -> Path:
    """Six photos of three plants; one column bears a name that means something in manifest.csv."""
    lines = ["file,truth,cultivar,part,plant,dpi,label"]
    for n in range(6):
        draw_leaf(tmp_path / "p" / f"{n}.jpg", tmp_path / "m" / f"{n}.png", mask_value=n % 3)
        part = ["Training", "dev", "TEST"][n % 3]
        lines.append(f"p/{n}.jpg,m/{n}.png,{'ab'[n // 3]},{part},plant{n},{n + 1}.5,{n}")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_are_read_by_the_given_names(table: Path) -> None:
    manifest = import_csv(
        table, image="file", mask="truth", label="cultivar", split="part", group="plant", px_per_mm="dpi"
    )
    row = manifest.rows[1]
    assert (row.image, row.mask, row.label, row.split) == ("p/1.jpg", "m/1.png", "a", "val")
    assert (row.group, row.px_per_mm) == ("plant1", 2.5)
    assert manifest.mask_classes == ("background", "class1", "class2")


def test_other_columns_are_kept_as_extra_columns(table: Path) -> None:
    row = import_csv(table, image="file").rows[2]
    assert row.label == ""
    assert row.extra["source_label"] == "2"
    assert row.extra["cultivar"] == "a"


def test_without_a_split_column_validation_is_held_out_from_train(table: Path) -> None:
    manifest = import_csv(table, image="file", label="cultivar", val_fraction=0.34)
    assert Counter((row.label, row.split) for row in manifest.rows) == {
        ("a", "train"): 2, ("a", "val"): 1, ("b", "train"): 2, ("b", "val"): 1,
    }  # fmt: skip


def test_a_dropped_class_is_left_out(table: Path) -> None:
    manifest = import_csv(table, image="file", label="cultivar", drop_labels=["a"])
    assert manifest.classes == ("b",)
    assert len(manifest.rows) == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"image": "picture"}, "no column 'picture'; its columns are file, truth"),
        ({"image": "file", "split": "plant"}, "line 2: split is 'plant0'; expected one of train"),
        ({"image": "file", "px_per_mm": "part"}, "line 2: px_per_mm is 'Training'"),
        ({"image": "file", "label": "cultivar", "drop_labels": ["c"]}, "no class 'c' to drop; its classes are a, b"),
    ],
)
def test_options_that_do_not_fit_the_table_are_errors(table: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        import_csv(table, **options)
    assert str(table) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"), [("../x.jpg", "line 2: image is '../x.jpg'"), ('""', "line 2: image is empty")]
)
def test_unsafe_paths_are_rejected(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"image\n{line}\n")
    with pytest.raises(DataError, match=reason):
        import_csv(path)


@pytest.mark.skipif(not COFFEE.exists(), reason="the coffee leaves of ../shared/data are not here")
def test_the_coffee_leaves_keep_their_own_splits_and_three_mask_classes() -> None:
    manifest = import_csv(
        COFFEE, mask="mask", label="class_name", split="source_split", drop_labels=["mixed"],
        mask_classes=["background", "leaf", "symptom"],
    )  # fmt: skip
    with COFFEE.open() as file:
        truth = [line for line in csv.DictReader(file) if line["class_name"] != "mixed"]
    assert len(manifest.rows) == len(truth) == 490
    assert manifest.mask_classes == ("background", "leaf", "symptom")
    assert Counter(row.split for row in manifest.rows) == Counter(line["source_split"] for line in truth)
    assert [row.extra["severity"] for row in manifest.rows] == [line["severity"] for line in truth]
