"""Panels of one image beside its truth, small enough for a page.

H, W image size; h, w panel size, in pixels.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mnsa.data.check.contact_sheet import outlined
from mnsa.inference.grad_cam import grad_cam
from mnsa.inference.heat import heat, relative, stretched
from mnsa.inference.predictor import Predictor
from mnsa.records import NO_LABEL, Prediction, Sample

PANEL_PX = 400  # the longer side
FOUND, MISSED, INVENTED, CONFUSED = (0, 158, 115), (86, 180, 233), (213, 94, 0), (204, 121, 167)
_QUALITY = 80
_FAINT = 0.35  # of the image below the differences


def mask_panels(sample: Sample, answer: Prediction) -> Mapping[str, np.ndarray]:
    """The image (`photo`), outlines of the true (`truth`) and the predicted mask (`said`), and their `difference`."""
    if sample.mask is None or answer.mask is None:
        return {}
    image, size = _image(sample), _size(sample)
    truth = sample.mask.numpy()
    return {
        "photo": _fitted(np.array(image), size),
        "truth": outlined(image, truth, (PANEL_PX, PANEL_PX)),
        "said": outlined(image, answer.mask, (PANEL_PX, PANEL_PX)),
        "difference": _fitted(difference(np.array(image), truth, answer.mask), size),
    }


def class_panels(predictor: Predictor, sample: Sample, answer: Prediction) -> Mapping[str, np.ndarray]:
    """The image (`photo`), and over it `attention` and Grad-CAM, where there are such.

    grad_cam: of the class that was said. grad_cam_true: of the true one, where that is another.
    """
    image = _fitted(np.array(_image(sample)), _size(sample))
    panels = {"photo": image}
    if answer.attention is not None:
        panels["attention"] = heat(image, stretched(answer.attention))
    if answer.class_probs is not None and predictor.can_explain:
        inputs = predictor.prepare(sample.image)[None].to(next(predictor.network.parameters()).device)
        said = int(answer.class_probs.argmax())
        explained = {"grad_cam": said} | ({} if sample.label in (said, NO_LABEL) else {"grad_cam_true": sample.label})
        for panel, index in explained.items():
            seen = grad_cam(predictor.network, inputs, torch.tensor([index], device=inputs.device))[0]
            panels[panel] = heat(image, relative(seen.cpu().numpy()))
    return panels


def difference(image: np.ndarray, truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Colour by what became of each pixel of truth and answer (H, W), over a faint image uint8 (H, W, 3).

    FOUND: both have the same class; MISSED: only the truth has one; INVENTED: only the answer; CONFUSED: another one.
    """
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32) * _FAINT
    drawn = np.repeat(grey[..., None], 3, axis=-1).round().astype(np.uint8)
    drawn[(truth == said) & (truth > 0)] = FOUND
    drawn[(truth > 0) & (said == 0)] = MISSED
    drawn[(truth == 0) & (said > 0)] = INVENTED
    drawn[(truth > 0) & (said > 0) & (truth != said)] = CONFUSED
    return drawn


def write_panel(panel: np.ndarray, path: Path) -> None:
    """Write one as a JPEG."""
    Image.fromarray(panel).save(path, "JPEG", quality=_QUALITY, optimize=True)


def _image(sample: Sample) -> Image.Image:
    return Image.fromarray(sample.image.permute(1, 2, 0).numpy())


def _size(sample: Sample) -> tuple[int, int]:
    height, width = sample.image.shape[-2:]
    scale = PANEL_PX / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    kind = Image.Resampling.NEAREST if size[0] > pixels.shape[1] else Image.Resampling.BOX
    return np.array(Image.fromarray(pixels).resize(size, kind))
