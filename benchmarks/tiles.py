"""Large images: peak memory of the prediction of a scan, and the difference between tiles and the whole image.

Claim: `mnsa predict` predicts a scan of 12,000 x 9,000 px, mask, overlay, table and sheet included, in less than
3 GB, both at the image's own scale (tiles) and resized; and the predictions with and without tiles are similar.
Command: `python benchmarks/tiles.py --run RUN --images IMAGES`; RUN: trained with
data.resize_mode = "crop"; IMAGES: a folder
of square images of one size and of RUN's scale, of which mosaics are laid.
Expect: the section of RESULTS.md. Peaks are those of whole processes, libraries and network included.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mnsa.batch.predict_files import find_images, predict_files
from mnsa.data.decode import read_image
from mnsa.inference.predictor import Predictor, load
from mnsa.model_folder import load_network
from peak_memory import peak_mb, print_peak
from predict_scale import linked
from timing import machine_facts

SCAN = (9_000, 12_000)  # height, width
WHOLE = ((1_920, 2_560), (1_915, 2_531))  # what fits in one piece; one isn't a multiple of 32
WAYS = (  # data.resize_mode, what that means, scans
    ("crop", "tiles", 1),
    ("resize", "the scan shrunk to a training input", 1),
    ("resize", "the same, of three scans one after another", 3),
)


def main() -> None:
    """Measure and print the section, or run one of the processes whose memory is measured."""
    options = _options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if options.alone:
            predict_alone(options, Path(scratch))
            return
        section = report(options, Path(scratch))
    print(section)
    if options.out:
        options.out.write_text(section, encoding="utf-8")


def report(options: argparse.Namespace, scratch: Path) -> str:
    """Measure both claims. Returns: the section."""
    images = [read_image(path) for path in find_images([str(options.images)])]
    agreements = "\n".join(agreement(load(options.run), mosaic(images, size)) for size in WHOLE)
    scan = scratch / "scan.png"
    Image.fromarray(mosaic(images, SCAN).permute(1, 2, 0).numpy()).save(scan, compress_level=1)
    rows = []
    for mode, what, count in WAYS:
        start = time.perf_counter()
        folder = linked([scan], count, Path(tempfile.mkdtemp(dir=scratch)))[0].parent
        command = [__file__, "--run", options.run, "--images", folder, "--threads", options.threads, "--alone", mode]
        peak = peak_mb([str(word) for word in command])
        rows.append(f"| {mode} | {what} | {peak:,.0f} | {time.perf_counter() - start:,.0f} |")
    table = "\n".join(rows)
    return f"""{machine_facts()}

| image, px | pixels with another class | largest difference of a class probability | of attention |
|---|---|---|---|
{agreements}

Scans of {SCAN[1]:,} x {SCAN[0]:,} px, from PNG to table, mask, overlay and sheet:

| data.resize_mode | the network sees | peak memory, MB | seconds |
|---|---|---|---|
{table}
"""


def agreement(predictor: Predictor, image: torch.Tensor) -> str:
    """Make a row: the difference between the predictions from tiles and from the whole image."""
    size = (image.shape[1], image.shape[2])
    if not predictor.needs_tiling(size):
        raise SystemExit(f"{size} isn't cut by {predictor.tiling}: choose a run with data.resize_mode = crop")
    tiled = predictor.predict_image(image)
    whole = predictor.predict_batch(predictor.preprocess(image)[None], [size], [""])[0]
    probs = np.abs(tiled.class_probs - whole.class_probs).max()
    attention = np.abs(tiled.attention - whole.attention).max()
    return f"| {size[1]:,} x {size[0]:,} | {(tiled.mask != whole.mask).mean():.2%} | {probs:.4f} | {attention:.3f} |"


def mosaic(images: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """The images side by side, again and again, until (H, W) are filled: uint8 (3, H, W)."""
    laid = torch.zeros(3, *size, dtype=torch.uint8)
    side, turn = images[0].shape[-1], cycle(images)
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            place = laid[:, top : top + side, left : left + side]
            place.copy_(next(turn)[:, : place.shape[1], : place.shape[2]])
    return laid


def predict_alone(options: argparse.Namespace, scratch: Path) -> None:
    """What `mnsa predict` does with a folder of scans, and its peak memory."""
    network, card = load_network(options.run)
    predictor = Predictor(network, replace(card, data=card.data.model_copy(update={"resize_mode": options.alone})))
    predict_files(predictor, find_images([str(options.images)]), scratch / "predictions")
    print_peak()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run trained with data.resize_mode = crop")
    parser.add_argument("--images", type=Path, required=True, help="folder of square images of one size")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="file for the section")
    parser.add_argument("--alone", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
