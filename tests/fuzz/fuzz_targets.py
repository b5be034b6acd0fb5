"""The fuzzed functions: from bytes to a value or a MnsaError, and never another exception.

Each writes the bytes to a file in a folder of its own and reads it like a command does. It also checks what mnsa
promises about accepted input, such as: a manifest is equal after writing and reading, and no path is outside of the
root. Hypothesis (`test_fuzz_targets.py`) and Atheris (`run_atheris.py`) run the same functions.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

import numpy as np
from PIL import Image

from mnsa.config import dump_config, load_config
from mnsa.data import decode
from mnsa.data.formats.pickled_labels import read_pickled_labels
from mnsa.data.manifest import read_manifest, scan_manifest, write_manifest
from mnsa.data.validation.inspect import inspect_files
from mnsa.errors import MnsaError

Target = Callable[[bytes, Path], object]

DATASET_TOML = 'classes = ["rust", "healthy"]\nmask_classes = ["vein"]\n'

MANIFEST_CSV = "image,mask,label,split\na.png,,rust,train\nb.png,,healthy,val\n"

MAX_PIXELS = 1 << 22  # instead of 400 million, which take minutes to fill for every decompression bomb

MAX_MESSAGE = 20_000  # characters


def fuzz_image(data: bytes, folder: Path) -> object:
    """Read a file as an image, as a mask of one class and of three, and as `mnsa check` does."""
    path = folder / "leaf.png"
    path.write_bytes(data)
    decode.MAX_PIXELS = Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    inspection = inspect_files(folder.resolve(), 3, ("leaf.png", "leaf.png"))
    errors = [finding for finding in inspection.findings if finding.severity == "error"]
    unusable = inspection.image is None or inspection.mask is None
    assert unusable == bool(errors), "a file is usable or has an error"
    with suppress(MnsaError):
        assert decode.read_mask_indices(path, 1).max() <= 1
    pixels = decode.read_pixels(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert inspection.image is not None, "an image that can be read can be inspected"
    return pixels.shape


def fuzz_manifest(data: bytes, folder: Path) -> object:
    """Read manifest.csv next to a valid dataset.toml."""
    return _read_dataset(folder, DATASET_TOML.encode(), data)


def fuzz_dataset(data: bytes, folder: Path) -> object:
    """Read dataset.toml next to a valid manifest.csv."""
    return _read_dataset(folder, data, MANIFEST_CSV.encode())


def fuzz_config(data: bytes, folder: Path) -> object:
    """Read a config file, as `mnsa train` does."""
    path, copy = folder / "config.toml", folder / "copy.toml"
    path.write_bytes(data)
    config = load_config(path)
    copy.write_text(dump_config(config), encoding="utf-8")
    assert load_config(copy) == config, "a config is equal after writing and reading"
    return config


def fuzz_labels(data: bytes, folder: Path) -> object:
    """Read labels.pkl, as `mnsa import mganet` does."""
    path = folder / "labels.pkl"
    path.write_bytes(data)
    labels = read_pickled_labels(path)
    assert all(type(key) in (int, str) and type(label) is int and label > 0 for key, label in labels.items())
    return labels


TARGETS: Mapping[str, Target] = {
    "image": fuzz_image,
    "manifest": fuzz_manifest,
    "dataset": fuzz_dataset,
    "config": fuzz_config,
    "labels": fuzz_labels,
}


def run_target(target: Target, data: bytes, folder: Path) -> str:
    """Run a target. Returns: the error message, or an empty text for accepted input. Raises: any other exception."""
    message = None
    try:
        target(data, folder)
    except MnsaError as error:
        message = str(error)
    assert message is None or 0 < len(message) < MAX_MESSAGE, "an error message does not repeat the file"
    return message or ""


def _read_dataset(folder: Path, dataset_toml: bytes, manifest_csv: bytes) -> object:
    (folder / "dataset.toml").write_bytes(dataset_toml)
    (folder / "manifest.csv").write_bytes(manifest_csv)
    scanned, findings = scan_manifest(folder)
    try:
        manifest = read_manifest(folder)
    except MnsaError:
        assert findings, "what read_manifest refuses is a finding"
        raise
    assert not findings, "read_manifest refuses every finding"
    root = manifest.root
    for row in (*manifest.rows, *scanned.rows):
        for name in filter(None, (row.image, row.mask)):
            path = (root / name).absolute()
            assert root in (path, *path.parents), "paths stay inside the root"
            assert ".." not in Path(name).parts, "paths stay inside the root"
    copy = folder / "copy"
    rmtree(copy, ignore_errors=True)
    write_manifest(manifest, copy)
    assert read_manifest(copy) == manifest, "a manifest is equal after writing and reading"
    return manifest.digest()
