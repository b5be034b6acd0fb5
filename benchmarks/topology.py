"""Thin masks that hold together: how far losses, decision, repair and test-time augmentation bring the topology.

Questions: which of them helps, alone and together, on synthetic leaves, bricks' mortar and vessels of the eye?
Commands, one per table (a second call does only what is missing, and resumes what was interrupted):
  `python benchmarks/topology.py demo --out topology`
  `python benchmarks/topology.py topomortar --source PATH_TO/topomortar --out topology`; also `topomortar10` (its small
  training set), `topomortar_noisy` and `topomortar_pseudo` (training and validation with those masks)
  `python benchmarks/topology.py chase --source PATH_TO/chase_db1 --out topology` (first 20 images train, last 8 test)
Expect: `topology/SET/table.md`: test scores per training and decision, means with 95 % intervals over seeds (Student's
t). Parameters of the decision are fitted on validation images; test masks are opened by `evaluate` only.
"""

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from coffee import mnsa
from coffee_table import estimate
from mnsa.data.manifest import Manifest, Row, read_manifest, write_manifest_files
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.metrics.scores import evaluation_key
from mnsa.run_folder import open_run_folder
from timing import machine_facts

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# What a training adds to cross-entropy + Dice: overrides of the config.
TRAININGS: Mapping[str, Sequence[str]] = {
    "cross-entropy + Dice": ("loss.cldice=0",),
    "+ skeleton recall": ("loss.cldice=0", "loss.skeleton_recall=0.5"),
    "+ centerline": ("loss.cldice=0", "loss.centerline=1"),
    "+ clDice": ("loss.cldice=0.5",),
}


class Decision(NamedTuple):
    """How probabilities become a mask: arguments of `evaluate`. By default as the run's validation images decided."""

    mask_threshold: float | None = None
    repair: bool | None = None
    tta: tuple[str, ...] = ()


DECISIONS: Mapping[str, Decision] = {
    "0.5": Decision(mask_threshold=0.5, repair=False),
    "fitted, no repair": Decision(repair=False),
    "fitted": Decision(),
    "fitted, flips": Decision(tta=("flips",)),
}
# Score of evaluation.json -> title and digits.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "iou": ("IoU", 3),
    "dice_per_image": ("Dice", 3),
    "cldice": ("clDice", 3),
    "betti0_error": ("Betti-0", 2),
    "betti1_error": ("Betti-1", 2),
    "areole_f1": ("hole F1", 3),
    "areole_count_bias": ("hole count bias", 3),
    "areole_count_r": ("hole count r", 3),
    "length_bias": ("length bias", 3),
}


class BenchmarkSet(NamedTuple):
    """A data set: the config of its trainings, and what makes it from the published folder."""

    config: str
    make: Callable[[Path | None, Path], None]


def main() -> None:
    """Train and score every training and seed, write the table."""
    options = _options()
    folder = options.out / options.set
    folder.mkdir(parents=True, exist_ok=True)
    benchmark_set, data = SETS[options.set], folder / "data"
    if not data.exists():
        benchmark_set.make(options.source, data)
    results: dict[tuple[str, str], list[dict[str, float | None]]] = {}
    minutes: dict[str, list[float]] = {}
    for seed in options.seeds:
        for training in options.trainings:
            run = folder / f"{training.replace(' ', '').replace('+', '_')}-{seed}"
            if seconds := train(run, data, CONFIGS / benchmark_set.config, TRAININGS[training], seed):
                minutes.setdefault(training, []).append(seconds / 60)
            for decision in options.decisions:
                scores = score(run, DECISIONS[decision])
                results.setdefault((training, decision), []).append(scores)
    report = f"{machine_facts()}\n\n{_markdown(results, minutes)}\n"
    (folder / "table.md").write_text(report, encoding="utf-8")
    print(report)


def train(run: Path, data: Path, config: Path, overrides: Sequence[str], seed: int) -> float | None:
    """Train, or continue where a run stopped. Returns: seconds, or None for a run that was interrupted."""
    kept = run.with_suffix(".seconds")
    if not (run / "model").exists():
        start, resumed = time.perf_counter(), run.exists()
        if resumed:
            mnsa("train", "--resume", str(run))
        else:
            sets = [part for override in (*overrides, f"train.seed={seed}") for part in ("--set", override)]
            mnsa("train", str(config), "--data", str(data), "--out", str(run), *sets)
        kept.write_text("" if resumed else str(time.perf_counter() - start), encoding="utf-8")
    text = kept.read_text(encoding="utf-8") if kept.exists() else ""
    return float(text) if text else None


