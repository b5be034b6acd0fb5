"""Small drawings: panels that compare a prediction with the ground truth, and a grid of images with captions.

H, W image size; h, w panel size, in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnsa.visualize.drawing import draw_heatmap, draw_mask_outlines, normalize_by_max, normalize_min_max
from mnsa.visualize.palette import CORRECT_COLOR, FALSE_POSITIVE_COLOR, MISSED_COLOR, WRONG_CLASS_COLOR

_MARGIN_PX, _CAPTION_PX = 8, 20


def write_image_grid(
    tiles: Sequence[tuple[str, np.ndarray]], path: Path, *, columns: int, tile_px: tuple[int, int]
) -> None:
    """Write images with captions as a grid, row by row.

    tiles: (caption, image uint8 (H, W, 3)). tile_px: (height, width); larger images are shrunk to fit.
    """
    height, width = tile_px
    step_x, step_y = width + _MARGIN_PX, height + _CAPTION_PX + _MARGIN_PX
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(size=13)
    for index, (caption, pixels) in enumerate(tiles):
        tile = Image.fromarray(pixels)
        tile.thumbnail((width, height))
        x, y = _MARGIN_PX + index % columns * step_x, _MARGIN_PX + index // columns * step_y
        grid.paste(tile, (x + (width - tile.width) // 2, y + height - tile.height))
        draw.text((x + width / 2, y + height + _CAPTION_PX / 2), caption, "black", font, anchor="mm")
    grid.save(path)


PANEL_PX = 400  # the longer side


_QUALITY = 80


_IMAGE_BRIGHTNESS = 0.35  # of the image below the difference


def mask_panels(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Draw the image (`photo`), the outlines of both masks (`truth`, `predicted`) and their `difference`.

    image: uint8 (H, W, 3), RGB. truth, predicted: class indices uint8 (H, W).
    Returns: panels uint8 (h, w, 3) by name; the longer side has PANEL_PX.
    """
    size, pil_image = _panel_size(image), Image.fromarray(image)
    return {
        "photo": _resize(image, size),
        "truth": draw_mask_outlines(pil_image, truth, (PANEL_PX, PANEL_PX)),
        "predicted": draw_mask_outlines(pil_image, predicted, (PANEL_PX, PANEL_PX)),
        "difference": _resize(draw_difference(image, truth, predicted), size),
    }


def class_panels(
    image: np.ndarray,
    *,
    attention: np.ndarray | None = None,
    grad_cam: np.ndarray | None = None,
    grad_cam_true: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Draw the image (`photo`) and each map that is given over it.

    image: uint8 (H, W, 3), RGB. attention: float map of any size. grad_cam, grad_cam_true: Grad-CAM of the predicted
    and of the true class, float maps, 0 or more.
    Returns: panels uint8 (h, w, 3) by the arguments' names; the longer side has PANEL_PX.
    """
    photo = _resize(image, _panel_size(image))
    maps = {
        "attention": None if attention is None else normalize_min_max(attention),
        "grad_cam": None if grad_cam is None else normalize_by_max(grad_cam),
        "grad_cam_true": None if grad_cam_true is None else normalize_by_max(grad_cam_true),
    }
    drawn = {name: draw_heatmap(photo, values) for name, values in maps.items() if values is not None}
    return {"photo": photo, **drawn}


def draw_difference(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Color each pixel by comparing two masks (H, W), over a dark image uint8 (H, W, 3).

    CORRECT_COLOR: both masks have the same class. MISSED_COLOR: only the truth has a class.
    FALSE_POSITIVE_COLOR: only the prediction has a class. WRONG_CLASS_COLOR: the classes differ.
    """
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float32) * _IMAGE_BRIGHTNESS
    drawn = np.repeat(gray[..., None], 3, axis=-1).round().astype(np.uint8)
    drawn[(truth == predicted) & (truth > 0)] = CORRECT_COLOR
    drawn[(truth > 0) & (predicted == 0)] = MISSED_COLOR
    drawn[(truth == 0) & (predicted > 0)] = FALSE_POSITIVE_COLOR
    drawn[(truth > 0) & (predicted > 0) & (truth != predicted)] = WRONG_CLASS_COLOR
    return drawn


def write_panel(panel: np.ndarray, path: Path) -> None:
    """Write a panel uint8 (h, w, 3) as a JPEG."""
    Image.fromarray(panel).save(path, "JPEG", quality=_QUALITY, optimize=True)


def _panel_size(image: np.ndarray) -> tuple[int, int]:
    """The (w, h) of the panels of an image (H, W, 3)."""
    height, width = image.shape[:2]
    scale = PANEL_PX / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    kind = Image.Resampling.NEAREST if size[0] > pixels.shape[1] else Image.Resampling.BOX
    return np.array(Image.fromarray(pixels).resize(size, kind))
