"""YOLO: polygons become masks, invalid files are rejected."""

from pathlib import Path

import numpy as np
import pytest

from miniature_datasets import write_image
from mnsa.data.decode import read_mask
from mnsa.data.formats.yolo import import_yolo
from mnsa.errors import DataError


def yolo(root: Path, lines: str = "1 .2 .25 .6 .25 .6 .75 .2 .75\n", description: str | None = None) -> Path:
    """A set of one training image, 10 x 8, and one for validation without labels."""
    write_image(root / "images/train/a.png")
    write_image(root / "images/val/b.png")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(lines)
    text = "path: ../datasets/x\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: leaf\n  1: spot\n"
    (root / "data.yaml").write_text(text if description is None else description)
    return root


def test_yolo_polygons_become_a_mask_and_a_missing_label_file_gives_no_mask(tmp_path: Path) -> None:
    manifest = import_yolo(yolo(tmp_path / "in"), tmp_path / "set")
    train, val = manifest.rows
    assert (train.image, train.mask, train.split) == ("images/train/a.png", "masks/train/a.png", "train")
    assert (val.image, val.mask, val.split) == ("images/val/b.png", "", "val")
    expected = np.zeros((8, 10), np.uint8)
    expected[2:6, 2:6] = 2
    assert (read_mask(manifest.mask_path(train), 3).numpy() == expected).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0 .5 .5 .2 .2\n", r"a\.txt, line 1 is a box"),
        ("\n2 0 0 1 0 1 1\n", r"line 2 begins with '2'; expected a class from 0 to 1"),
        ("-1 0 0 1 0 1 1\n", "begins with"),
        ("0 0 0 1 0 1\n", "pairs"),
        ("0 0 0 nan 0 1 1\n", "NaN or infinite"),
        ("0 0 0 inf 0 1 1\n", "NaN or infinite"),
        ("0 0 0 1e308 0 1 1\n", "outside|NaN or infinite"),
        ("0 0 0 -1 0 1 1\n", "outside"),
        ("0 a b c d e f\n", "no number"),
    ],
)
def test_invalid_yolo_lines_are_rejected(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_yolo(yolo(tmp_path / "in", lines), tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("train: images/train\nnames: !!python/object/apply:os.system [touch owned]\n", "can't be read as YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: *b\n", "uses the YAML alias"),
        ("names: " + "[" * 5000, "can't be read as YAML|nested deeper"),
        ("train: ../../outside\nnames: [leaf]\n", r"there is no \.\./\.\./outside below"),
        ("train: /etc\nnames: [leaf]\n", "there is no /etc below"),
        ("train: [images/train, 3]\nnames: [leaf]\n", "expected image folders"),
        ("train: train.txt\nnames: [leaf]\n", "there is no train.txt below"),
        ("train: labels/train\nnames: [leaf]\n", "has a label file"),
        ("train: images/train\nnames: [001, 002]\n", "numbers, yes and no in quotes"),
        ("train: images/train\nnames: [leaf, 'leaf ']\n", "must differ"),
        ("train: images/train\nnames: {1: leaf}\n", "expected 0, 1, 2"),
        ("train: images/train\nnames: [leaf, leaf]\n", "must differ"),
        ("train: images/train\n", "expected a list of names"),
        ("- 1\n", "expected a mapping"),
        ("x: " + "1" * 2_000_000, "at most"),
        ('names: ["\\ud800"]\n', "can't be read as YAML"),
        ("x: 2001-99-99\n", "can't be read as YAML"),
    ],
)
def test_invalid_yolo_descriptions_are_rejected(description: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_yolo(yolo(tmp_path / "in", description=description), tmp_path / "set")
    assert not list(tmp_path.glob("**/owned"))
