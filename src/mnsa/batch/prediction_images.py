"""The image files of a prediction: mask, overlay, attention and Grad-CAM; and a sheet with a sample of all images."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.batch.prediction_folder import PredictionFolder
from mnsa.data.decode import open_image, to_upright_rgb
from mnsa.errors import MnsaError
from mnsa.inference.prediction_table import caption
from mnsa.io import atomic_path
from mnsa.structures import Prediction
from mnsa.visualize.heatmap import draw_heatmap, normalize_by_max, normalize_min_max
from mnsa.visualize.image_grid import write_image_grid
from mnsa.visualize.overlay import write_overlay
from mnsa.visualize.palette import write_mask

EXPLANATION_PX = 1024

_QUALITY = 88

_SHEET_TILES, _SHEET_COLUMNS, _TILE_PX = 12, 3, (192, 392)  # each tile: the image, and its overlay beside it

_GAP_PX = 6  # between the two


def write_mask_and_overlay(mask: np.ndarray, pixels: np.ndarray, folder: PredictionFolder, name: str) -> None:
    """Write mask (H, W) and overlay of an image uint8 (H, W, 3); each appears whole or not at all."""
    _write_atomically(folder.image_path("masks", name), lambda path: write_mask(mask, path))
    _write_atomically(folder.image_path("overlays", name), lambda path: write_overlay(pixels, mask, path))


def write_explanation(prediction: Prediction, pixels: np.ndarray, folder: PredictionFolder, name: str) -> None:
    """Draw attention and Grad-CAM of a prediction over its image uint8 (H, W, 3), shrunk to EXPLANATION_PX at most."""
    image = Image.fromarray(pixels)
    image.thumbnail((EXPLANATION_PX, EXPLANATION_PX))  # a map has a cell per 32 px: more pixels would show no more
    shown = {"attention": prediction.attention, "grad_cam": prediction.grad_cam}
    scaled = {"attention": normalize_min_max, "grad_cam": normalize_by_max}
    for kind, values in shown.items():
        if values is not None:
            picture = Image.fromarray(draw_heatmap(np.array(image), scaled[kind](values)))
            _write_atomically(folder.image_path(kind, name), partial(picture.save, format="JPEG", quality=_QUALITY))


def write_overview_sheet(folder: PredictionFolder, rows: Iterable[tuple[dict[str, str], str]]) -> None:
    """Write the sheet from what is on disk; rows: of the images on it, with their pictures' names.

    One picture at a time is held at its full size. An image that is gone is left out.
    """
    tiles = []
    for row, name in rows:
        try:
            tiles.append((caption(row), _sheet_tile(Path(row["image"]), folder.image_path("overlays", name))))
        except MnsaError:
            continue
    if tiles:
        _write_atomically(
            folder.sheet, lambda path: write_image_grid(tiles, path, columns=_SHEET_COLUMNS, tile_px=_TILE_PX)
        )


def sheet_indices(count: int) -> range:
    """Which of `count` images are on the sheet: a dozen at most, spread evenly."""
    return range(0, count, -(-count // _SHEET_TILES))


def _sheet_tile(image: Path, picture: Path) -> np.ndarray:
    """The image, and its overlay beside it where there is one, shrunk to a tile; one at a time is held."""
    if not picture.exists():
        return _read_thumbnail(image, _TILE_PX[1])
    width = (_TILE_PX[1] - _GAP_PX) // 2
    pixels = _read_thumbnail(image, width)
    gap = np.full_like(pixels[:, :1].repeat(_GAP_PX, 1), 255)
    return np.concatenate([pixels, gap, _read_thumbnail(picture, width)], axis=1)


def _read_thumbnail(path: Path, width: int) -> np.ndarray:
    with open_image(path) as image:
        upright = to_upright_rgb(image, path)
        upright.thumbnail((width, _TILE_PX[0]))
        return np.array(upright)


def _write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path, durable=False) as temporary:
        write(temporary)
