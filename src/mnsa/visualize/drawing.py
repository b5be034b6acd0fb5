"""Drawings: overlays of masks and heatmaps, panels that compare a prediction with the ground truth, grids of images.

H, W image size; h, w size of the drawing, the panel or the map, in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from mnsa.visualize.labels import draw_label
from mnsa.visualize.palette import CORRECT_COLOR, FALSE_POSITIVE_COLOR, MISSED_COLOR, WRONG_CLASS_COLOR, class_color

# Dark violet to light yellow (matplotlib's "plasma"). Brightness grows evenly, so it can be read in gray, too.
_COLORMAP = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)], np.float32)

_MAX_JPEG_PX = 65_500  # the longest side that a JPEG may have

_STRIP_ROWS = 256  # rows that are drawn at once: float copies of a whole scan would need gigabytes

_MARGIN_PX, _LINE_PX = 8, 17  # of a grid

PANEL_PX = 400  # the longer side

_PANEL_QUALITY = 80  # of a JPEG

_IMAGE_BRIGHTNESS = 0.35  # of the image below the difference


def normalize_min_max(values: np.ndarray) -> np.ndarray:
    """Scale values (h, w) so that the minimum becomes 0 and the maximum 1; equal values become 0."""
    low, high = float(values.min()), float(values.max())
    scaled: np.ndarray = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return scaled


def normalize_by_max(values: np.ndarray) -> np.ndarray:
    """Scale values (h, w), 0 or more, so that the maximum becomes 1 and 0 stays 0."""
    high = float(values.max())
    scaled: np.ndarray = values / high if high > 0 else np.zeros_like(values)
    return scaled


def draw_heatmap(image: np.ndarray, values: np.ndarray, *, strength: float = 0.55) -> np.ndarray:
    """Color an image by a map that is enlarged to the image's size.

    image: uint8 (H, W, 3), RGB; it is drawn in gray, so every color comes from the map. values: float (h, w) in 0..1.
    strength: weight of the map's colors. Returns: uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    enlarged = np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(_COLORMAP))
    colors = np.stack([np.interp(enlarged, steps, _COLORMAP[:, channel]) for channel in range(3)], axis=-1)
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None]
    return ((1 - strength) * gray + strength * colors).round().astype(np.uint8)


def draw_overlay(image: np.ndarray, mask: np.ndarray, *, strength: float = 0.6) -> np.ndarray:
    """Tint each mask class with its color; the background stays unchanged.

    image: uint8 (H, W, 3), RGB. mask: class indices (H, W). strength: 0 is the image, 1 the plain color.
    Returns: uint8 (H, W, 3).
    """
    tinted = image.astype(np.float32)
    for index in np.unique(mask[mask > 0]):
        inside, color = mask == index, np.array(class_color(int(index)), np.float32)
        tinted[inside] = (1 - strength) * tinted[inside] + strength * color
    return tinted.round().astype(np.uint8)


def draw_large_overlay(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """Draw the same overlay as a PIL image, strip by strip, so that a scan needs little memory."""
    height, width = mask.shape
    overlay = Image.new("RGB", (width, height))
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        overlay.paste(Image.fromarray(draw_overlay(image[rows], mask[rows])), (0, top))
    return overlay


def write_overlay(image: np.ndarray, mask: np.ndarray, file: Path | BinaryIO) -> None:
    """Write the overlay as a JPEG, which takes a tenth of the time of a PNG.

    An overlay with a side of more than 65,500 px, the limit of JPEG, is shrunk to it.
    """
    overlay = draw_large_overlay(image, mask)
    overlay.thumbnail((_MAX_JPEG_PX, _MAX_JPEG_PX))
    overlay.save(file, format="JPEG", quality=90, subsampling=0)  # full color resolution: veins are narrow


def draw_mask_outlines(image: Image.Image, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fit an RGB image into `size` (w, h), in pixels, and draw the border of each mask class.

    mask: class indices (H, W), of the image's size. The border is found at the original size and shrunk with the image,
    so a vein of one pixel stays visible. A small image is enlarged first, so its borders stay thin.
    Returns: uint8 (h, w, 3); h and w keep the proportions of the image.
    """
    scale = min(size[0] / image.width, size[1] / image.height)
    fitted = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    if scale > 1:
        mask = np.array(Image.fromarray(mask).resize(fitted, Image.Resampling.NEAREST))
    pixels = np.array(image.resize(fitted, Image.Resampling.LANCZOS))
    for index in np.unique(mask[mask > 0]):
        border = Image.fromarray((_region_border(mask == index) * 255).astype(np.uint8))
        fraction = np.asarray(border.resize(fitted, Image.Resampling.BOX))
        pixels[fraction >= 128 * min(scale, 1)] = class_color(int(index))
    return pixels


def write_image_grid(
    tiles: Sequence[tuple[Sequence[str], np.ndarray]], path: Path, *, columns: int, tile_px: tuple[int, int]
) -> None:
    """Write images with captions as a grid, row by row.

    tiles: (lines of the caption, image uint8 (H, W, 3)). tile_px: (height, width); larger images are shrunk to fit.
    """
    height, width = tile_px
    caption_px = _LINE_PX * max(len(lines) for lines, _ in tiles) + 4
    step_x, step_y = width + _MARGIN_PX, height + caption_px + _MARGIN_PX
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), "white")
    draw = ImageDraw.Draw(grid)
    for index, (lines, pixels) in enumerate(tiles):
        tile = Image.fromarray(pixels)
        tile.thumbnail((width, height))
        x, y = _MARGIN_PX + index % columns * step_x, _MARGIN_PX + index // columns * step_y
        grid.paste(tile, (x + (width - tile.width) // 2, y + height - tile.height))
        for number, line in enumerate(lines):
            draw_label(draw, line, (x + width / 2, y + height + _LINE_PX * (number + 0.5) + 2), width)
    grid.save(path)


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
    Image.fromarray(panel).save(path, "JPEG", quality=_PANEL_QUALITY, optimize=True)


def _region_border(inside: np.ndarray) -> np.ndarray:
    """The pixels of a region, bool (H, W), that share a side with a pixel outside of it."""
    core = inside.copy()
    core[1:] &= inside[:-1]
    core[:-1] &= inside[1:]
    core[:, 1:] &= inside[:, :-1]
    core[:, :-1] &= inside[:, 1:]
    border: np.ndarray = inside & ~core
    return border


def _panel_size(image: np.ndarray) -> tuple[int, int]:
    """The (w, h) of the panels of an image (H, W, 3)."""
    height, width = image.shape[:2]
    scale = PANEL_PX / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    kind = Image.Resampling.NEAREST if size[0] > pixels.shape[1] else Image.Resampling.BOX
    return np.array(Image.fromarray(pixels).resize(size, kind))
