"""Payloads in files: pictures that explode or are none, archives, pickles, and runs of a stranger."""

import io
import json
import os
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from sandbox import Payload, Place

from archives import FOUR, packed, photo, special, with_header
from hostile_pickles import ARMED, Calling


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG, with an honest checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = bytes(20)) -> bytes:
    """A gray PNG that claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    )


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of tags (number, type, count, value) alone."""
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + bytes(4)
    )


def bmp(width: int, height: int) -> bytes:
    """A BMP that claims a size."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def webp(width: int, height: int) -> bytes:
    """A WebP that claims a canvas."""
    canvas = (
        b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas


def as_file(form: str) -> bytes:
    """An honest picture of a format."""
    content = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(content, form)
    return content.getvalue()


BOMB = b"\0\0" + zlib.compress(bytes(1 << 26), 9)
SIZE = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n(ran) (w) file closefile\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>'
NO_FORMAT = "is not an image in a supported format"
PICTURES = {
    "2^31 pixels wide": (png(2**31 - 1, 2**31 - 1), "too many pixels"),
    "one row too many": (png(20_000, 20_001), "pixels"),
    "a bitmap of 60 GB": (bmp(200_000, 100_000), "pixels"),
    "a TIFF of 4 billion rows": (tiff((256, 4, 1, 2**31), (257, 4, 1, 2**31), *SIZE[2:]), "is"),
    "no width": (png(0, 5), NO_FORMAT),
    "a bomb in zTXt": (png(4, 4, chunk(b"zTXt", b"a" + BOMB)), "is damaged"),
    "a bomb in iTXt": (png(4, 4, chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB[2:])), "is damaged"),
    "a bomb in iCCP": (png(4, 4, chunk(b"iCCP", b"a" + BOMB), chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB[2:])), "is damaged"),
    "fewer pixels than claimed": (png(9999, 9999), "truncated"),
    "a chunk without an end": (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT", "is"),
    "a tag of 4 billion numbers": (tiff(*SIZE, (273, 4, 2**32 - 1, 8)), "is"),
    "a TIFF without pixels": (tiff(*SIZE), "is"),
    "a canvas without a picture": (webp(16_383, 16_383), "is"),
    "PostScript": (POSTSCRIPT, NO_FORMAT),
    "PostScript in a DOS wrapper": (
        b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 99) + bytes(18) + POSTSCRIPT,
        NO_FORMAT,
    ),
    "PDF": (b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>", NO_FORMAT),
    "SVG": (SVG, NO_FORMAT),
    "Photoshop": (b"8BPS\0\1" + bytes(30), NO_FORMAT),
    **{form: (as_file(form), NO_FORMAT) for form in ("GIF", "ICO", "PPM", "TGA", "ICNS", "PCX")},
    "a script": (b"#!/bin/sh\ntouch ran\n", NO_FORMAT),
    "half a JPEG": (as_file("JPEG")[:400], "is"),
    "nothing": (b"", "is empty"),
}


def picture(name: str, content: bytes, says: str) -> Payload:
    """A picture that every row of a data set may be."""

    def lay(place: Place) -> list[object]:
        place.file("leaf.jpg", content)
        return ["check", place.rows("leaf.jpg,")]

    return Payload(f"picture: {name}", lay, says)


def archive(name: str, spoil: Callable[[Place], object], says: str, *options: object) -> Payload:
    """A zip file: `spoil` writes leaves.zip."""

    def lay(place: Place) -> list[object]:
        spoil(place)
        return ["import", "zip", place.home / "leaves.zip", "--out", place.out, *options]

    return Payload(f"zip: {name}", lay, says)


def member(name: str, says: str, content: bytes | None = None) -> Payload:
    """A member beside honest ones."""
    more = {name: photo() if content is None else content}
    return archive(f"{name[:30]!a}", lambda place: packed(place.home / "leaves.zip", {**FOUR, **more}), says)


def of_kind(kind: int) -> Payload:
    """A member that is no file."""

    def spoil(place: Place) -> None:
        with zipfile.ZipFile(packed(place.home / "leaves.zip", FOUR), "a") as opened:
            opened.writestr(special("a/5.png", kind | 0o777), str(place.elsewhere / "secret.png"))

    return archive(f"a member of kind {kind:o}", spoil, "is a link or a device")


def many(place: Place) -> None:
    """Write a directory of 300,000 members that are all the same one; honest zip files have few or are large."""
    path = packed(place.home / "leaves.zip", {"a.png": b"x"})
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    directory = content[start:end] * 300_000
    claims = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), start, 0)  # it says that there is one
    path.write_bytes(content[:start] + directory + claims)


def pickled(name: str) -> Payload:
    """A labels.pkl that is a program."""

    def lay(place: Place) -> list[object]:
        place.picture("train/1.png")
        place.picture("test/2.png")
        place.file("labels.pkl", ARMED[name][0])
        return ["import", "mganet", place.home, "--out", place.out]

    return Payload(f"labels.pkl: {name}", lay, "nothing in it was run")


def weights(name: str, use: Callable[[Place, object], list[object]]) -> Payload:
    """A checkpoint that is a program."""

    def lay(place: Place) -> list[object]:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr("w/data.pkl", pickle.dumps({"net": Calling(os.mkdir, "ran")}, 2))
            file.writestr("w/version", "3\n")
            file.writestr("w/byteorder", "little")
        return use(place, place.file("weights.pth", content.getvalue()))

    return Payload(f"weights: {name}", lay, "can't be read as weights")


def trained(place: Place, file: object, key: str) -> list[object]:
    """Train from a weights file."""
    setting = f"{key}={json.dumps(str(file))}"
    return [
        "train",
        place.fixture("config_file"),
        "--data",
        place.fixture("dataset"),
        "--out",
        place.out,
        "--set",
        setting,
    ]


def run(name: str, file: str, spoil: Callable[[bytes], bytes], says: str = "is damaged") -> Payload:
    """A finished run with one file changed, asked for a prediction."""

    def lay(place: Place) -> list[object]:
        folder = place.fixture("own_run").path
        (folder / file).write_bytes(spoil((folder / file).read_bytes()))
        return ["predict", folder, place.picture("leaf.png"), "--out", place.out]

    return Payload(f"run: {name}", lay, says)


def card(**fields: object) -> Callable[[bytes], bytes]:
    """Another value in the [model] part of model/config.json."""

    def change(content: bytes) -> bytes:
        tree = json.loads(content)
        return json.dumps({**tree, "model": {**tree["model"], **fields}}).encode()

    return change


CARD, WEIGHTS = "model/config.json", "model/model.safetensors"
WIDE = [4096] * 5
PAYLOADS = (
    *(picture(name, content, says) for name, (content, says) in PICTURES.items()),
    member("../1.png", "leads out"),
    member("a/../../1.png", "leads out"),
    member("/etc/1.png", "leads out"),
    member("..\\1.png", "leads out"),
    member("C:/1.png", "leads out"),
    member("x/" * 11 + "1.png", "more than 10 levels"),
    member("A/1.png", "collides with"),
    member("a/\x1b[2J.png", "no plain path"),
    member("a/bomb.png", "grows more than 200 times", bytes(3 << 20)),
    of_kind(stat.S_IFLNK),
    of_kind(stat.S_IFIFO),
    of_kind(stat.S_IFCHR),
    archive(
        "larger than agreed",
        lambda place: packed(
            place.home / "leaves.zip", {f"a/{n}.png": np.random.default_rng(n).bytes(600_000) for n in range(2)}
        ),
        "would become",
        "--max-gigabytes",
        0.001,
    ),
    archive(
        "more than agreed", lambda place: packed(place.home / "leaves.zip", FOUR), "too many members", "--max-files", 3
    ),
    archive("300,000 members that say they are one", many, "too many members"),
    archive(
        "shared bytes", lambda place: with_header(packed(place.home / "leaves.zip", FOUR), 42, 0), "can't be unpacked"
    ),
    archive(
        "an archive in an archive",
        lambda place: packed(place.home / "leaves.zip", {"a/b.zip": b"PK"}),
        "holds no images",
    ),
    archive("a pipe", lambda place: place.leads_to("leaves.zip", "pipe"), "it is no file"),
    archive("a device", lambda place: place.leads_to("leaves.zip", "/dev/zero"), "it is no file"),
    *(pickled(name) for name in ARMED),
    weights("to import", lambda place, file: ["import-checkpoint", file, "--out", place.out]),
    weights("to start from", lambda place, file: trained(place, file, "train.init_from")),
    weights("for the backbone", lambda place, file: trained(place, file, "model.pretrained")),
    run("a model of the hub", CARD, card(backbone="hf-hub:stranger/net"), "timm has no model"),
    run("a model in a folder", CARD, card(backbone="local-dir:/tmp"), "timm has no model"),
    run("a network that fills the memory", CARD, card(decoder_channels=WIDE, bridge_channels=4096), "another network"),
    run("depth", CARD, lambda content: b"[" * 50_000, "nested more than"),
    run("a card of 17 MB", CARD, lambda content: content + b" " * (17 << 20), "at most"),
    run("a number for a network", CARD, lambda content: b"5"),
    run("weights that are a pickle", WEIGHTS, lambda content: pickle.dumps(Calling(os.mkdir, "ran"))),
    run("weights with a header of 2^62 bytes", WEIGHTS, lambda content: struct.pack("<Q", 2**62) + content[8:]),
    run("weights cut short", WEIGHTS, lambda content: content[:-9]),
)
