"""A photo of a camera through the page of `mnsa serve`, with and without shrinking it for the prediction.

Claim: a photo of 20 megapixels is answered in less than 10 seconds on two cores, traits included.
Command: `python benchmarks/serve_photo.py --photo PHOTO` (it is enlarged to 5472 x 3648 px, with noise)
Expect: the section of RESULTS.md: seconds of processor time of one thread, and the fraction of the image that is vein.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mnsa.inference.predictor import load
from mnsa.serving.schemas import OutputKind, PredictQuery
from mnsa.serving.service import PAGE_MAX_SIDE_PX, PredictionService
from mnsa.serving.upload import RequestLimits, Upload
from mnsa.traits.measurer import find_roles_or_none
from mnsa.weights import VEINS

SIZE = (5472, 3648)  # 20 megapixels


def main() -> None:
    """Print a row for the whole photo and one for the page's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path(VEINS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = load(options.run)
    roles = find_roles_or_none(predictor.mask_classes)
    service = PredictionService(predictor, name="benchmark", roles=roles, limits=RequestLimits())
    upload = Upload("photo.jpg", camera_photo(options.photo))
    print("| longer side, px | without traits, s | with traits, s | vein |\n|---|---|---|---|")
    for side in (PAGE_MAX_SIDE_PX, None):
        seconds, fraction = [], 0.0
        for left_out in ({OutputKind.traits, OutputKind.row}, set()):
            query = PredictQuery(include=sorted(set(OutputKind) - left_out), max_side_px=side)
            start = time.process_time()
            result = service._result(upload, query)
            seconds.append(time.process_time() - start)
            fraction = result.mask.areas[-1].fraction if result.mask else 0.0
        print(f"| {side or SIZE[0]} | {seconds[0]:.1f} | {seconds[1]:.1f} | {fraction:.1%} |")


def camera_photo(path: Path) -> bytes:
    """The photo as a JPEG of SIZE, with noise like a sensor's."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), np.float32)
    noisy = pixels + np.random.default_rng(0).normal(0, 4, (*pixels.shape[:2], 1))
    data = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


if __name__ == "__main__":
    main()
