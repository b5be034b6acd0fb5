"""Draw a heatmap, such as attention or Grad-CAM, over its image.

H, W image size; h, w size of the map.
"""

import numpy as np
from PIL import Image

# Dark violet to light yellow, even in brightness, so that it prints in gray and color-blind eyes can read it.
_COLORMAP = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)], np.float32)


def normalize_min_max(values: np.ndarray) -> np.ndarray:
    """Map values (h, w) from their least to their greatest onto 0..1, or to 0 where all are the same."""
    low, high = float(values.min()), float(values.max())
    scaled: np.ndarray = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return scaled


def normalize_by_max(values: np.ndarray) -> np.ndarray:
    """Map values (h, w), none below 0, from 0 to their greatest onto 0..1."""
    high = float(values.max())
    scaled: np.ndarray = values / high if high > 0 else np.zeros_like(values)
    return scaled


def draw_heatmap(image: np.ndarray, values: np.ndarray, *, strength: float = 0.55) -> np.ndarray:
    """Color an image uint8 (H, W, 3) by a map float (h, w) in 0..1, enlarged to its size: uint8 (H, W, 3).

    The image is gray below the colors, so that they mean the map alone.
    """
    height, width = image.shape[:2]
    enlarged = np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(_COLORMAP))
    colors = np.stack([np.interp(enlarged, steps, _COLORMAP[:, channel]) for channel in range(3)], axis=-1)
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None]
    return ((1 - strength) * gray + strength * colors).round().astype(np.uint8)
