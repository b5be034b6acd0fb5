"""Maps of the deepest level, drawn over the image that they belong to.

H, W image size; h, w size of the map.
"""

import numpy as np
from PIL import Image

# Dark violet to light yellow, even in brightness, so that it prints in grey and colour-blind eyes can read it.
_COLOURS = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)], np.float32)


def stretched(values: np.ndarray) -> np.ndarray:
    """Map values (h, w) from their least to their greatest onto 0..1, or to 0 where all are the same."""
    low, high = float(values.min()), float(values.max())
    scaled: np.ndarray = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return scaled


def relative(values: np.ndarray) -> np.ndarray:
    """Map values (h, w), none below 0, from 0 to their greatest onto 0..1."""
    high = float(values.max())
    scaled: np.ndarray = values / high if high > 0 else np.zeros_like(values)
    return scaled


def heat(image: np.ndarray, values: np.ndarray, *, strength: float = 0.55) -> np.ndarray:
    """Colour an image uint8 (H, W, 3) by a map float (h, w) in 0..1, enlarged to its size: uint8 (H, W, 3).

    The image is grey below the colours, so that they mean the map alone.
    """
    height, width = image.shape[:2]
    enlarged = np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(enlarged, steps, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None]
    return ((1 - strength) * grey + strength * colours).round().astype(np.uint8)
