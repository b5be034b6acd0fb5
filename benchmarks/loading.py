"""Loading: images per second through decoding and augmentation at 448 px, and its memory.

Claim: with two loader processes mnsa reads, decodes and augments from disk without keeping the data set in memory, at a
rate that this command compares with the upstream code (`upstream_loading.py`), which keeps every image in memory;
mnsa's memory doesn't grow with the number of images.
Command: `python benchmarks/loading.py --out loading.md`
Expect: the section of RESULTS.md: a rate per method and number of loader processes, relative to the upstream code with
as many; mnsa without and with its cache of decoded images, filled; peak memory for N and 4 N.
"""

import argparse
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from torch.utils.data import DataLoader

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.cache import DecodedCache
from mnsa.data.dataset import LeafDataModule
from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.data.synthetic import synthesize
from peak_memory import peak_mb, print_peak
from timing import MIN_REPEATS, machine_facts, speed_up, take_turns
from upstream_loading import HeldImages

SIZE, BATCH, DRAWN_PX = 448, 8, 640
WORKERS = (0, 1, 2)


def main() -> None:
    """Measure and print the section, or run one of the processes whose memory is measured."""
    options = _options()
    if options.alone:
        way, count = options.alone
        load_once(way, repeated(read_manifest(options.data), int(count)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or Path(scratch) / "leaves"
        if not options.data:
            synthesize(data, cultivars=4, per_cultivar=options.count // 4, size_px=DRAWN_PX, seed=1, workers=2)
        section = report(data, Path(scratch), options.count, options.repeats)
    print(section)
    if options.out:
        options.out.write_text(section, encoding="utf-8")


def report(data: Path, scratch: Path, count: int, repeats: int) -> str:
    """Measure rates and memory. Returns: the section."""
    manifest = repeated(read_manifest(data), count)
    cache = DecodedCache(scratch / "cache", 10**11)
    lines = []
    for workers in WORKERS:
        start = time.perf_counter()
        held = upstream(manifest, workers)
        filled = time.perf_counter() - start
        ways = {"upstream": held, "mnsa": ours(manifest, workers), "mnsa, cache": ours(manifest, workers, cache)}
        times = take_turns({name: lambda loader=loader: list_of(loader) for name, loader in ways.items()}, repeats)
        ratios = [str(speed_up(times, "upstream", name)) for name in ("mnsa", "mnsa, cache")]
        epoch = sorted(times["mnsa"])[repeats // 2]
        lines.append(f"| {workers} | {' | '.join(ratios)} | {filled / epoch:.1f} |")
    script = [__file__, "--data", str(data), "--alone"]
    peaks = [
        f"| {way} | {peak_mb([*script, way, str(count)]):.0f} | {peak_mb([*script, way, str(4 * count)]):.0f} |"
        for way in ("upstream", "mnsa")
    ]
    return f"""{machine_facts()}

{count} images, crop {SIZE} px, batch {BATCH}; {repeats} repeats; median (minimum-maximum)
of the upstream way's time / ours, an epoch each; last column: filling the memory first, in epochs of mnsa.

| loader processes | mnsa | mnsa, decoded cache | filling |
|---|---|---|---|
{chr(10).join(lines)}

| peak memory, MB | {count} images | {4 * count} images |
|---|---|---|
{chr(10).join(peaks)}
"""


def ours(manifest: Manifest, workers: int, cache: DecodedCache | None = None) -> DataLoader:
    """The training loader of mnsa."""
    data, augment = DataConfig(size=(SIZE, SIZE), resize_mode="crop"), AugmentConfig()
    return LeafDataModule(
        manifest, data, augment, mean=(0.5,) * 3, std=(0.25,) * 3,
        batch_size=BATCH, workers=workers, seed=1, cache=cache,
    ).train_dataloader()  # fmt: skip


def upstream(manifest: Manifest, workers: int) -> DataLoader:
    """Make the upstream loader, with all images in memory."""
    rows = [(manifest.image_path(r), manifest.mask_path(r), 0) for r in manifest.rows if r.split == "train"]
    persistent = workers > 0
    return DataLoader(HeldImages(rows, SIZE), BATCH, shuffle=True, drop_last=True, num_workers=workers,
                      persistent_workers=persistent)  # fmt: skip


def list_of(loader: DataLoader) -> None:
    """Take an epoch's batches, one after the other."""
    for _ in loader:
        pass


def load_once(way: str, manifest: Manifest) -> None:
    """One epoch in this process, then its peak memory."""
    list_of(upstream(manifest, 0) if way == "upstream" else ours(manifest, 0))
    print_peak()


def repeated(manifest: Manifest, count: int) -> Manifest:
    """As many training rows as wanted, of the rows with masks there are, in turn; one row for validation."""
    rows = [row for row in manifest.rows if row.mask]
    train = tuple(Row(row.image, row.mask, row.label, "train") for row in islice(cycle(rows), count))
    last = Row(rows[-1].image, rows[-1].mask, rows[-1].label, "val")
    return Manifest(manifest.name, manifest.root, manifest.classes, manifest.mask_classes, (*train, last))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="data set with masks; synthetic leaves if not given")
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS)
    parser.add_argument("--out", type=Path, help="file for the section")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
