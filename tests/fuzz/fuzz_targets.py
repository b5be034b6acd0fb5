"""What is fuzzed: five functions from bytes to a value, or to a MnsaError, and to nothing else.

Each puts the bytes where a stranger's file would lie, in a folder of its own, and reads it as a command would. What is
accepted must keep its promises too: a manifest comes back from disk as it was, no path leaves its root, and so on.
Hypothesis (`test_fuzz_targets.py`) and Atheris (`run_atheris.py`) run the same functions.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import rmtree

import numpy as np

from mnsa.config import dump_config, load_config
from mnsa.data import decode
from mnsa.data.formats.pickled_labels import read_pickled_labels
from mnsa.data.manifest import read_manifest, scan_manifest, write_manifest
from mnsa.data.validation.inspect import inspect_files
from mnsa.errors import MnsaError

Target = Callable[[bytes, Path], object]
DATASET_TOML = 'classes = ["rust", "healthy"]\nmask_classes = ["vein"]\n'
MANIFEST_CSV = "image,mask,label,split\na.png,,rust,train\nb.png,,healthy,val\n"
FEW_PIXELS = 1 << 22  # in place of 400 million, which one bomb after the other would take minutes to fill


def image(data: bytes, folder: Path) -> object:
    """The image reader: as an image, as a mask of one class and of three, and as `mnsa check` looks at it."""
    path = folder / "leaf.png"
    path.write_bytes(data)
    decode.MAX_PIXELS = decode.Image.MAX_IMAGE_PIXELS = FEW_PIXELS
    seen = inspect_files(folder.resolve(), 3, ("leaf.png", "leaf.png"))
    errors = [finding for finding in seen.findings if finding.severity == "error"]
    assert (seen.image is None or seen.mask is None) == bool(errors), "a file is used, or named as faulty"
    try:
        with decode.open_image(path) as opened:
            raw = decode.read_mask_values(opened, path)
        assert decode.to_class_indices(raw, 1, path).max() <= 1
    except MnsaError:
        pass
    pixels = decode.read_pixels(path)
    assert pixels.dtype == np.uint8, "what training gets"
    assert pixels.shape[2] == 3, "what training gets"
    assert seen.image is not None, "what can be read can be judged"
    return pixels.shape


def manifest(data: bytes, folder: Path) -> object:
    """manifest.csv beside an honest dataset.toml."""
    return _data_set(folder, DATASET_TOML.encode(), data)


def dataset(data: bytes, folder: Path) -> object:
    """dataset.toml beside an honest manifest.csv."""
    return _data_set(folder, data, MANIFEST_CSV.encode())


def _data_set(folder: Path, names: bytes, rows: bytes) -> object:
    (folder / "dataset.toml").write_bytes(names)
    (folder / "manifest.csv").write_bytes(rows)
    known, findings = scan_manifest(folder)
    try:
        read = read_manifest(folder)
    except MnsaError:
        assert findings, "what is refused is listed"
        raise
    assert not findings, "what is listed is refused"
    root = read.root
    for row in (*read.rows, *known.rows):
        for name in filter(None, (row.image, row.mask)):
            assert root in ((root / name).absolute(), *(root / name).absolute().parents), "inside by its wording"
            assert ".." not in Path(name).parts, "inside by its wording"
    copy = folder / "copy"
    rmtree(copy, ignore_errors=True)
    write_manifest(read, copy)
    assert read_manifest(copy) == read, "a manifest survives the way to disk and back"
    return read.digest()


def config(data: bytes, folder: Path) -> object:
    """A config file, as `mnsa train` reads it."""
    path, again = folder / "config.toml", folder / "again.toml"
    path.write_bytes(data)
    read = load_config(path)
    again.write_text(dump_config(read), encoding="utf-8")
    assert load_config(again) == read, "a config survives the way to disk and back"
    return read


def labels(data: bytes, folder: Path) -> object:
    """labels.pkl, as `mnsa import mganet` reads it."""
    path = folder / "labels.pkl"
    path.write_bytes(data)
    table = read_pickled_labels(path)
    assert all(type(key) in (int, str) and type(label) is int and label > 0 for key, label in table.items())
    return table


TARGETS: Mapping[str, Target] = {
    "image": image,
    "manifest": manifest,
    "dataset": dataset,
    "config": config,
    "labels": labels,
}


def survives(target: Target, data: bytes, folder: Path) -> str:
    """Run a target. Returns the refusal, or empty text for what is accepted. Raises: whatever must not happen."""
    refusal = None
    try:
        target(data, folder)
    except MnsaError as error:
        refusal = str(error)
    assert refusal is None or 0 < len(refusal) < 20_000, "a refusal is a paragraph, not the file again"
    return refusal or ""
