"""Draw a heatmap, such as attention or Grad-CAM, over its image.

H, W image size; h, w size of the map.
"""

import numpy as np
from PIL import Image

# Dark violet to light yellow (matplotlib's "plasma"). Brightness grows evenly, so it can be read in gray, too.
_COLORMAP = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)], np.float32)


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
