"""Masks and photos whose numbers may mean the opposite are read by a stated rule, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from field_inputs import SIDE_PX, Command, rows_of, write_photo, write_vein
from PIL import Image

from mnsa.data.decode import read_image
from mnsa.run_folder import RunFolder

VEIN = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
VEIN[2:14, 8] = 255
PHOTOMETRIC = 262


def rgba(color: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([color, color, color, alpha]))


def save_min_white(folder: Path) -> None:
    Image.fromarray(255 - VEIN).save(folder / "m.tif", tiffinfo={PHOTOMETRIC: 0})


def save_min_white_of_1_bit(folder: Path) -> None:
    Image.fromarray(VEIN == 0).save(folder / "m.tif", tiffinfo={PHOTOMETRIC: 0})


def save_white_first(folder: Path) -> None:
    """Black veins on white: index 1 is black."""
    image = Image.fromarray(VEIN // 255).convert("P")
    image.putpalette([255] * 3 + [0] * 3)
    image.save(folder / "m.png")


MISLEADING: dict[str, tuple[Callable[[Path], object], str]] = {
    "0 is white": (save_min_white, "0 is white"),
    "0 is white, 1 bit": (save_min_white_of_1_bit, "0 is white"),
    "a palette in which 0 is white": (save_white_first, "indexed image in which 0 is white"),
    "black strokes on transparent black": (lambda f: rgba(VEIN * 0, VEIN).save(f / "m.png"), "in its transparency"),
    "black strokes on transparent white": (lambda f: rgba(255 - VEIN, VEIN).save(f / "m.png"), "in its transparency"),
    "white strokes on transparent white": (lambda f: rgba(VEIN | 255, VEIN).save(f / "m.png"), "in its transparency"),
    "254": (lambda f: Image.fromarray(VEIN // 255 * 254).save(f / "m.png"), "two pixel values 0 and 254; expected 0"),
    "65535": (
        lambda f: Image.fromarray(VEIN.astype(np.uint16) * 257).save(f / "m.png"),
        "two pixel values 0 and 65535 in 16 bits; expected 0 and 255",
    ),
}


@pytest.mark.parametrize("kind", MISLEADING)
@pytest.mark.parametrize("verb", ["traits", "masks", "folders", "csv", "check"])
def test_a_mask_that_may_mean_the_opposite_is_named(mnsa: Command, tmp_path: Path, verb: str, kind: str) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    save, reason = MISLEADING[kind]
    write_vein(source / "masks/a.png")
    save(source / "masks")
    (mask,) = (path.name for path in (source / "masks").glob("m.*"))
    for name in ("a", "m"):
        write_photo(source / ("oak" if verb == "folders" else "images") / f"{name}.png", ord(name))
    table = source / "table.csv"
    table.write_text(f"image,mask,split\nimages/a.png,masks/a.png,train\nimages/m.png,masks/{mask},val\n")
    if verb == "check":
        out.mkdir()
        (source / "dataset.toml").write_text('name = "leaves"\nclasses = []\nmask_classes = ["vein"]\nroot = "."\n')
        table.rename(source / "manifest.csv")
    arguments: dict[str, list[object]] = {
        "traits": ["traits", source / "masks", "--out", out],
        "masks": ["import", "masks", source / "images", source / "masks", "--out", out],
        "folders": ["import", "folders", source, "--out", out],
        "csv": ["import", "csv", table, "--mask", "mask", "--split", "split", "--out", out],
        "check": ["check", source, "--out", tmp_path / "out/findings.json"],
    }
    ending = mnsa(*arguments[verb])
    assert ending.code == (3 if verb == "traits" else 2), ending
    if verb == "traits":
        (error,) = (row["error"] for row in rows_of(out) if row["error"])
    else:
        error = (out / "findings.json").read_text() if verb == "check" else ending.err
        assert verb == "check" or not out.exists()
    assert mask in error
    assert reason in " ".join(error.split())


@pytest.mark.parametrize(
    "mask",
    [rgba(VEIN, VEIN), rgba(VEIN, VEIN | 255), Image.fromarray(VEIN).convert("P"), Image.fromarray(VEIN == 255)],
    ids=["white on transparent black", "opaque", "palette", "1 bit"],
)
def test_a_mask_whose_colors_say_it_is_measured(mnsa: Command, tmp_path: Path, mask: Image.Image) -> None:
    write_vein(tmp_path / "in/a.png")
    mask.save(tmp_path / "in/b.png")
    assert mnsa("traits", tmp_path / "in", "--out", tmp_path / "out.csv").code == 0
    first, second = rows_of(tmp_path / "out.csv")
    assert {**first, "mask": ""} == {**second, "mask": ""}


def test_a_photo_in_which_0_is_white_is_shown_as_it_is_meant(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX), np.uint8)
    Image.fromarray(gray).save(tmp_path / "plain.tif")
    Image.fromarray(gray).save(tmp_path / "8.tif", tiffinfo={PHOTOMETRIC: 0})
    Image.fromarray((255 - gray).astype(np.uint16) * 257).save(tmp_path / "16.tif", tiffinfo={PHOTOMETRIC: 0})
    for name in ("8.tif", "16.tif"):
        with Image.open(tmp_path / name) as image:
            assert image.tag_v2[PHOTOMETRIC] == 0  # type: ignore[attr-defined]
    first, *others = (read_image(tmp_path / name) for name in ("plain.tif", "8.tif", "16.tif"))
    assert all((first == other).all() for other in others)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_12_bits_in_16_are_refused_with_the_way_on(
    mnsa: Command, finished: RunFolder, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (64, 64), np.uint16)
    Image.fromarray(values).save(tmp_path / "in" / name)
    Image.fromarray(values * 16).save(tmp_path / "in" / f"scaled-{name}")
    ending = mnsa("predict", finished.path, tmp_path / "in", "--out", tmp_path / "out")
    assert ending.code == 3
    assert f"{name} has 16 bits per channel" in ending.out
    errors = {Path(row["image"]).name: row["error"] for row in rows_of(tmp_path / "out")}
    assert "no value above" in errors[name]
    assert "Multiply its values by 16" in errors[name]
    assert errors[f"scaled-{name}"] == ""


def test_traits_says_that_masks_may_be_inverted(mnsa: Command, tmp_path: Path) -> None:
    write_vein(tmp_path / "in/a.png")
    for name in "bc":
        Image.fromarray(255 - VEIN).save(tmp_path / f"in/{name}.png")
    ending = mnsa("traits", tmp_path / "in", "--out", tmp_path / "out.csv")
    assert ending.code == 0
    assert "2 masks are veins in more than half of their pixels, such as" in ending.out
    assert "in more than half" not in mnsa("traits", tmp_path / "in/a.png", "--out", tmp_path / "a.csv").out


def test_leaf_masks_of_no_folder_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    write_vein(tmp_path / "in/a.png")
    message = refused("traits", tmp_path / "in", "--leaf-masks", tmp_path / "none", "--out", tmp_path / "out.csv")
    assert f"{tmp_path}/none is no folder" in message
    assert not (tmp_path / "out.csv").exists()
