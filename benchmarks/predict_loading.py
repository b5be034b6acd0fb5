"""Reading photos for prediction: the package's own threads against torch's DataLoader.

Claim: threads (`mnsa.batch.pipeline.prefetch`) read photos at least as fast as DataLoader's worker processes, start
without a delay, and bound the memory by bytes, which scans need.
Command: `python benchmarks/predict_loading.py`
Expect: a table of images per second, median of the repeats, and of the peak memory. Both sides read and predict the
same photos with two workers and the same batches; they take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mnsa.batch.batching import LoadedImage, Shard, iter_blocks, make_reader, predict_batches
from mnsa.batch.pipeline import prefetch_images
from mnsa.config import load_config
from mnsa.inference.predictor import Predictor
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec
from peak_memory import peak_mb, print_peak
from timing import machine_facts

CONFIG = Path(__file__).parent.parent / "configs" / "demo.toml"

WORKERS = 2


class Photos(Dataset[LoadedImage]):
    """Photos that are read and preprocessed in DataLoader's workers."""

    def __init__(self, predictor: Predictor, images: list[Path]) -> None:
        self.read, self.count = make_reader(predictor, images), len(images)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LoadedImage:
        return self.read(index)


def threads(predictor: Predictor, images: list[Path], batch_size: int) -> Iterator[LoadedImage]:
    """Read with the package's own threads."""
    return prefetch_images(predictor, images, range(len(images)), batch_size)


def data_loader(predictor: Predictor, images: list[Path], batch_size: int) -> Iterator[LoadedImage]:
    """Read with DataLoader's processes, two batches ahead as the threads do."""
    loader = DataLoader(
        Photos(predictor, images),
        batch_sampler=list(iter_blocks(len(images), batch_size, Shard())),
        num_workers=WORKERS,
        prefetch_factor=1,
        collate_fn=list,
    )
    return chain.from_iterable(loader)


SIDES: dict[str, Callable[[Predictor, list[Path], int], Iterable[LoadedImage]]] = {
    "threads": threads,
    "DataLoader": data_loader,
}


def main() -> None:
    """Measure both sides and print the table, or run the one side whose memory is measured."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        images = write_photos(Path(scratch), options.count, options.side_px)
        predictor = small_predictor()
        if options.alone:
            predict(SIDES[options.alone], predictor, images, options.batch_size)
            print_peak()
            return
        rates: dict[str, list[float]] = {name: [] for name in SIDES}
        for _ in range(options.repeats):
            for name, side in SIDES.items():
                start = time.perf_counter()
                predict(side, predictor, images, options.batch_size)
                rates[name].append(len(images) / (time.perf_counter() - start))
                print(f"{name}: {rates[name][-1]:.2f} images/s", flush=True)
    print(f"{machine_facts()}\n\n{options.count} photos of {options.side_px} px, batch {options.batch_size}\n")
    print("| reading | images/s, median (lowest-highest) | peak memory of the main process, MB |\n|---|---|---|")
    for name, found in rates.items():
        arguments = [__file__, "--count", str(options.count), "--side-px", str(options.side_px), "--alone", name]
        print(f"| {name} | {np.median(found):.2f} ({min(found):.2f}-{max(found):.2f}) | {peak_mb(arguments):.0f} |")


def predict(
    side: Callable[[Predictor, list[Path], int], Iterable[LoadedImage]],
    predictor: Predictor,
    images: list[Path],
    batch_size: int,
) -> None:
    """Read and predict all images, and drop the predictions."""
    count = sum(len(batch) for batch in predict_batches(predictor, side(predictor, images, batch_size), batch_size))
    assert count == len(images)


def small_predictor() -> Predictor:
    """An untrained network of configs/demo.toml: its speed is that of a trained one."""
    config = load_config(CONFIG)
    model = config.model.model_copy(update={"pretrained": "none"})
    data = config.data.model_copy(update={"size": (128, 128)})  # so small that reading takes most of the time
    network = build_network(model, 12, 1)
    return Predictor(network, ModelSpec(model, data, tuple(f"class {n}" for n in range(12)), ("vein",)))


def write_photos(folder: Path, count: int, side_px: int) -> list[Path]:
    """Write JPEG photos of smooth noise; their size on disk is that of a leaf's photo."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{n:04}.jpg" for n in range(count)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (side_px // 8, side_px // 8, 3), np.uint8))
        coarse.resize((side_px, side_px), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="photos per repeat")
    parser.add_argument("--side-px", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
