"""The output folder of `mnsa predict`, which an interrupted run continues.

predictions.json    what the predictions depend on: network, images, options
parts/              until all images are finished: one file per process with one line of JSON per finished image, and
                    where images are added the finished table, earlier.csv
predictions.csv     the table, in the order of the images; it is written last, and parts/ is removed
masks/, overlays/   one image each, in folders where names are the same, and with --explain attention/ and grad_cam/; an
                    image file appears whole, before its image counts as finished
sheet.png           some images with their overlays, file names and classes
"""

import csv
import json
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from mnsa.batch.batching import Shard
from mnsa.data.decode import open_image, to_upright_rgb
from mnsa.data.image_source import ImageSource
from mnsa.errors import MnsaError, RunError
from mnsa.inference.prediction_table import PredictionTable, caption
from mnsa.io import atomic_path, lock, new_folder, parse_json, read_json, write_json
from mnsa.structures import Prediction
from mnsa.visualize.drawing import draw_heatmap, normalize_by_max, normalize_min_max, write_image_grid, write_overlay
from mnsa.visualize.palette import write_mask

EXPLANATION_PX = 1024  # a map has one cell per 32 px, so a larger drawing shows no more
_QUALITY = 88
_SHEET_TILES, _SHEET_COLUMNS, _TILE_PX = 12, 3, (192, 392)  # each tile: the image, and its overlay beside it
_GAP_PX = 6  # between the two
IMAGE_FOLDERS = ("masks", "overlays", "attention", "grad_cam")
Origin = Mapping[str, str | int | list[int]]


class PredictionFolder(NamedTuple):
    """The paths in one output folder."""

    path: Path

    @property
    def table(self) -> Path:
        return self.path / "predictions.csv"

    @property
    def sheet(self) -> Path:
        return self.path / "sheet.png"

    @property
    def parts(self) -> Path:
        return self.path / "parts"

    @property
    def earlier_table(self) -> Path:
        """The finished table, while images are added to it."""
        return self.parts / "earlier.csv"

    @property
    def origin_file(self) -> Path:
        return self.path / "predictions.json"

    def image_path(self, kind: str, name: str) -> Path:
        """The path of an image file; kind: one of IMAGE_FOLDERS."""
        return self.path / kind / f"{name}.{'png' if kind == 'masks' else 'jpg'}"


def open_prediction_folder(path: Path, origin: Origin) -> PredictionFolder:
    """Create the folder, or open the one that was created for the same `origin`; several processes may do so.

    Raises: RunError when `path` is something else, or can't be written.
    """
    folder = PredictionFolder(path)
    try:
        if not path.exists():
            with suppress(FileExistsError), new_folder(path) as unfinished:  # another process may be faster
                write_json(PredictionFolder(unfinished).origin_file, dict(origin))
        if not folder.origin_file.is_file():
            raise RunError(f"{path} exists and was not changed. Choose another --out.")
        _require_same_origin(folder, origin)
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror}. Choose another --out.") from None
    return folder


def is_prediction_folder(path: Path) -> bool:
    """Whether a folder holds predictions, finished or not."""
    return PredictionFolder(path).origin_file.is_file()


class ResultsLog:
    """The finished images of one process, one line per image, written at once.

    Raises: RunError when another process writes the same shard.
    """

    def __init__(self, folder: PredictionFolder, shard: Shard) -> None:
        folder.parts.mkdir(exist_ok=True)
        path = folder.parts / f"{shard.rank}-of-{shard.world_size}.jsonl"
        self._resources = ExitStack()
        try:
            self._resources.enter_context(lock(path.with_suffix(".lock"), timeout_s=0))
        except TimeoutError:
            raise RunError(f"{folder.path}: another process is at work on {path.name}. Wait until it ends.") from None
        self._file = self._resources.enter_context(path.open("ab+"))
        self._write_lock = Lock()
        self._truncate_partial_line()

    def add(self, index: int, row: Mapping[str, str]) -> None:
        """Write the row of a finished image; threads may call this at once."""
        line = json.dumps([index, row]).encode() + b"\n"
        with self._write_lock:
            self._file.write(line)
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _truncate_partial_line(self) -> None:
        """Remove the line that a killed process did not finish."""
        self._file.seek(0)
        complete = sum(len(line) for line in self._file if line.endswith(b"\n"))
        self._file.truncate(complete)
        self._file.seek(0, 2)


def find_finished(folder: PredictionFolder, count: int) -> bytearray:
    """Return 1 for each of `count` images that any process has finished, else 0."""
    finished = bytearray(count)
    for _, index, _ in _scan_lines(folder, count):
        finished[index] = 1
    return finished


def merge_rows(folder: PredictionFolder, count: int) -> Iterator[dict[str, str]]:
    """Yield the rows of all parts in the order of the images; only their positions are held in memory."""
    owners, offsets = array("i", [-1]) * count, array("q", [0]) * count
    files = {part: number for number, part in enumerate(sorted(folder.parts.glob("*.jsonl")))}
    for part, index, offset in _scan_lines(folder, count):
        owners[index], offsets[index] = files[part], offset
    with ExitStack() as stack:
        opened = [stack.enter_context(file.open("rb")) for file in files]
        for owner, offset in zip(owners, offsets, strict=True):
            opened[owner].seek(offset)
            row: dict[str, str] = parse_json(opened[owner].readline())[1]
            yield row


