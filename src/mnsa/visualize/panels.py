"""Panels that compare a prediction with the ground truth, small enough for a web page.

H, W image size; h, w panel size, in pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mnsa.data.validation.contact_sheet import draw_mask_outlines
from mnsa.inference.grad_cam import grad_cam
from mnsa.inference.predictor import Predictor
from mnsa.structures import NO_LABEL, Prediction, Sample
from mnsa.visualize.heatmap import draw_heatmap, normalize_by_max, normalize_min_max

PANEL_PX = 400  # the longer side

CORRECT_COLOR, MISSED_COLOR, FALSE_POSITIVE_COLOR, WRONG_CLASS_COLOR = (
    (0, 158, 115),
    (86, 180, 233),
    (213, 94, 0),
    (204, 121, 167),
)

_QUALITY = 80

_IMAGE_BRIGHTNESS = 0.35  # of the image below the differences


def mask_panels(sample: Sample, prediction: Prediction) -> Mapping[str, np.ndarray]:
    """The image (`photo`), outlines of the true (`truth`) and the predicted mask (`predicted`), and their `difference`."""
    if sample.mask is None or prediction.mask is None:
        return {}
    image, size = _to_pil(sample), _panel_size(sample)
    truth = sample.mask.numpy()
    return {
        "photo": _resize(np.array(image), size),
        "truth": draw_mask_outlines(image, truth, (PANEL_PX, PANEL_PX)),
        "predicted": draw_mask_outlines(image, prediction.mask, (PANEL_PX, PANEL_PX)),
        "difference": _resize(draw_difference(np.array(image), truth, prediction.mask), size),
    }


def class_panels(predictor: Predictor, sample: Sample, prediction: Prediction) -> Mapping[str, np.ndarray]:
    """The image (`photo`), and over it `attention` and Grad-CAM, where there are such.

    grad_cam: of the class that was predicted. grad_cam_true: of the true one, where that is another.
    """
    image = _resize(np.array(_to_pil(sample)), _panel_size(sample))
    panels = {"photo": image}
    if prediction.attention is not None:
        panels["attention"] = draw_heatmap(image, normalize_min_max(prediction.attention))
    if prediction.class_probs is not None and predictor.can_explain:
        inputs = predictor.preprocess(sample.image)[None].to(next(predictor.network.parameters()).device)
        predicted = int(prediction.class_probs.argmax())
        explained = {"grad_cam": predicted} | (
            {} if sample.label in (predicted, NO_LABEL) else {"grad_cam_true": sample.label}
        )
        for panel, index in explained.items():
            seen = grad_cam(predictor.network, inputs, torch.tensor([index], device=inputs.device))[0]
            panels[panel] = draw_heatmap(image, normalize_by_max(seen.cpu().numpy()))
    return panels


def draw_difference(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Color by what became of each pixel of truth and prediction (H, W), over a faint image uint8 (H, W, 3).

    CORRECT_COLOR: both have the same class; MISSED_COLOR: only the truth has one;
    FALSE_POSITIVE_COLOR: only the prediction has one; WRONG_CLASS_COLOR: another one.
    """
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float32) * _IMAGE_BRIGHTNESS
    drawn = np.repeat(gray[..., None], 3, axis=-1).round().astype(np.uint8)
    drawn[(truth == predicted) & (truth > 0)] = CORRECT_COLOR
    drawn[(truth > 0) & (predicted == 0)] = MISSED_COLOR
    drawn[(truth == 0) & (predicted > 0)] = FALSE_POSITIVE_COLOR
    drawn[(truth > 0) & (predicted > 0) & (truth != predicted)] = WRONG_CLASS_COLOR
    return drawn


def write_panel(panel: np.ndarray, path: Path) -> None:
    """Write one as a JPEG."""
    Image.fromarray(panel).save(path, "JPEG", quality=_QUALITY, optimize=True)


def _to_pil(sample: Sample) -> Image.Image:
    return Image.fromarray(sample.image.permute(1, 2, 0).numpy())


def _panel_size(sample: Sample) -> tuple[int, int]:
    height, width = sample.image.shape[-2:]
    scale = PANEL_PX / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    kind = Image.Resampling.NEAREST if size[0] > pixels.shape[1] else Image.Resampling.BOX
    return np.array(Image.fromarray(pixels).resize(size, kind))
