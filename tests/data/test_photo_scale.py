"""The scale of photos: a number, the resolution in the file, the marker in the photo, or a row of a table."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.data.marker import draw_marker
from mnsa.data.photo_scale import PhotoScale, parse_scale_option, read_dpi_scale
from mnsa.errors import ConfigError, DataError


def save(path: Path, **options: Any) -> Path:
    Image.new("RGB", (40, 30)).save(path, **options)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_a_number_may_have_a_decimal_comma() -> None:
    assert parse_scale_option("2.5") == parse_scale_option("2,5") == 2.5
    with pytest.raises(ConfigError, match="--px-per-mm is '2,5,1'; expected a number, dpi, marker, or a CSV"):
        parse_scale_option("2,5,1")


def test_the_resolution_of_a_scan_is_its_scale(tmp_path: Path) -> None:
    assert read_dpi_scale(save(tmp_path / "a.jpg", dpi=(600, 600))) == pytest.approx(600 / 25.4)
    assert read_dpi_scale(save(tmp_path / "a.png", dpi=(300, 300))) == pytest.approx(300 / 25.4, rel=1e-4)
    assert read_dpi_scale(save(tmp_path / "a.tif", dpi=(1200, 1200))) == pytest.approx(1200 / 25.4)
    assert read_dpi_scale(save(tmp_path / "none.png")) is None
    assert read_dpi_scale(save(tmp_path / "odd.tif", dpi=(300, 600))) is None
    with pytest.raises(DataError, match=r"none\.png does not say its resolution"):
        PhotoScale("dpi").find(tmp_path / "none.png")


def test_a_table_gives_scales_by_path_or_by_name(tmp_path: Path) -> None:
    table = tmp_path / "scales.csv"
    table.write_text("image;px_per_mm\nphotos/a.jpg;2,5\nb.jpg;4\nc.jpg;\np1/top.jpg;1\np2/top.jpg;2\n")
    scale = parse_scale_option(str(table))
    assert isinstance(scale, PhotoScale)
    paths = ("photos/a.jpg", "elsewhere/a.jpg", "masks/b.png", "p2/top.jpg")
    assert [scale.find(Path(path)) for path in paths] == [2.5, 2.5, 4.0, 2.0]
    for path in ("c.jpg", "other/top.jpg", "d.jpg"):
        with pytest.raises(DataError, match="has no px_per_mm in the table of scales"):
            scale.find(Path(path))


def test_a_table_is_read_as_other_systems_write_it(tmp_path: Path) -> None:
    """Folders of plants, back slashes, another case; a dot in a name is no suffix."""
    table = tmp_path / "scales.csv"
    table.write_text("image,px_per_mm\nplant1\\top.jpg,1\nplant2/top.jpg,2\nIMG_1.JPG,3\nleaf.1,4\nleaf,5\n")
    scale = parse_scale_option(str(table))
    assert isinstance(scale, PhotoScale)
    paths = ("photos/plant1/top.jpg", "out/masks/plant2/top.png", "photos/img_1.jpg", "leaf.1.png", "leaf.png")
    assert [scale.find(Path(path)) for path in paths] == [1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="has no px_per_mm"):
        scale.find(Path("photos/plant3/top.jpg"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,scale\na.jpg,2\n", "expected image and px_per_mm"),
        ("image,px_per_mm\na.jpg,-2\n", "line 2: px_per_mm is '-2'"),
        ("image,px_per_mm\na.jpg,2\na.jpg,3\n", "line 3: a.jpg has two different scales"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "scales.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        parse_scale_option(str(tmp_path / "scales.csv"))


def test_every_photo_has_its_own_scale_in_the_tables(
    mnsa: Callable[..., Any], finished: Any, dataset: Path, tmp_path: Path
) -> None:
    photos = sorted((dataset / "images").iterdir())[:3]
    (tmp_path / "scales.csv").write_text(f"image,px_per_mm\n{photos[0].name},2\n{photos[1].name},4\n")
    options = ("--traits", "--px-per-mm", tmp_path / "scales.csv")
    ended = mnsa("predict", finished.path, *photos, *options, "--out", tmp_path / "out")
    assert (ended.code, ended.out.splitlines()[0][:22]) == (3, "2 predicted, 1 failed:")
    assert mnsa("predict", finished.path, *photos, "--traits", "--out", tmp_path / "px").code == 0
    rows, in_px = rows_of(tmp_path / "out" / "predictions.csv"), rows_of(tmp_path / "px" / "predictions.csv")
    assert [row["px_per_mm"] for row in rows] == ["2", "4", ""]
    for row, px, scale in zip(rows, in_px, (2, 4), strict=False):
        assert float(row["vein_length_mm"]) == pytest.approx(float(px["vein_length_px"]) / scale, rel=1e-4)
    assert f"No traits: {photos[2]} has no px_per_mm" in rows[2]["error"]
    assert rows[2]["vein_length_mm"] == ""
    assert rows[2]["predicted"] == in_px[2]["predicted"]

    masks = tmp_path / "out" / "masks"
    assert mnsa("traits", masks, "--px-per-mm", tmp_path / "scales.csv", "--out", tmp_path / "t.csv").code == 3
    assert [row["px_per_mm"] for row in rows_of(tmp_path / "t.csv")] == ["2", "4", ""]


def test_a_marker_in_the_photo_gives_traits_in_millimeters(
    mnsa: Callable[..., Any], finished: Any, tmp_path: Path
) -> None:
    assert mnsa("marker", tmp_path / "marker.png", "--size", 20).code == 0
    with Image.open(tmp_path / "marker.png") as marker:
        pixels = np.full((400, 500, 3), 150, np.uint8)
        pixels[100:260, 200:360] = np.asarray(marker.convert("RGB").resize((160, 160), Image.Resampling.BOX))
    Image.fromarray(pixels).save(tmp_path / "leaf.png")
    options = ("--traits", "--px-per-mm", "marker", "--marker-mm", 20)
    assert mnsa("predict", finished.path, tmp_path / "leaf.png", *options, "--out", tmp_path / "out").code == 0
    (row,) = rows_of(tmp_path / "out" / "predictions.csv")
    assert float(row["px_per_mm"]) == pytest.approx(160 * 6 / 8 / 20, rel=0.01)


def test_a_resolution_is_offered_and_not_used(mnsa: Callable[..., Any], finished: Any, tmp_path: Path) -> None:
    scan = save(tmp_path / "scan.png", dpi=(600, 600))
    ended = mnsa("predict", finished.path, scan, "--traits", "--out", tmp_path / "out")
    assert "says 600 dpi, 23.62 px per mm. If it is a scan, --px-per-mm dpi" in ended.out
    assert "vein_length_px" in rows_of(tmp_path / "out" / "predictions.csv")[0]
    command = ("predict", finished.path, scan, "--traits", "--px-per-mm", "dpi", "--out", tmp_path / "mm")
    assert mnsa(*command).code == 0
    assert float(rows_of(tmp_path / "mm" / "predictions.csv")[0]["px_per_mm"]) == pytest.approx(23.62, abs=0.01)


def test_an_existing_file_is_no_place_for_a_marker(refused: Callable[..., str], tmp_path: Path) -> None:
    draw_marker(tmp_path / "marker.png")
    assert "exists and was not changed" in refused("marker", tmp_path / "marker.png")