def write_prediction_table(folder: PredictionFolder, table: PredictionTable, rows: Iterable[Mapping[str, str]]) -> None:
    """Write predictions.csv, then remove parts and temporary files; from then on the folder is finished."""
    # The name of a file may be no text in any encoding: `surrogateescape` keeps its bytes.
    with (
        atomic_path(folder.table) as pending,
        pending.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table.write_csv(file, rows)
    shutil.rmtree(folder.parts, ignore_errors=True)
    for kind in IMAGE_FOLDERS:
        for temporary in (folder.path / kind).rglob(".*.tmp.*"):  # of processes that were killed
            temporary.unlink(missing_ok=True)


@contextmanager
def completion_lock(folder: PredictionFolder) -> Iterator[None]:
    """Let one process at a time check whether all images are finished, and write the table."""
    path = folder.path / ".predictions.lock"
    with lock(path):
        yield
    if folder.table.exists():  # a process that still waits for the lock finds the table and does nothing
        with suppress(OSError):
            path.unlink()


def read_prediction_table(table: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a finished table."""
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield from csv.DictReader(file)


def write_mask_and_overlay(
    mask: np.ndarray, pixels: np.ndarray, folder: PredictionFolder, name: str, mask_classes: Sequence[str] = ()
) -> None:
    """Write the mask (H, W) with the names of its classes, and the overlay of an image uint8 (H, W, 3)."""
    for kind in ("masks", "overlays"):
        path = folder.image_path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, durable=False) as temporary:
            if kind == "masks":
                write_mask(mask, temporary, mask_classes)
            else:
                write_overlay(pixels, mask, temporary)


def write_explanation(prediction: Prediction, pixels: np.ndarray, folder: PredictionFolder, name: str) -> None:
    """Draw attention and Grad-CAM over an image uint8 (H, W, 3) that is shrunk to at most EXPLANATION_PX a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((EXPLANATION_PX, EXPLANATION_PX))
    maps = {
        "attention": None if prediction.attention is None else normalize_min_max(prediction.attention),
        "grad_cam": None if prediction.grad_cam is None else normalize_by_max(prediction.grad_cam),
    }
    for kind, values in maps.items():
        if values is not None:
            path = folder.image_path(kind, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path, durable=False) as temporary:
                drawing = Image.fromarray(draw_heatmap(np.array(image), values))
                drawing.save(temporary, format="JPEG", quality=_QUALITY)


def write_overview_sheet(folder: PredictionFolder, rows: Iterable[tuple[dict[str, str], str, ImageSource]]) -> None:
    """Write the sheet from the files on disk, one image at a time; an image that is missing is left out.

    rows: (row of the table, name of its image files, the image) for each image of the sheet.
    """
    tiles = []
    for row, name, image in rows:
        try:
            lines = [f"{name}{Path(row['image']).suffix}", *filter(None, [caption(row)])]
            tiles.append((lines, _draw_tile(image, folder.image_path("overlays", name))))
        except MnsaError:
            continue
    if tiles:
        with atomic_path(folder.sheet, durable=False) as temporary:
            write_image_grid(tiles, temporary, columns=_SHEET_COLUMNS, tile_px=_TILE_PX)


def sheet_indices(count: int) -> range:
    """Choose at most 12 of `count` images for the sheet, spread evenly."""
    return range(0, count, -(-count // _SHEET_TILES))


def _draw_tile(image: ImageSource, overlay: Path) -> np.ndarray:
    """The image, and its overlay beside it if there is one, shrunk to a tile."""
    if not overlay.exists():
        return _read_thumbnail(image, _TILE_PX[1])
    width = (_TILE_PX[1] - _GAP_PX) // 2
    pixels = _read_thumbnail(image, width)
    gap = np.full_like(pixels[:, :1].repeat(_GAP_PX, 1), 255)
    return np.concatenate([pixels, gap, _read_thumbnail(overlay, width)], axis=1)


def _read_thumbnail(path: ImageSource, width: int) -> np.ndarray:
    with open_image(path) as image:
        upright = to_upright_rgb(image, path)
        upright.thumbnail((width, _TILE_PX[0]))
        return np.array(upright)


def _require_same_origin(folder: PredictionFolder, origin: Origin) -> None:
    try:
        known = read_json(folder.origin_file)
        differs = [name for name in {**origin, **known} if known.get(name) != origin.get(name)]
    except (ValueError, AttributeError, TypeError):
        differs = ["damaged predictions.json"]
    if differs:
        raise RunError(
            f"{folder.path} exists and was begun otherwise (other {', '.join(differs)}); it is left as it is. "
            "Choose another --out, or repeat the very command that began it."
        )


def _scan_lines(folder: PredictionFolder, count: int) -> Iterator[tuple[Path, int, int]]:
    """Yield part, image index and offset in the part of every complete line."""
    for part in sorted(folder.parts.glob("*.jsonl")):
        offset = 0
        with part.open("rb") as file:
            for line in file:
                index = _parse_index(line)
                if index is not None and 0 <= index < count:
                    yield part, index, offset
                offset += len(line)


def _parse_index(line: bytes) -> int | None:
    """The image index of a line; None for an incomplete or damaged line, whose image is not finished."""
    try:
        index, row = parse_json(line)
    except (ValueError, TypeError):
        return None
    return index if line.endswith(b"\n") and isinstance(index, int) and isinstance(row, dict) else None
