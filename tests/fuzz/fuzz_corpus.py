"""The first inputs of fuzzing: small valid and invalid files of every kind, created by code."""

import io
import pickle
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_targets import DATASET_TOML, MANIFEST_CSV
from PIL import Image, PngImagePlugin

from mnsa.config import dump_config, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
DEEP = 30_000
SMALL = b"""stages = [
    {name = "a", tasks = ["classification"], trainable = ["backbone"], epochs = 1, batch_size = 2, lr = 0.1},
]
"""


def encode(mode: str, image_format: str, size: tuple[int, int] = (9, 7), **options: Any) -> bytes:
    """An encoded image of noise; mode as in Pillow."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(noise).convert("RGB").convert(mode) if mode != "RGBA" else Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file with a correct checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    """A gray PNG whose header has this size. pixels: before compression; may be too few."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = b"".join(chunks) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def with_exif(orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode("RGB", "JPEG", exif=exif)


def _images() -> dict[str, bytes]:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("comment", "leaf", zip=True)
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (9, 7), "green")]}
    valid = {
        **{f"jpeg-{mode}": encode(mode, "JPEG") for mode in ("L", "RGB", "CMYK")},
        **{f"png-{mode}": encode(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
        **{f"tiff-{mode}": encode(mode, "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "F", "I;16")},
        **{
            f"tiff-{name}": encode("RGB", "TIFF", compression=name)
            for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        },
        **{f"webp-{mode}": encode(mode, "WEBP", lossless=mode == "RGBA") for mode in ("RGB", "RGBA")},
        **{f"bmp-{mode}": encode(mode, "BMP") for mode in ("1", "L", "P", "RGB")},
        **{f"animated-{name}": encode("RGB", name, **frames) for name in ("PNG", "TIFF", "WEBP")},
        **{f"orientation-{n}": with_exif(n) for n in (3, 6, 9)},
        "mask": encode("1", "PNG", pnginfo=text),
        "trns": encode("P", "PNG", transparency=3),
        "mpo": encode("RGB", "MPO", **frames),
    }
    invalid = {
        "bomb": png(2**31 - 1, 2**31 - 1),
        "zero-width": png(0, 5),
        "bomb-text": png(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21), 9)), pixels=bytes(20)),
        "too-few-pixels": png(64, 64, pixels=bytes(10)),
        "half": valid["jpeg-RGB"][:200],
        "gif": b"GIF89a\x01\0\x01\0\0\0\0;",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n",
        "pcx": b"\x0a\x05\x01\x08" + bytes(124),
        "empty": b"",
        "text": b"leaf",
    }
    return {**valid, **invalid}


def _manifests() -> dict[str, bytes]:
    row = "image,mask,label,split,group,px_per_mm,note\n"
    texts = {
        "valid": MANIFEST_CSV,
        "all columns": row + 'a.png,m/a.png,rust,train,p1,11.8,"a, ""b"""\nb.png,,,,,,\n',
        "byte order mark": "\ufeff" + MANIFEST_CSV,
        "windows": MANIFEST_CSV.replace("\n", "\r\n"),
        "returns": MANIFEST_CSV.replace("\n", "\r"),
        "quoted newline": 'image,note\na.png,"1\n2\r3"\n',
        "out": "image\n../a.png\n",
        "absolute": "image\n/etc/passwd\n",
        "twice": "image\na.png\n./a.png\n",
        "group": "image,split,group\na.png,train,p\nb.png,test,p\n",
        "scale": "image,px_per_mm\na.png,1e999\nb.png,-1\nc.png,0x10\nd.png,1_0\n",
        "open quote": 'image\n"a.png\n',
        "nul": "image\na\0.png\n",
        "wide": ",".join(f"c{n}" for n in range(500)) + ",image\n" + ",".join("x" * 501) + "\n",
        "long cell": "image,note\na.png," + "x" * 140_000 + "\n",
        "header alone": "image\n",
        "empty": "",
    }
    return {name: text.encode() for name, text in texts.items()} | {
        "latin": b"image\n\xe4.png\n",
        "utf-16": "image\na\n".encode("utf-16"),
    }


def _datasets() -> dict[str, bytes]:
    texts = {
        "valid": DATASET_TOML,
        "everything": 'name = "x"\nroot = "p"\nclasses = ["rust", "healthy", "\\u00e4"]\nmask_classes = ["a", "b"]\n',
        "out": DATASET_TOML + 'root = "/etc"\n',
        "nul": DATASET_TOML + 'root = "a\\u0000b"\n',
        "long root": f'{DATASET_TOML}root = "{"x/" * 3000}"\n',
        "long level": f'{DATASET_TOML}root = "{"x" * 300}"\n',
        "wrong type": DATASET_TOML + "root = 5\n",
        "odd names": 'classes = ["", "\\n", "rust", "healthy"]\n',
        "numbers": "classes = [1, 2]\n",
        "tables": "[classes]\nrust = 1\n",
        "dates": "classes = [1979-05-27T07:32:00Z, 07:32:00]\n",
        "deep": f"classes = {'[' * DEEP}{']' * DEEP}\n",
        "deep keys": "a" + ".a" * DEEP + " = 1\n",
        "digits": f"name = {'9' * 5000}\n",
        "empty": "",
    }
    return {name: text.encode() for name, text in texts.items()} | {"not UTF-8": b"\xff\xfe\0"}


def _configs() -> dict[str, bytes]:
    whole = {name: dump_config(load_config(CONFIGS / f"{name}.toml")).encode() for name in ("demo", "paper", "small")}
    return whole | {
        "minimal": SMALL,
        "preset": SMALL + b'[model]\npreset = "paper"\n[search]\n',
        "own base": b'base = "config.toml"\n' + SMALL,
        "no base": b'base = "gone.toml"\n' + SMALL,
        "nul base": b'base = "a\\u0000b"\n' + SMALL,
        "folder base": b'base = "."\n' + SMALL,
        "long base": b'base = "' + b"x" * 5000 + b'"\n' + SMALL,
        "unknown": SMALL + b"[train]\nsed = 1\n[nothing]\na = 1\n",
        "wrong types": b"data = 1\nmodel = [1]\nstages = 5\n[train]\nseed = nan\n",
        "stage of text": b'stages = ["a", 1]\n',
        "infinite": SMALL.replace(b"0.1", b"inf"),
        "deep": b"model = " + b"[" * DEEP + b"]" * DEEP + b"\n" + SMALL,
        "deep tables": SMALL + b"[model.a" + b".a" * DEEP + b"]\n",
        "deep inline": b"model = " + b"{a=" * DEEP + b"1" + b"}" * DEEP,
        "digits": SMALL + b"[train]\nseed = " + b"9" * 5000 + b"\n",
        "wide number": SMALL + b"[train]\nseed = 99999999999999999999999999\n",
        "empty": b"",
        "not UTF-8": b"\xff\xfe\0",
    }


def _labels() -> dict[str, bytes]:
    numbers = {np.int64(n): np.int32(n % 5 + 1) for n in range(4)}
    names = {"a.jpg": 1, "\u00e4.jpg": np.uint8(3)}
    valid = {
        f"{kind}-{n}": pickle.dumps(table, n)
        for n in range(6)
        for kind, table in (("numbers", numbers), ("names", names))
    }
    return valid | {
        "global": b"cos\nsystem\n(S'true'\ntR.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        "inst": b"(S'true'\nios\nsystem\n.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Psomewhere\n.",
        "list": pickle.dumps([1, 2]),
        "marks": b"(" * 999 + b".",
        "memo": b"}r\xff\xff\xff\x7f.",
        "itself": b"}q\x00K\x01h\x00s.",
        "digits": b"I" + b"9" * 5000 + b"\n.",
        "empty": b"",
    }


CORPUS: Mapping[str, Mapping[str, bytes]] = {
    "image": _images(),
    "manifest": _manifests(),
    "dataset": _datasets(),
    "config": _configs(),
    "labels": _labels(),
}
