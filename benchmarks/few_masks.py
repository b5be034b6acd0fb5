"""Few masks of thin structures: training from the veins of drawn leaves against training from ImageNet weights.

Question: trained on n images, how good are masks of other images, started from ImageNet weights or from `veins`?
Commands, one per table (a second call does only what is missing, and resumes what was interrupted):
  `python benchmarks/few_masks.py tomato --source PATH_TO/tomato_veins --out few_masks --counts 1 2 4`
  `python benchmarks/few_masks.py chase --source PATH_TO/chase_db1 --out few_masks --counts 1 5 20`
Each seed has other training images, the same for both starts; test images never change. No validation masks are left
over when masks are few, so copies of the training images select epoch and postprocessing.
Expect: `few_masks/SET/table.md`: test scores per count and start, means with 95 % intervals over seeds (Student's t),
and the paired difference.
"""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from coffee_table import estimate
from timing import machine_facts
from topology import CONFIGS, DECISIONS, score, train, write_data_set

CONFIG = CONFIGS / "veins.toml"
STEPS = ("stages.masks.epochs=8", "train.precision=bfloat16")  # of 25 steps each
STARTS: Mapping[str, Sequence[str]] = {"ImageNet": (), "veins": ("model.pretrained=veins",)}
COLUMNS = {
    "iou": "IoU",
    "dice_per_image": "Dice",
    "cldice": "clDice",
    "betti0_error": "Betti-0",
    "length_bias": "length bias",
}


class Pair(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path


def main() -> None:
    """Train and score every count, start and seed, write the table."""
    options = _options()
    folder = options.out / options.set
    folder.mkdir(parents=True, exist_ok=True)
    pool, test = SETS[options.set](options.source)
    results: dict[tuple[int, str], list[dict[str, float | None]]] = {}
    for seed in options.seeds:
        for count in options.counts:
            data = folder / f"data-{count}-{seed}"
            if not data.exists():
                make_data(data, choose(pool, count, seed), test)
            for start, overrides in STARTS.items():
                run = folder / f"{start.lower()}-{count}-{seed}"
                train(run, data, CONFIG, (*overrides, *STEPS), seed)
                results.setdefault((count, start), []).append(score(run, DECISIONS[options.decision]))
    report = f"{machine_facts()}\n\n{markdown(results)}\n"
    (folder / "table.md").write_text(report, encoding="utf-8")
    print(report)


def choose(pool: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """Take `count` neighbors of the pool, each seed from another place."""
    first = (seed - 1) * max(1, len(pool) // 3)
    return [pool[(first + step) % len(pool)] for step in range(count)]


def make_data(data: Path, chosen: Sequence[Pair], test: Sequence[Pair]) -> None:
    """Write a data set: the chosen images train and, as copies, validate."""
    rows = [(*pair, "train", "") for pair in chosen] + [(*pair, "test", "") for pair in test]
    write_data_set(data, "vein", rows, copies_for_val=True)


def markdown(results: Mapping[tuple[int, str], list[dict[str, float | None]]]) -> str:
    """Lay out a line per count and start, and the paired difference of the starts."""
    lines = [f"| images | start | {' | '.join(COLUMNS.values())} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for count in dict.fromkeys(count for count, _ in results):
        columns = {start: [_values(results[count, start], name) for name in COLUMNS] for start in STARTS}
        first, second = columns.values()
        columns["veins - ImageNet"] = [
            [b - a for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)
        ]
        for title, values in columns.items():
            cells = [estimate(one).text(3) for one in values]
            lines.append(f"| {count} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(scores: Sequence[Mapping[str, float | None]], name: str) -> list[float]:
    values = [one.get(name) for one in scores]
    return [float("nan") if value is None else value for value in values]


def _tomato(source: Path) -> tuple[list[Pair], list[Pair]]:
    """Four leaves to train on, four for the test."""
    pairs = [Pair(image, source / "masks" / f"{image.stem}.png") for image in sorted((source / "images").iterdir())]
    return pairs[::2], pairs[1::2]


def _chase(source: Path) -> tuple[list[Pair], list[Pair]]:
    """The first 20 images to train on, the last 8 for the test; masks of the first observer."""
    table = list(csv.DictReader((source / "labels.csv").read_text(encoding="utf-8").splitlines()))
    pairs = [Pair(source / row["image"], source / row["mask"]) for row in table]
    return pairs[:20], pairs[20:]


SETS: Mapping[str, Callable[[Path], tuple[list[Pair], list[Pair]]]] = {"tomato": _tomato, "chase": _chase}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--source", type=Path, required=True, help="the published folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for data sets, runs and tables; may exist")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--decision", choices=DECISIONS, default="fitted")
    return parser.parse_args()


if __name__ == "__main__":
    main()
