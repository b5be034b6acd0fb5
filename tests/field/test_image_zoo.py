"""Odd images are answered alike by `serve`, `predict` and the Python interface, or refused by all with words."""

import base64
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from fastapi.testclient import TestClient
from field_inputs import Command, rows_of, write_photo, write_vein
from PIL import Image, ImageCms

from mnsa.errors import MnsaError
from mnsa.inference.predictor import Predictor
from mnsa.run_folder import RunFolder
from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app
from mnsa.traits import find_roles

SIDE = 48
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 16, 3), np.uint8)
PHOTO = Image.fromarray(NOISE)
GRAY = NOISE[..., 0]
WORDS = GRAY.astype(np.uint16) * 257
PALETTE = PHOTO.quantize(16)
ORIENTATION, PHOTOMETRIC = 0x0112, 262


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, pixels, **options)
    return data.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def run_lengths() -> bytes:
    """A BMP of 8 bits whose rows are single runs (BI_RLE8)."""
    width, height = 32, 24
    pixels = b"".join(bytes((width, row * 10, 0, 0)) for row in range(height)) + b"\0\1"
    palette = b"".join(bytes((value, 255 - value, value // 2, 0)) for value in range(256))
    offset = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    about = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 2835, 2835, 256, 256)
    return head + about + palette + pixels


def huge_png() -> bytes:
    """A PNG whose header says 60,000 x 60,000 pixels."""
    data = encode(PHOTO, "PNG")
    header = struct.pack(">II", 60_000, 60_000) + data[24:29]
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


def with_bad_exif(data: bytes) -> bytes:
    """A JPEG with EXIF data that end in their middle."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\x01\x05\0\xff\xff\xff\x7f"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def bad_tiff_tag() -> bytes:
    """A TIFF with a tag whose values lie behind the end of the file."""
    data = bytearray(encode(PHOTO, "TIFF", tiffinfo={305: "a program with a long name"}))
    (start,) = struct.unpack_from("<I", data, 4)
    for entry in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * entry
        if struct.unpack_from("<H", data, at)[0] == 305:
            struct.pack_into("<I", data, at + 8, 0x7FFFFF00)
    return bytes(data)


def floats() -> bytes:
    return tiff(GRAY.astype(np.float32))


def color_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def in_lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(PHOTO, *profiles, outputMode="LAB")
    assert image is not None
    return image


def pyramid() -> bytes:
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as writer:
        writer.write(NOISE, tile=(16, 16))
        writer.write(NOISE[::2, ::2], tile=(16, 16), subfiletype=1)
    return data.getvalue()


ANSWERED: dict[str, Callable[[], bytes]] = {
    "RGB": lambda: encode(PHOTO, "PNG"),
    "CMYK JPEG": lambda: encode(PHOTO.convert("CMYK"), "JPEG"),
    "CMYK TIFF": lambda: encode(PHOTO.convert("CMYK"), "TIFF"),
    "YCbCr TIFF": lambda: encode(PHOTO.convert("YCbCr"), "TIFF"),
    "LAB TIFF": lambda: encode(in_lab(), "TIFF"),
    "gray": lambda: encode(PHOTO.convert("L"), "PNG"),
    "16 bits": lambda: encode(Image.fromarray(WORDS), "PNG"),
    "16 bits in color": lambda: tiff(NOISE.astype(np.uint16) * 257, photometric="rgb"),
    "16 bits, big-endian": lambda: tiff(WORDS, byteorder=">"),
    "palette": lambda: encode(PALETTE, "PNG"),
    "palette with a transparent color": lambda: encode(PALETTE, "PNG", transparency=3),
    "palette with transparent bytes": lambda: encode(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
    "1 bit": lambda: encode(PHOTO.convert("1"), "PNG"),
    "1 bit, CCITT": lambda: encode(PHOTO.convert("1"), "TIFF", compression="group4"),
    "LA": lambda: encode(PHOTO.convert("LA"), "PNG"),
    "RGBA": lambda: encode(PHOTO.convert("RGBA"), "PNG"),
    "gray with a transparent value": lambda: encode(PHOTO.convert("L"), "PNG", transparency=7),
    "progressive JPEG": lambda: encode(PHOTO, "JPEG", progressive=True),
    "JPEG 4:4:4": lambda: encode(PHOTO, "JPEG", subsampling=0, quality=100),
    "gray JPEG": lambda: encode(PHOTO.convert("L"), "JPEG"),
    "MPO": lambda: encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.resize((24, 24))]),
    "ICC profile": lambda: encode(PHOTO, "JPEG", icc_profile=color_profile()),
    "broken ICC profile": lambda: encode(PHOTO, "PNG", icc_profile=b"no profile"),
    "EXIF that ends": lambda: with_bad_exif(encode(PHOTO, "JPEG")),
    "TIFF tag behind the end": bad_tiff_tag,
    "BMP": lambda: encode(PHOTO, "BMP"),
    "BMP of 1 bit": lambda: encode(PHOTO.convert("1"), "BMP"),
    "BMP/RLE": run_lengths,
    "WebP": lambda: encode(PHOTO, "WEBP", lossless=True),
    "TIFF/JPEG": lambda: encode(PHOTO, "TIFF", compression="jpeg"),
    "TIFF/LZW with a predictor": lambda: encode(PHOTO, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
    "TIFF in tiles": lambda: tiff(NOISE, tile=(16, 16)),
    "TIFF in planes": lambda: tiff(np.moveaxis(NOISE, -1, 0).copy(), planarconfig="separate", photometric="rgb"),
    "TIFF, 0 is white": lambda: encode(PHOTO.convert("L"), "TIFF", tiffinfo={PHOTOMETRIC: 0}),
    "2 channels": lambda: tiff(NOISE[..., :2].copy(), photometric="minisblack", planarconfig="contig"),
    "TIFF of ImageJ": lambda: tiff(NOISE, imagej=True),
    "BigTIFF": lambda: tiff(NOISE, bigtiff=True),
    **{f"EXIF {n}": partial(encode, PHOTO, "JPEG", exif=turned(n)) for n in range(2, 10)},
}

SEVERAL: dict[str, Callable[[], bytes]] = {
    "animated WebP": lambda: encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)], lossless=True),
    "animated PNG": lambda: encode(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(90)]),
    "TIFF of pages": lambda: encode(PHOTO, "TIFF", save_all=True, append_images=[PHOTO.rotate(90)]),
    "stack of ImageJ": lambda: tiff(np.stack([GRAY, 255 - GRAY]), imagej=True),
    "pyramid": pyramid,
}


REFUSED: dict[str, Callable[[], bytes]] = {
    "zero bytes": lambda: b"",
    "one byte": lambda: b"\xff",
    "truncated JPEG": lambda: encode(PHOTO, "JPEG")[:900],
    "truncated PNG": lambda: encode(PHOTO, "PNG")[:900],
    "truncated TIFF": lambda: encode(PHOTO, "TIFF", compression="tiff_lzw")[:900],
    "truncated WebP": lambda: encode(PHOTO, "WEBP", lossless=True)[:900],
    "truncated BMP": lambda: encode(PHOTO, "BMP")[:900],
    "huge": huge_png,
    "GIF": lambda: encode(PALETTE, "GIF"),
    "animated GIF": lambda: encode(PALETTE, "GIF", save_all=True, append_images=[PHOTO.rotate(90).quantize(16)]),
    "AVIF": lambda: encode(PHOTO, "AVIF"),
    "JPEG 2000": lambda: encode(PHOTO, "JPEG2000"),
    "PDF": lambda: encode(PHOTO, "PDF"),
    "HTML": lambda: b"<!DOCTYPE html><html>404</html>",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "floats": floats,
    "32 bits": lambda: tiff(GRAY.astype(np.uint32)),
    "64 bits": lambda: tiff(GRAY.astype(np.float64)),
    "complex": lambda: tiff(GRAY.astype(np.complex64)),
    "signed": lambda: tiff((GRAY // 2).astype(np.int8)),
    "12 bits in 16": lambda: encode(Image.fromarray(GRAY.astype(np.uint16) * 16), "PNG"),
    "5 channels": lambda: tiff(np.dstack([NOISE, NOISE[..., :2]]), photometric="minisblack", planarconfig="contig"),
    "big-endian BigTIFF": lambda: tiff(NOISE, bigtiff=True, byteorder=">"),
    "too small": lambda: encode(PHOTO.resize((8, 8)), "PNG"),
    "a row": lambda: encode(PHOTO.resize((400, 1)), "PNG"),
    "Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.fixture(scope="module")
def web(predictor: Predictor) -> Iterator[TestClient]:
    app = create_app(predictor, name="tiny", roles=find_roles(predictor.mask_classes), limits=RequestLimits())
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def post(web: TestClient, data: bytes) -> Any:
    return web.post("/v1/predict?include=row&include=mask", files={"images": ("odd.dat", data)})


@pytest.mark.parametrize("kind", [*ANSWERED, *SEVERAL])
def test_an_odd_image_has_the_same_answer_everywhere(
    web: TestClient, predictor: Predictor, tmp_path: Path, kind: str
) -> None:
    data = {**ANSWERED, **SEVERAL}[kind]()
    (tmp_path / "odd.dat").write_bytes(data)
    expected = predictor.predict(tmp_path / "odd.dat")
    answer = post(web, data)
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(result["mask"]["png"]))))
    assert expected.mask is not None
    np.testing.assert_array_equal(mask, expected.mask)
    row = predictor.prediction_table().row(expected, "odd.dat")
    assert {name: result["row"][name] for name in row} == row
    assert ("only the first is read" in result["warning"]) == (kind in SEVERAL)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_image_that_is_not_read_is_refused_everywhere(
    web: TestClient, predictor: Predictor, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "odd.dat").write_bytes(REFUSED[kind]())
    with pytest.raises(MnsaError, match=r"odd\.dat"):
        predictor.predict(tmp_path / "odd.dat")
    answer = post(web, REFUSED[kind]())
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["detail"].startswith("odd.dat ")
    assert len(answer.json()["detail"].split()) > 3


@pytest.mark.parametrize("scale", ["1e-300", "1e-7", "0", "-1", "nan", "inf", "1e300", "11,8", "2 px"])
def test_a_scale_out_of_range_is_refused_by_the_web_service(web: TestClient, scale: str) -> None:
    answers = [
        web.post("/v1/predict", params={"px_per_mm": scale}, files={"images": ("a.png", ANSWERED["RGB"]())}),
        web.post("/v1/export", params={"px_per_mm": scale}, json={"items": [{"row": {"image": "a.png"}}]}),
    ]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"].startswith("px_per_mm: ")


def test_predict_has_a_row_for_each_odd_image(mnsa: Command, finished: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for kind, make in {**ANSWERED, **SEVERAL, **REFUSED}.items():
        (tmp_path / "in" / f"{kind.replace('/', ' ')}.png").write_bytes(make())
    ending = mnsa("predict", finished.path, tmp_path / "in", "--out", tmp_path / "out")
    assert ending.code == 3
    failed = {Path(row["image"]).stem for row in rows_of(tmp_path / "out") if row["error"]}
    assert failed == {kind.replace("/", " ") for kind in REFUSED}
    assert "Traceback" not in ending.out + ending.err
    for kind in SEVERAL:
        assert ending.out.count(f"{kind}.png has several pages or frames; only the first is read") == 1


def write_pages(path: Path) -> None:
    """A mask of two pages, the second turned by 90 degrees."""
    with Image.open(write_vein(path.with_suffix(".png"))) as image:
        image.save(path, save_all=True, append_images=[image.rotate(90)])
    path.with_suffix(".png").unlink()


@pytest.mark.parametrize("verb", ["predict", "traits", "veins"])
def test_a_file_of_several_pages_is_named_once(
    mnsa: Command, finished: RunFolder, bundled_veins: Path, tmp_path: Path, verb: str
) -> None:
    for name in ("a.tif", "b.tif"):
        write_pages(tmp_path / "in" / name)
    write_vein(tmp_path / "in/c.png")
    run = [finished.path] if verb == "predict" else []
    for number in (1, 2):  # the second command says it again
        ending = mnsa(verb, *run, tmp_path / "in", "--out", tmp_path / f"out{number}")
        assert ending.code == 0, ending
        for name in ("a.tif", "b.tif"):
            assert ending.out.count(f"{name} has several pages or frames; only the first is read") == 1
        assert "c.png has" not in ending.out


@pytest.mark.parametrize("target", ["coco", "yolo", "nnunet", "masks"])
def test_an_export_names_a_file_of_several_pages_once(mnsa: Command, tmp_path: Path, target: str) -> None:
    for number in range(3):
        write_pages(tmp_path / f"in/images/{number}.tif")
        write_vein(tmp_path / f"in/masks/{number}.png")
    folders = tmp_path / "in/images", tmp_path / "in/masks"
    assert mnsa("import", "masks", *folders, "--out", tmp_path / "set").code == 0
    ending = mnsa("convert", tmp_path / "set", "--to", target, "--out", tmp_path / "Dataset001_leaves")
    assert ending.code == 0
    assert ending.out.count("several pages or frames") == 3


def test_hundreds_of_files_of_several_pages_are_not_a_list(mnsa: Command, tmp_path: Path) -> None:
    for number in range(30):
        write_pages(tmp_path / f"in/{number}.tif")
    ending = mnsa("traits", tmp_path / "in", "--out", tmp_path / "out.csv")
    assert ending.code == 0
    assert ending.out.count("has several pages or frames") == 20
    assert ending.out.count("further files of this kind") == 1


def test_check_says_it_as_a_finding_alone(mnsa: Command, tmp_path: Path) -> None:
    for name in "ab":
        for number in range(3):
            write_photo(tmp_path / "in" / name / f"{number}.png", ord(name) + number)
    PHOTO.save(tmp_path / "in/a/pages.tif", save_all=True, append_images=[PHOTO.rotate(90)])
    assert mnsa("import", "folders", tmp_path / "in", "--out", tmp_path / "out").code == 0
    found = mnsa("check", tmp_path / "out").out
    assert "animated" in found
    assert "pages.tif has several pages" not in found


def test_what_pillow_says_of_a_file_does_not_reach_the_terminal(tmp_path: Path) -> None:
    odd = (
        "EXIF that ends",
        "TIFF tag behind the end",
        "palette with transparent bytes",
        "5 channels",
        "truncated TIFF",
    )
    for kind in odd:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{kind}.png").write_bytes({**ANSWERED, **REFUSED}[kind]())
    command = [sys.executable, "-m", "mnsa", "traits", str(tmp_path / "in"), "--out", str(tmp_path / "out.csv")]
    ending = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ending.returncode, ending.stderr) == (3, "")
    assert "Warning" not in ending.stdout
