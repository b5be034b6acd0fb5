"""Prediction from end to end against the network alone, and memory against the number of images.

Claim: `mnsa predict`, reading, decoding, masks, overlays and table included, reaches at least 85 % of the network's
own rate, and its memory doesn't grow with the number of images.
Command: `make demo`, then `python benchmarks/predict_scale.py --run demo/run --images demo/leaves/images`
Expect: the section of RESULTS.md: images per second of both as a share (the network: the same batches, ready in memory;
the two take turns), and the peak memory of a process that predicts N images and of one that predicts 4 N.
"""

import argparse
import shutil
import tempfile
from itertools import cycle, islice
from pathlib import Path

import torch

from mnsa.batch.predict_files import find_images, predict_files
from mnsa.data.decode import read_image
from mnsa.inference.predictor import Predictor, load
from peak_memory import peak_mb, print_peak
from timing import MIN_REPEATS, machine_facts, speed_up, take_turns

NETWORK, PREDICT = "network alone", "mnsa predict"


def main() -> None:
    """Measure and print the section, or run one of the processes whose memory is measured."""
    options = _options()
    images = find_images([str(options.images)])
    with tempfile.TemporaryDirectory() as scratch:
        if options.alone:
            predict_folder(
                load(options.run), linked(images, options.alone, Path(scratch)), options.batch_size, Path(scratch)
            )
            print_peak()
            return
        section = report(options, linked(images, options.count, Path(scratch)), Path(scratch))
    print(section)
    if options.out:
        options.out.write_text(section, encoding="utf-8")


def report(options: argparse.Namespace, images: list[Path], scratch: Path) -> str:
    """Measure both claims. Returns: the section."""
    predictor, size = load(options.run), options.batch_size
    batches = ready_batches(predictor, images, size)
    times = take_turns(
        {
            NETWORK: lambda: [predictor(batch) for batch in islice(cycle(batches), len(images) // size)],
            PREDICT: lambda: predict_folder(predictor, images, size, scratch),
        },
        options.repeats,
    )
    share = speed_up(times, NETWORK, PREDICT)
    arguments = [__file__, "--run", str(options.run), "--images", str(options.images), "--batch-size", str(size)]
    peaks = {count: peak_mb([*arguments, "--alone", str(count)]) for count in (options.count, 4 * options.count)}
    found = f"{share.median:.0%} ({share.low:.0%}-{share.high:.0%})"
    shape = "x".join(map(str, batches[0].shape[2:]))
    rows = "\n".join(f"| {count} | {peak:.0f} |" for count, peak in peaks.items())
    return f"""{machine_facts()}

{len(images)} images, network input {shape} px, batch {size}; {options.repeats} repeats; median (minimum-maximum).

`mnsa predict` from end to end, as a share of the network's own rate: {found}

| images | peak memory, MB |
|---|---|
{rows}
"""


def ready_batches(predictor: Predictor, images: list[Path], size: int) -> list[torch.Tensor]:
    """The first eight batches as the network gets them."""
    inputs = [predictor.preprocess(read_image(path)) for path in images[: 8 * size]]
    return [torch.stack(inputs[n : n + size]) for n in range(0, len(inputs), size)]


def predict_folder(predictor: Predictor, images: list[Path], batch_size: int, scratch: Path) -> None:
    """What `mnsa predict` does once the network is loaded."""
    predict_files(predictor, images, scratch / "predictions", batch_size=batch_size)
    shutil.rmtree(scratch / "predictions")


def linked(images: list[Path], count: int, scratch: Path) -> list[Path]:
    """As many images as wanted: links to those there are, in turn."""
    folder = scratch / "images"
    folder.mkdir()
    links = [folder / f"{n:06}{image.suffix}" for n, image in enumerate(islice(cycle(images), count))]
    for link, image in zip(links, cycle(images), strict=False):
        link.symlink_to(image.resolve())
    return links


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a trained run")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=240, help="images per repeat, a multiple of the batch")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS)
    parser.add_argument("--out", type=Path, help="file for the section")
    parser.add_argument("--alone", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
