"""The image files of a prediction (mask, overlay, attention, Grad-CAM), and an overview sheet of some predictions."""

from collections.abc import Iterable
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

EXPLANATION_PX = 1024  # a map has one cell per 32 px, so a larger drawing shows no more

_QUALITY = 88

_SHEET_TILES, _SHEET_COLUMNS, _TILE_PX = 12, 3, (192, 392)  # each tile: the image, and its overlay beside it

_GAP_PX = 6  # between the two


def write_mask_and_overlay(mask: np.ndarray, pixels: np.ndarray, folder: PredictionFolder, name: str) -> None:
    """Write the mask (H, W) and the overlay of an image uint8 (H, W, 3)."""
    for kind in ("masks", "overlays"):
        path = folder.image_path(kind, name)
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path, durable=False) as temporary:
            if kind == "masks":
                write_mask(mask, temporary)
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
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path, durable=False) as temporary:
                drawing = Image.fromarray(draw_heatmap(np.array(image), values))
                drawing.save(temporary, format="JPEG", quality=_QUALITY)


def write_overview_sheet(folder: PredictionFolder, rows: Iterable[tuple[dict[str, str], str]]) -> None:
    """Write the sheet from the files on disk, one image at a time; an image that is missing is left out.

    rows: (row of the table, name of its image files) for each image of the sheet.
    """
    tiles = []
    for row, name in rows:
        try:
            tiles.append((caption(row), _draw_tile(Path(row["image"]), folder.image_path("overlays", name))))
        except MnsaError:
            continue
    if tiles:
        with atomic_path(folder.sheet, durable=False) as temporary:
            write_image_grid(tiles, temporary, columns=_SHEET_COLUMNS, tile_px=_TILE_PX)


def sheet_indices(count: int) -> range:
    """Choose at most 12 of `count` images for the sheet, spread evenly."""
    return range(0, count, -(-count // _SHEET_TILES))


def _draw_tile(image: Path, overlay: Path) -> np.ndarray:
    """The image, and its overlay beside it if there is one, shrunk to a tile."""
    if not overlay.exists():
        return _read_thumbnail(image, _TILE_PX[1])
    width = (_TILE_PX[1] - _GAP_PX) // 2
    pixels = _read_thumbnail(image, width)
    gap = np.full_like(pixels[:, :1].repeat(_GAP_PX, 1), 255)
    return np.concatenate([pixels, gap, _read_thumbnail(overlay, width)], axis=1)


def _read_thumbnail(path: Path, width: int) -> np.ndarray:
    with open_image(path) as image:
        upright = to_upright_rgb(image, path)
        upright.thumbnail((width, _TILE_PX[0]))
        return np.array(upright)