def score(run: Path, decision: Decision) -> dict[str, float | None]:
    """The test scores of the only mask class; evaluated once, and read from the run afterwards."""
    key = evaluation_key(
        "test", "network", decision.tta, mask_threshold=decision.mask_threshold, repair=decision.repair
    )
    evaluations = read_evaluations(open_run_folder(run))
    if key not in evaluations:
        options = ["--split", "test"]
        if decision.mask_threshold is not None:
            options += ["--mask-threshold", str(decision.mask_threshold)]
        if decision.repair is not None:
            options += ["--repair" if decision.repair else "--no-repair"]
        for name in decision.tta:
            options += ["--tta", name]
        mnsa("evaluate", str(run), *options)
        evaluations = read_evaluations(open_run_folder(run))
    return {score.name: score.value for score in evaluations[key].scores if score.group != "classification"}


def _markdown(
    results: Mapping[tuple[str, str], list[dict[str, float | None]]], minutes: Mapping[str, list[float]]
) -> str:
    titles = [title for title, _ in COLUMNS.values()]
    lines = [f"| training | decision | {' | '.join(titles)} | min |", f"|---|---{'|---' * (len(titles) + 1)}|"]
    for (training, decision), scores in results.items():
        cells = [
            estimate([_number(one.get(name)) for one in scores]).text(digits) for name, (_, digits) in COLUMNS.items()
        ]
        spent = f"{np.mean(minutes[training]):.1f}" if training in minutes else "-"
        lines.append(f"| {training} | {decision} | {' | '.join(cells)} | {spent} |")
    return "\n".join(lines)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _make_demo(_source: Path | None, data: Path) -> None:
    mnsa("synth", "--cultivars", "12", "--per-cultivar", "20", "--size", "256", "--seed", "1", str(data))


def _topomortar(masks: str, *, small: bool = False) -> Callable[[Path | None, Path], None]:
    def make(source: Path | None, data: Path) -> None:
        root = _require_source(source)
        table = list(csv.DictReader((root / "splits.csv").read_text(encoding="utf-8").splitlines()))
        rows = []
        for row in table:
            if row["split"] == "train" and small and row["in_small_training_set"] != "1":
                continue
            mask = row["mask"] if row["split"] == "test" else row["mask"].replace("masks/", f"{masks}/")
            rows.append((root / row["image"], root / mask, row["split"], ""))
        write_data_set(data, "mortar", rows)

    return make


def _make_chase(source: Path | None, data: Path) -> None:
    """Children 1 to 8 train, 9 and 10 validate, 11 to 14 (the last 8 images) test; masks of the first observer."""
    root = _require_source(source)
    table = csv.DictReader((root / "labels.csv").read_text(encoding="utf-8").splitlines())
    rows = []
    for row in table:
        child = int(row["subject"])
        split = "train" if child <= 8 else "val" if child <= 10 else "test"
        rows.append((root / row["image"], root / row["mask"], split, row["subject"]))
    write_data_set(data, "vessel", rows)


def write_data_set(
    data: Path, mask_class: str, rows: Sequence[tuple[Path, Path, str, str]], *, copies_for_val: bool = False
) -> None:
    """Copy images, and masks as class indices; rows: image, mask, split, group.

    copies_for_val: training images are validation images, too.
    """
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    manifest_rows = []
    copies = [(image, mask, "val", group) for image, mask, split, group in rows if copies_for_val and split == "train"]
    for image, mask, split, group in [*rows, *copies]:
        stem = f"{image.stem}-{split}" if copies_for_val else image.stem
        names = f"images/{stem}.png", f"masks/{stem}.png"
        Image.open(image).convert("RGB").save(data / names[0])
        Image.fromarray((np.asarray(Image.open(mask).convert("L")) > 127).astype(np.uint8)).save(data / names[1])
        manifest_rows.append(Row(image=names[0], mask=names[1], split=split, group=group))
    manifest = Manifest(data.name, data.resolve(), (), (mask_class,), tuple(manifest_rows))
    write_manifest_files(manifest, data)
    read_manifest(data)


def _require_source(source: Path | None) -> Path:
    if source is None:
        raise SystemExit("This set needs --source, the folder of the published images.")
    return source


SETS: Mapping[str, BenchmarkSet] = {
    "demo": BenchmarkSet("demo.toml", _make_demo),
    "topomortar": BenchmarkSet("veins.toml", _topomortar("masks")),
    "topomortar10": BenchmarkSet("veins.toml", _topomortar("masks", small=True)),
    "topomortar_noisy": BenchmarkSet("veins.toml", _topomortar("masks_noisy")),
    "topomortar_pseudo": BenchmarkSet("veins.toml", _topomortar("masks_pseudo")),
    "chase": BenchmarkSet("veins.toml", _make_chase),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--source", type=Path, help="the published folder; `demo` needs none")
    parser.add_argument("--out", type=Path, required=True, help="folder for data sets, runs and tables; may exist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--trainings", nargs="+", default=list(TRAININGS), choices=TRAININGS)
    parser.add_argument("--decisions", nargs="+", default=list(DECISIONS), choices=DECISIONS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
