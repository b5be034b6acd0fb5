"""Images per second of `mnsa predict`, from JPEG files to masks and overlays, beside the network's own rate.

Claim (a goal, not measured yet): on a GPU at least 85 % of the network's own rate.
Command: `python benchmarks/predict_rate.py --config small.toml --device cuda --out predict.md`
Expect: a row with images per second of both, in turns, and their ratio. The network is untrained; its rate is that of
`Predictor` on a batch that lies on the device already. Files are copies of 50 photos of smooth noise.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch

from mnsa.batch.predict_files import predict_files
from mnsa.inference.predictor import Predictor
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec
from predict_loading import write_photos
from stage_steps import config_named
from timing import Range, machine_facts, pick_device, take_turns

CLASSES = 12
DISTINCT = 50


def main() -> None:
    """Write photos, predict them, print."""
    options = _options()
    device = pick_device(options.device)
    predictor = untrained(options.config, options.size, device)
    with tempfile.TemporaryDirectory() as scratch:
        photos = copies(Path(scratch) / "photos", options.count, options.side_px)
        predict_files(predictor, photos[: options.batch], Path(scratch) / "warm-up", batch_size=options.batch)
        rates, own = [], []
        for turn in range(options.repeats):
            own.append(own_rate(predictor, options.batch, device))
            start = time.perf_counter()
            done = predict_files(predictor, photos, Path(scratch) / f"turn{turn}", batch_size=options.batch).done
            rates.append(done / (time.perf_counter() - start))
            assert done == options.count
            report = markdown(rates, own, options)
            if options.out:
                options.out.write_text(report + "\n", encoding="utf-8")
    print(report)


def untrained(config_file: str, size: int | None, device: torch.device) -> Predictor:
    """Make a predictor of a config's network; its speed is that of a trained one."""
    config = config_named(config_file)
    data = config.data.model_copy(update={"size": (size, size)}) if size else config.data
    network = build_network(config.model, CLASSES, 1).to(device)
    return Predictor(network, ModelSpec(config.model, data, tuple(f"class {n}" for n in range(CLASSES)), ("vein",)))


def copies(folder: Path, count: int, side_px: int) -> list[Path]:
    """Write `count` JPEG files."""
    folder.mkdir()
    paths = write_photos(folder, min(count, DISTINCT), side_px)
    for n in range(DISTINCT, count):
        paths.append(folder / f"{n:04}.jpg")
        shutil.copyfile(paths[n % DISTINCT], paths[n])
    return paths


def own_rate(predictor: Predictor, batch: int, device: torch.device) -> float:
    """Compute the images per second of the network alone."""
    height, width = predictor.preprocess(torch.zeros(3, 64, 64, dtype=torch.uint8)).shape[1:]
    images = torch.randn(batch, 3, height, width, device=device)
    seconds = take_turns({"network": lambda: predictor(images)}, repeats=3)["network"]
    return batch / sorted(seconds)[1]


def markdown(rates: list[float], own: list[float], options: argparse.Namespace) -> str:
    """Lay out the report."""
    shares = sorted(rate / alone for rate, alone in zip(rates, own, strict=True))
    share = Range(shares[len(shares) // 2], shares[0], shares[-1])
    middle = len(rates) // 2
    return (
        f"{machine_facts()}; {options.count} JPEG files of {options.side_px} px, batch {options.batch}, "
        f"{len(rates)} repeats.\n\n"
        "| config | mnsa predict, images/s | the network alone, images/s | share |\n|---|---|---|---|\n"
        f"| {options.config} | {sorted(rates)[middle]:.1f} | {sorted(own)[middle]:.1f} "
        f"| {share.median:.0%} ({share.low:.0%}-{share.high:.0%}) |"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small.toml", help="a file of configs/")
    parser.add_argument("--size", type=int, help="side of the network's input in px; default: the config's")
    parser.add_argument("--count", type=int, default=2000, help="photos per repeat")
    parser.add_argument("--side-px", type=int, default=640, help="of the photos")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
