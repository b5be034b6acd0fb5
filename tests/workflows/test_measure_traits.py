"""Traits of many masks: a row each, none lost to a broken neighbour, true to what was drawn."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mnsa.batch.predict_files import find_images
from mnsa.data.manifest import read_manifest
from mnsa.errors import RunError
from mnsa.traits import Roles, TraitMeasurer
from mnsa.visualize.palette import MASK_CLASSES_KEY, write_mask
from mnsa.workflows.measure_traits import measure_files, read_mask_classes

VEINS = Roles(vein=(1,), leaf=(), lesion=())


def table_of(path: Path) -> list[dict[Any, Any]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_drawn_leaves_measure_as_they_were_drawn(dataset: Path, tmp_path: Path) -> None:
    measurer = TraitMeasurer(VEINS, separate_leaf_mask=True)
    masks = find_images([str(dataset / "vein_masks")])
    done = measure_files(measurer, masks, tmp_path / "t.csv", mask_classes=1, leaf_masks=dataset / "leaf_masks")
    assert done == (18, 0, [], [])
    truth = {(dataset / row.mask).as_posix(): row.extra for row in read_manifest(dataset).rows}
    for row in table_of(tmp_path / "t.csv"):
        drawn = truth[row["mask"]]
        assert float(row["leaf_area_px2"]) == pytest.approx(float(drawn["leaf_area_px2"]), rel=0.02)
        assert row["areole_count"] == drawn["areole_count"]
        assert row["vein_reference"] == "leaf"


def test_a_broken_mask_is_listed_with_its_reason_and_the_others_are_done(dataset: Path, tmp_path: Path) -> None:
    good = sorted((dataset / "vein_masks").iterdir())[0]
    grey, empty = tmp_path / "grey.png", tmp_path / "empty.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(grey)
    empty.write_bytes(b"")
    done = measure_files(TraitMeasurer(VEINS), [grey, good, empty], tmp_path / "new" / "traits.csv", mask_classes=1)
    assert done[:2] == (1, 2)
    assert [path for path, _ in done.errors] == [str(grey), str(empty)]
    rows = table_of(tmp_path / "new" / "traits.csv")
    assert [row["mask"] for row in rows] == [str(grey), str(good), str(empty)]
    assert "expected 0 and 1 (or 255)" in rows[0]["error"]
    assert "0 bytes" in rows[2]["error"]
    assert [row["vein_length_px"] != "" for row in rows] == [False, True, False]
    assert rows[1]["error"] == ""


def test_a_leaf_mask_that_is_missing_or_of_another_size_is_a_reason(dataset: Path, tmp_path: Path) -> None:
    first, second, *_ = find_images([str(dataset / "vein_masks")])
    leaves = tmp_path / "leaves"
    leaves.mkdir()
    Image.new("L", (10, 20)).save(leaves / second.name)
    measurer = TraitMeasurer(VEINS, separate_leaf_mask=True)
    measure_files(measurer, [first, second], tmp_path / "t.csv", mask_classes=1, leaf_masks=leaves)
    reasons = [row["error"] for row in table_of(tmp_path / "t.csv")]
    assert f"one leaf mask named {first.stem}; there is none" in reasons[0]
    assert "10 x 20 pixels; expected 64 x 64" in reasons[1]


def test_a_table_that_exists_is_left_as_it_is(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "traits.csv"
    out.write_text("mine")
    with pytest.raises(RunError, match="exists and was not changed"):
        measure_files(TraitMeasurer(VEINS), find_images([str(dataset / "vein_masks")]), out, mask_classes=1)
    assert out.read_text() == "mine"


def test_a_table_that_cannot_be_written_is_an_error(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"can't be written.*Choose another --out"):
        measure_files(TraitMeasurer(VEINS), [], tmp_path / "file" / "traits.csv", mask_classes=1)


def test_masks_of_mnsa_hold_the_names_of_their_classes(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    indices = np.zeros((40, 60), dtype=np.uint8)
    indices[5:35, 5:55], indices[10:14, 10:15] = 1, 2
    write_mask(indices, tmp_path / "a.png", ["background", "leaf", "symptom"])
    write_mask(indices % 2, tmp_path / "b.png", ["vein"])
    out = tmp_path / "traits.csv"
    assert mnsa("traits", tmp_path / "a.png", tmp_path / "b.png", "--out", out).code == 3
    first, second = table_of(out)
    assert (first["leaf_area_px2"], first["lesion_area_mean_px2"]) == ("1500", "20")
    assert "has the mask classes vein; the first mask has background, leaf, symptom" in second["error"]
    names = [part for name in ("none", "leaf", "vein") for part in ("--mask-class", name)]
    assert mnsa("traits", tmp_path / "a.png", *names, "--out", tmp_path / "named.csv").code == 0
    assert float(table_of(tmp_path / "named.csv")[0]["vein_area_fraction"]) == pytest.approx(20 / 1500, rel=1e-4)


def test_the_masks_of_predict_are_measured_like_predict_does(
    mnsa: Callable[..., Any], finished: Any, dataset: Path, tmp_path: Path
) -> None:
    photos = dataset / "images" / "*_0000.jpg"
    assert mnsa("predict", finished.path, photos, "--traits", "--out", tmp_path / "out").code == 0
    assert read_mask_classes(next((tmp_path / "out" / "masks").iterdir())) == ("vein",)
    assert mnsa("traits", tmp_path / "out" / "masks", "--out", tmp_path / "traits.csv").code == 0
    predicted, measured = table_of(tmp_path / "out" / "predictions.csv"), table_of(tmp_path / "traits.csv")
    for row, own in zip(predicted, measured, strict=True):
        assert {name: row[name] for name in own if name not in ("mask", "error")} == {
            name: text for name, text in own.items() if name not in ("mask", "error")
        }


@pytest.mark.parametrize("text", ["{", "7", '["a", 1]', '{"a": 1}', ""])
def test_a_damaged_list_of_names_is_no_list(text: str, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text(MASK_CLASSES_KEY, text)
    Image.new("L", (20, 20)).save(tmp_path / "mask.png", pnginfo=info)
    assert read_mask_classes(tmp_path / "mask.png") == ()
