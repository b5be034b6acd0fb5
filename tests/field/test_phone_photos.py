"""HEIC photos of phones, with pillow-heif as the writer and the oracle, and what is said where it is not installed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from field_inputs import IMPORTS, Command, count_of, rows_of, write_photo
from PIL import Image

from mnsa.data.decode import BadFileError, open_image_bytes, read_image, read_pixels
from mnsa.data.formats.common import upright_size
from mnsa.data.manifest import read_manifest
from mnsa.data.paths import UNREAD_SUFFIXES
from mnsa.run_folder import RunFolder

HEIGHT, WIDTH = 48, 64
SCENE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
SCENE[:, :, 0] = np.linspace(0, 255, WIDTH)
SCENE[:, :, 1] = np.linspace(0, 255, HEIGHT)[:, None]
SCENE[:20, :20] = (0, 0, 255)  # blue at the top left, so a wrong rotation is seen

WITHOUT_PACKAGE = """
import sys

sys.modules["pillow_heif"] = None
from mnsa.cli import main

main()
"""


def save_heic(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow_heif.register_heif_opener()
    (image or Image.fromarray(SCENE)).save(path, quality=90, **options)
    return path


def decode(path: Path) -> np.ndarray:
    """Decode by pillow-heif alone: RGB (H, W, 3) of 8 bits."""
    image = pillow_heif.open_heif(path).to_pillow()
    if image.mode == "I;16":
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("name", ["x.heic", "x.HEIC", "x.heif", "x.hif", "renamed.jpg"])
def test_a_photo_has_the_pixels_of_pillow_heif_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = save_heic(tmp_path / "x.heic").rename(tmp_path / name)
    pixels = read_pixels(path)
    np.testing.assert_array_equal(pixels, decode(path))
    assert np.abs(pixels.astype(int) - SCENE).mean() < 4
    with open_image_bytes(path.read_bytes(), name) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright_once(tmp_path: Path, orientation: int) -> None:
    """A phone writes the rotation into the container, and often into EXIF too: it counts once."""
    path = save_heic(tmp_path / "x.heic", exif=exif_of(orientation).tobytes())
    Image.fromarray(SCENE).save(tmp_path / "x.png", exif=exif_of(orientation))
    pixels, expected = read_pixels(path), read_pixels(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels, decode(path))
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 4
    assert upright_size(path) == pixels.shape[:2]


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_other_pixel_types_have_the_colors_of_pillow_heif(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(SCENE).convert("L")
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    path = save_heic(tmp_path / "x.heic", image)
    np.testing.assert_array_equal(read_pixels(path), decode(path))
    assert np.abs(read_pixels(path)[..., 0].astype(int) - np.asarray(gray)).mean() < 4


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    path = save_heic(tmp_path / "x.heic")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadFileError, match=r"x\.heic is "):
        read_image(path)


def heic_folder(folder: Path) -> None:
    for number in range(4):
        image = Image.fromarray(np.roll(SCENE, 16 * number, 1))
        save_heic(folder / "ab"[number % 2] / f"{number}.HEIC", image)


def test_photos_are_imported_checked_and_exported(mnsa: Command, tmp_path: Path) -> None:
    heic_folder(tmp_path / "in")
    assert mnsa(*IMPORTS["folders"].arguments(tmp_path / "in", tmp_path / "out")).code == 0
    manifest = read_manifest(tmp_path / "out")
    assert [row.image for row in manifest.rows] == ["a/0.HEIC", "a/2.HEIC", "b/1.HEIC", "b/3.HEIC"]
    found = mnsa("check", tmp_path / "out").out
    assert not any(word in found for word in ("wrong-extension", "unreadable", "unsupported", "passed-over"))


def test_photos_are_predicted(mnsa: Command, finished: RunFolder, tmp_path: Path) -> None:
    heic_folder(tmp_path / "in")
    assert mnsa("predict", finished.path, tmp_path / "in", "--out", tmp_path / "out").code == 0
    assert [row["error"] for row in rows_of(tmp_path / "out")] == [""] * 4
    with Image.open(tmp_path / "out" / rows_of(tmp_path / "out")[0]["mask"]) as mask:
        assert mask.size == (WIDTH, HEIGHT)


def test_other_tools_get_png(mnsa: Command, tmp_path: Path) -> None:
    for number in range(3):
        save_heic(tmp_path / f"in/images/{number}.heic", exif=exif_of(6).tobytes())
        mask = np.zeros((WIDTH, HEIGHT), np.uint8)
        mask[4:9] = 255
        (tmp_path / "in/masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"in/masks/{number}.png")
    assert mnsa(*IMPORTS["masks"].arguments(tmp_path / "in", tmp_path / "set")).code == 0
    assert mnsa("convert", tmp_path / "set", "--to", "coco", "--out", tmp_path / "coco").code == 0
    written = sorted((tmp_path / "coco/images").iterdir())
    assert [path.name for path in written] == ["0.png", "1.png", "2.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(written[0])), decode(tmp_path / "in/images/0.heic"))


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JFIF"])
def test_jpegs_of_other_suffixes_are_read(mnsa: Command, tmp_path: Path, suffix: str) -> None:
    for number in range(4):
        write_photo(tmp_path / f"in/{'ab'[number % 2]}/{number}.jpg", number)
        path = tmp_path / f"in/{'ab'[number % 2]}/{number}.jpg"
        path.rename(path.with_suffix(f".{suffix}"))
    assert mnsa(*IMPORTS["folders"].arguments(tmp_path / "in", tmp_path / "out")).code == 0
    assert count_of(tmp_path / "out") == 4
    assert "wrong-extension" not in mnsa("check", tmp_path / "out").out


def run_without_package(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_PACKAGE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_the_package_photos_are_passed_over_with_the_command_that_installs_it(tmp_path: Path) -> None:
    heic_folder(tmp_path / "in")
    write_photo(tmp_path / "in/a/5.png")
    write_photo(tmp_path / "in/b/6.png")
    ending = run_without_package(*IMPORTS["folders"].arguments(tmp_path / "in", tmp_path / "out"))
    assert (ending.returncode, ending.stderr) == (0, "")
    assert "4 .heic. To read .heic photos: pip install -e '.[heif]'." in " ".join(ending.stdout.split())
    assert count_of(tmp_path / "out") == 2


def test_without_the_package_a_data_set_that_lists_photos_is_refused(tmp_path: Path) -> None:
    heic_folder(tmp_path / "in")
    table = tmp_path / "in/table.csv"
    table.write_text("image,label\na/0.HEIC,a\nb/1.HEIC,b\n")
    arguments = ["import", "csv", table, "--label", "label", "--out", tmp_path / "out"]
    assert run_without_package(*arguments).returncode == 0
    ending = run_without_package("check", tmp_path / "out")
    assert (ending.returncode, ending.stderr) == (2, "")
    text = " ".join(ending.stdout.replace("│", " ").split())
    assert "a/0.HEIC" in text
    assert "unsupported" in text
    assert "pip install -e '.[heif]'" in text


def test_without_the_package_an_upload_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = save_heic(tmp_path / "x.heic").read_bytes()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadFileError, match="pip install") as refusal, open_image_bytes(data, "x"):
        pass
    assert refusal.value.kind == "unsupported"


def test_a_suffix_is_read_or_named_as_unread() -> None:
    assert ".heic" not in UNREAD_SUFFIXES
    assert ".avif" in UNREAD_SUFFIXES
