"""Payloads in binary files: invalid images, zip files, pickles, and changed run folders."""

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
from sandbox import Command, Payload, Sandbox

from archives import FOUR_IMAGES, encode_photo, patch_directory, special_member, write_zip
from hostile_pickles import ARMED, Calling


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file with a correct checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = bytes(20)) -> bytes:
    """A gray PNG whose header has this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    )


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF that has only tags: (number, type, count, value)."""
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + bytes(4)
    )


def bmp(width: int, height: int) -> bytes:
    """A BMP whose header has this size, without pixels."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def webp(width: int, height: int) -> bytes:
    """A WebP whose header has this size, without pixels."""
    canvas = (
        b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas


def encode_image(image_format: str) -> bytes:
    """A valid image in a format."""
    content = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(content, image_format)
    return content.getvalue()


BOMB = b"\0\0" + zlib.compress(bytes(1 << 26), 9)
SIZE = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n(ran) (w) file closefile\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>'
NO_FORMAT = "is not an image in a supported format"
INVALID_IMAGES = {
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
    "a WebP without pixels": (webp(16_383, 16_383), "is"),
    "PostScript": (POSTSCRIPT, NO_FORMAT),
    "PostScript in a DOS wrapper": (
        b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 99) + bytes(18) + POSTSCRIPT,
        NO_FORMAT,
    ),
    "PDF": (b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>", NO_FORMAT),
    "SVG": (SVG, NO_FORMAT),
    "Photoshop": (b"8BPS\0\1" + bytes(30), NO_FORMAT),
    **{form: (encode_image(form), NO_FORMAT) for form in ("GIF", "ICO", "PPM", "TGA", "ICNS", "PCX")},
    "a script": (b"#!/bin/sh\ntouch ran\n", NO_FORMAT),
    "half a JPEG": (encode_image("JPEG")[:400], "is"),
    "an empty file": (b"", "is empty"),
}


def invalid_image(name: str, content: bytes, message: str) -> Payload:
    """An invalid image in a row of a data set."""

    def prepare(sandbox: Sandbox) -> Command:
        sandbox.write_file("leaf.jpg", content)
        return ["check", sandbox.write_dataset("leaf.jpg,")]

    return Payload(f"image: {name}", prepare, message)


def zip_file(name: str, write: Callable[[Sandbox], object], message: str, *options: object) -> Payload:
    """A zip file. write: creates leaves.zip."""

    def prepare(sandbox: Sandbox) -> Command:
        write(sandbox)
        return ["import", "zip", sandbox.inputs / "leaves.zip", "--out", sandbox.out, *options]

    return Payload(f"zip: {name}", prepare, message)


def zip_member(name: str, message: str, content: bytes | None = None) -> Payload:
    """A zip file of valid members and one more."""
    more = {name: encode_photo() if content is None else content}
    return zip_file(
        f"{name[:30]!a}", lambda sandbox: write_zip(sandbox.inputs / "leaves.zip", {**FOUR_IMAGES, **more}), message
    )


def zip_special_member(kind: int) -> Payload:
    """A zip file with a member that is a link, a pipe or a device. kind: a file type of `stat`."""

    def write(sandbox: Sandbox) -> None:
        with zipfile.ZipFile(write_zip(sandbox.inputs / "leaves.zip", FOUR_IMAGES), "a") as opened:
            opened.writestr(special_member("a/5.png", kind | 0o777), str(sandbox.outside / "secret.png"))

    return zip_file(f"a member of kind {kind:o}", write, "is a link or a device")


def write_zip_with_many_members(sandbox: Sandbox) -> None:
    """Write a zip directory with 300,000 entries for the same member, and a header that says 1."""
    path = write_zip(sandbox.inputs / "leaves.zip", {"a.png": b"x"})
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    directory = content[start:end] * 300_000
    header = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + header)


def pickled(name: str) -> Payload:
    """A labels.pkl that executes code."""

    def prepare(sandbox: Sandbox) -> Command:
        sandbox.write_image("train/1.png")
        sandbox.write_image("test/2.png")
        sandbox.write_file("labels.pkl", ARMED[name][0])
        return ["import", "mganet", sandbox.inputs, "--out", sandbox.out]

    return Payload(f"labels.pkl: {name}", prepare, "no code in it was run")


def checkpoint(name: str, use: Callable[[Sandbox, object], Command]) -> Payload:
    """A checkpoint that executes code. use: returns the command that reads the file."""

    def prepare(sandbox: Sandbox) -> Command:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr("w/data.pkl", pickle.dumps({"net": Calling(os.mkdir, "ran")}, 2))
            file.writestr("w/version", "3\n")
            file.writestr("w/byteorder", "little")
        return use(sandbox, sandbox.write_file("weights.pth", content.getvalue()))

    return Payload(f"weights: {name}", prepare, "can't be read as weights")


def train_command(sandbox: Sandbox, file: object, key: str) -> Command:
    """Train with a checkpoint as the value of a config key."""
    setting = f"{key}={json.dumps(str(file))}"
    return [
        "train",
        sandbox.fixture("config_file"),
        "--data",
        sandbox.fixture("dataset"),
        "--out",
        sandbox.out,
        "--set",
        setting,
    ]


def changed_run(name: str, file: str, change: Callable[[bytes], bytes], message: str = "is damaged") -> Payload:
    """A run folder with one changed file, used to predict. change: old content -> new content."""

    def prepare(sandbox: Sandbox) -> Command:
        folder = sandbox.fixture("own_run").path
        (folder / file).write_bytes(change((folder / file).read_bytes()))
        return ["predict", folder, sandbox.write_image("leaf.png"), "--out", sandbox.out]

    return Payload(f"run: {name}", prepare, message)


def model_spec(**fields: object) -> Callable[[bytes], bytes]:
    """Change values of `model` in model/config.json."""

    def change(content: bytes) -> bytes:
        tree = json.loads(content)
        return json.dumps({**tree, "model": {**tree["model"], **fields}}).encode()

    return change


SPEC_FILE, WEIGHTS_FILE = "model/config.json", "model/model.safetensors"
WIDE_CHANNELS = [4096] * 5
PAYLOADS = (
    *(invalid_image(name, content, message) for name, (content, message) in INVALID_IMAGES.items()),
    zip_member("../1.png", "leads out"),
    zip_member("a/../../1.png", "leads out"),
    zip_member("/etc/1.png", "leads out"),
    zip_member("..\\1.png", "leads out"),
    zip_member("C:/1.png", "leads out"),
    zip_member("x/" * 11 + "1.png", "more than 10 levels"),
    zip_member("A/1.png", "collides with"),
    zip_member("a/\x1b[2J.png", "no plain path"),
    zip_member("a/bomb.png", "grows more than 200 times", bytes(3 << 20)),
    zip_special_member(stat.S_IFLNK),
    zip_special_member(stat.S_IFIFO),
    zip_special_member(stat.S_IFCHR),
    zip_file(
        "larger than the limit",
        lambda sandbox: write_zip(
            sandbox.inputs / "leaves.zip", {f"a/{n}.png": np.random.default_rng(n).bytes(600_000) for n in range(2)}
        ),
        "would become",
        "--max-gigabytes",
        0.001,
    ),
    zip_file(
        "more members than the limit",
        lambda sandbox: write_zip(sandbox.inputs / "leaves.zip", FOUR_IMAGES),
        "too many members",
        "--max-files",
        3,
    ),
    zip_file("300,000 members in a small file", write_zip_with_many_members, "too many members"),
    zip_file(
        "overlapping members",
        lambda sandbox: patch_directory(write_zip(sandbox.inputs / "leaves.zip", FOUR_IMAGES), 42, 0),
        "can't be unpacked",
    ),
    zip_file(
        "an archive in an archive",
        lambda sandbox: write_zip(sandbox.inputs / "leaves.zip", {"a/b.zip": b"PK"}),
        "holds no images",
    ),
    zip_file("a pipe", lambda sandbox: sandbox.write_link("leaves.zip", "pipe"), "it is no regular file"),
    zip_file("a device", lambda sandbox: sandbox.write_link("leaves.zip", "/dev/zero"), "it is no regular file"),
    *(pickled(name) for name in ARMED),
    checkpoint("import-checkpoint", lambda sandbox, file: ["import-checkpoint", file, "--out", sandbox.out]),
    checkpoint("train.init_from", lambda sandbox, file: train_command(sandbox, file, "train.init_from")),
    checkpoint("model.pretrained", lambda sandbox, file: train_command(sandbox, file, "model.pretrained")),
    changed_run("a model of the hub", SPEC_FILE, model_spec(backbone="hf-hub:unknown/net"), "timm has no model"),
    changed_run("a model in a folder", SPEC_FILE, model_spec(backbone="local-dir:/tmp"), "timm has no model"),
    changed_run(
        "a network too large for the memory",
        SPEC_FILE,
        model_spec(decoder_channels=WIDE_CHANNELS, bridge_channels=4096),
        "different networks",
    ),
    changed_run("deeply nested JSON", SPEC_FILE, lambda content: b"[" * 50_000, "nested more than"),
    changed_run("a model spec of 17 MB", SPEC_FILE, lambda content: content + b" " * (17 << 20), "at most"),
    changed_run("a number as model spec", SPEC_FILE, lambda content: b"5"),
    changed_run("weights that are a pickle", WEIGHTS_FILE, lambda content: pickle.dumps(Calling(os.mkdir, "ran"))),
    changed_run(
        "weights with a header of 2^62 bytes", WEIGHTS_FILE, lambda content: struct.pack("<Q", 2**62) + content[8:]
    ),
    changed_run("weights cut short", WEIGHTS_FILE, lambda content: content[:-9]),
)
