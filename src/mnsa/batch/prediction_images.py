"""The pictures of answers: a mask and an overlay each, what explains them, and a sheet of a dozen."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.data.decoding import opened, upright_rgb
from mnsa.data.images import write_mask
from mnsa.data.sheet import write_sheet
from mnsa.errors import MnsaError
from mnsa.inference.answers_folder import AnswersFolder
from mnsa.inference.heat import heat, relative, stretched
from mnsa.inference.overlay import write_overlay
from mnsa.inference.rows import caption_of
from mnsa.records import Prediction

EXPLAINED_PX = 1024
_QUALITY = 88
_SHEET_TILES, _SHEET_COLUMNS, _TILE_PX = 12, 3, (192, 392)  # each tile: the image, and its overlay beside it
_GAP_PX = 6  # between the two


def write_pictures(mask: np.ndarray, pixels: np.ndarray, folder: AnswersFolder, name: str) -> None:
    """Write mask (H, W) and overlay of an image uint8 (H, W, 3); each appears whole or not at all."""
    _whole(folder.picture("masks", name), lambda path: write_mask(mask, path))
    _whole(folder.picture("overlays", name), lambda path: write_overlay(pixels, mask, path))


def write_explanation(answer: Prediction, pixels: np.ndarray, folder: AnswersFolder, name: str) -> None:
    """Draw attention and Grad-CAM of an answer over its image uint8 (H, W, 3), shrunk to EXPLAINED_PX at most."""
    image = Image.fromarray(pixels)
    image.thumbnail((EXPLAINED_PX, EXPLAINED_PX))  # a map has a cell per 32 px: more pixels would show no more
    shown = {"attention": answer.attention, "grad_cam": answer.grad_cam}
    scaled = {"attention": stretched, "grad_cam": relative}
    for kind, values in shown.items():
        if values is not None:
            picture = Image.fromarray(heat(np.array(image), scaled[kind](values)))
            _whole(folder.picture(kind, name), partial(picture.save, format="JPEG", quality=_QUALITY))


def write_overview(folder: AnswersFolder, rows: Iterable[tuple[dict[str, str], str]]) -> None:
    """Write the sheet from what is on disk; rows: of the images on it, with their pictures' names.

    One picture at a time is held at its full size. An image that is gone is left out.
    """
    tiles = []
    for row, name in rows:
        try:
            tiles.append((caption_of(row), _tile(Path(row["image"]), folder.picture("overlays", name))))
        except MnsaError:
            continue
    if tiles:
        _whole(folder.sheet, lambda path: write_sheet(tiles, path, columns=_SHEET_COLUMNS, tile_px=_TILE_PX))


def on_sheet(count: int) -> range:
    """Which of `count` images are on the sheet: a dozen at most, spread evenly."""
    return range(0, count, -(-count // _SHEET_TILES))


def _tile(image: Path, picture: Path) -> np.ndarray:
    """The image, and its overlay beside it where there is one, shrunk to a tile; one at a time is held."""
    if not picture.exists():
        return _shrunk(image, _TILE_PX[1])
    width = (_TILE_PX[1] - _GAP_PX) // 2
    pixels = _shrunk(image, width)
    gap = np.full_like(pixels[:, :1].repeat(_GAP_PX, 1), 255)
    return np.concatenate([pixels, gap, _shrunk(picture, width)], axis=1)


def _shrunk(path: Path, width: int) -> np.ndarray:
    with opened(path) as image:
        upright = upright_rgb(image, path)
        upright.thumbnail((width, _TILE_PX[0]))
        return np.array(upright)


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    path.parent.mkdir(exist_ok=True)
    pending = path.with_name(f".{path.stem}.part{path.suffix}")
    write(pending)
    pending.replace(path)
