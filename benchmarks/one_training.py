"""A search by one training (`mnsa search --method supernet`) against trainings of their own, on synthetic leaves.

Questions: (a) how well do the scores of slices rank networks? Kendall's tau with trainings of their own, beside the tau
of two seeds of such trainings and that of multiply-adds alone; over all networks, and the mean within bands of equal
multiply-adds. (b) What does the search cost in the time of single trainings? (c) At the cost of uniform 1/8: the found
network against the uniform one, each trained alone, seed for seed.
Command: `python benchmarks/one_training.py --out one_training --size 128 --per-cultivar 24 --epochs 8 --networks 20
--seeds 1 2 3 4 5`: some hours on 2 cores. Tiny: `--size 64 --per-cultivar 8 --epochs 3 --networks 6 --seeds 1 2`.
Expect: `table.md` in --out. A second call does only what is missing. Not measured here: the front against uniform
scaling at equal latency, and against the peer U-Net.
"""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.stats import kendalltau

from coffee import CONFIG as COFFEE_CONFIG
from coffee import mnsa
from coffee_table import estimate
from mnsa.io import read_json, write_json
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, read_study_record
from timing import machine_facts

CONFIG = COFFEE_CONFIG.parent / "search.toml"
UNIFORM = (0.125,) * 5
BANDS = 4


def main() -> None:
    """Draw the data, train the supernet, then networks of their own, and write the table."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    data, path = options.out / "data", options.out / "study"
    if not data.exists():
        numbers = {"--cultivars": 10, "--per-cultivar": options.per_cultivar, "--size": options.size, "--seed": 1}
        mnsa("synth", *(str(word) for pair in numbers.items() for word in pair), str(data))
    study, seconds = search(path, data, options)
    chosen = choose_networks(study, options.networks)
    alone = {seed: {t.number: train_alone(t, seed, data, options) for t in chosen} for seed in options.seeds[:2]}
    uniform = next(trial for trial in study.trials if tuple(trial.point.values()) == UNIFORM)
    found = max((t for t in study.with_status("complete") if t.cost("macs") <= uniform.cost("macs")), key=slice_iou)
    pairs = {
        name: [train_alone(trial, seed, data, options)["iou"] for seed in options.seeds]
        for name, trial in (("found", found), ("uniform 1/8", uniform))
    }
    report = "\n\n".join(
        (
            machine_facts(),
            f"{len(chosen)} of {len(study.trials)} networks, {options.size} px, {options.epochs} epochs, seeds "
            f"{options.seeds}",
            ranking_table(chosen, alone),
            cost_table(seconds, [run["seconds"] for runs in alone.values() for run in runs.values()]),
            pair_table(pairs, found),
        )
    )
    (options.out / "table.md").write_text(report + "\n", encoding="utf-8")
    print(report)


def search(path: Path, data: Path, options: argparse.Namespace) -> tuple[StudyRecord, float]:
    """Search by one training. Returns: the scored slices, and the seconds of a search that was not interrupted."""
    timing = path.parent / "search.json"
    if not timing.exists():
        start = time.perf_counter()
        if path.exists():
            mnsa("search", "--join", str(path))
        else:
            new = ["search", str(CONFIG), "--method", "supernet", "--data", str(data), "--out", str(path)]
            mnsa(*new, *settings(options, options.seeds[0]))
        write_json(timing, {"seconds": time.perf_counter() - start})
    return read_study_record(StudyFolder(path)), float(read_json(timing)["seconds"])


def choose_networks(study: StudyRecord, count: int) -> list[TrialRecord]:
    """Draw networks evenly over the range of multiply-adds, from all that were scored whole."""
    rng = random.Random(1)
    trials = sorted(study.with_status("complete"), key=lambda trial: trial.cost("macs"))
    borders = np.linspace(0, len(trials), min(count, len(trials)) + 1).astype(int)
    return [trials[rng.randrange(first, end)] for first, end in pairwise(borders)]


def train_alone(trial: TrialRecord, seed: int, data: Path, options: argparse.Namespace) -> dict[str, float]:
    """Train a network from the shared stage with a seed. Returns: its best validation IoU, and seconds."""
    run = options.out / "alone" / f"{trial.number:03}-{seed}"
    file = run.with_suffix(".json")
    if not file.exists():
        start = time.perf_counter()
        if run.exists():
            mnsa("train", "--resume", str(run))
        else:
            run.parent.mkdir(exist_ok=True)
            widths = f"model.widths={list(trial.point.values())}"
            mnsa(
                "train", str(own_stage_config(options)), "--data", str(data), "--out", str(run),
                "--set", widths, *settings(options, seed),
            )  # fmt: skip
        rows = (run / "metrics.csv").read_text(encoding="utf-8").splitlines()
        column = rows[0].split(",").index("val_iou")
        iou = max(float(row.split(",")[column]) for row in rows[1:])
        write_json(file, {"iou": iou, "seconds": time.perf_counter() - start})
    return dict(read_json(file))


def own_stage_config(options: argparse.Namespace) -> Path:
    """Write the config of what a trial trains: the last stage, from the stage that the study has trained."""
    path: Path = options.out / "alone.toml"
    head, _, stages = CONFIG.read_text(encoding="utf-8").partition("[[stages]]")
    shared = (options.out / "study" / "shared").resolve()
    head = head.replace("[train]", f'[train]\npostprocessing = false\ninit_from = "{shared}"')
    path.write_text(f"{head}[[stages]]{stages.partition('[[stages]]')[2]}", encoding="utf-8")
    return path


def ranking_table(chosen: Sequence[TrialRecord], alone: Mapping[int, Mapping[int, Mapping[str, float]]]) -> str:
    """Question (a)."""
    first, second = ([alone[seed][trial.number]["iou"] for trial in chosen] for seed in alone)
    macs = [trial.cost("macs") for trial in chosen]
    both = [mean(pair) for pair in zip(first, second, strict=True)]
    rows = {
        "slices, and the mean of two seeds alone": ([slice_iou(trial) for trial in chosen], both),
        "two seeds alone": (first, second),
        "multiply-adds, and the mean of two seeds alone": (macs, both),
    }
    lines = ["| **Kendall's tau** | all networks | within bands of multiply-adds, mean |", "|---|---|---|"]
    lines += [f"| {name} | {tau(*scores):.2f} | {band_tau(macs, *scores):.2f} |" for name, scores in rows.items()]
    return "\n".join(lines)


def tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two scores of the same networks."""
    return float(kendalltau(first, second).statistic)


def band_tau(macs: Sequence[float], first: Sequence[float], second: Sequence[float]) -> float:
    """Mean of tau within bands of networks of similar cost; NaN if no band has three networks that differ."""
    parts = np.array_split(np.argsort(macs), min(BANDS, max(1, len(macs) // 3)))
    taus = [tau(np.take(first, part).tolist(), np.take(second, part).tolist()) for part in parts]
    known = [value for value in taus if not np.isnan(value)]
    return mean(known) if known else float("nan")


def cost_table(seconds: float, alone: Sequence[float]) -> str:
    """Question (b)."""
    return (
        f"**Cost**: the whole search {seconds:.0f} s, a training alone {mean(alone):.0f} s: as long as "
        f"{seconds / mean(alone):.1f} trainings"
    )


def pair_table(pairs: Mapping[str, Sequence[float]], found: TrialRecord) -> str:
    """Question (c)."""
    difference = [a - b for a, b in zip(*pairs.values(), strict=True)]
    rows = {**pairs, "**found - uniform**": difference}
    lines = [f"**Validation IoU at the cost of uniform 1/8**; found: {dict(found.point)}\n", "| | seeds | mean |"]
    lines += ["|---|---|---|"]
    lines += [f"| {n} | {', '.join(f'{v:.4f}' for v in vs)} | {estimate(list(vs)).text(4)} |" for n, vs in rows.items()]
    return "\n".join(lines)


def slice_iou(trial: TrialRecord) -> float:
    """The score of a slice; 0 if it is not known."""
    return trial.iou or 0.0


def settings(options: argparse.Namespace, seed: int) -> list[str]:
    """Return the options of both commands that make the trainings equal."""
    values = [f"train.seed={seed}", f"data.size=[{options.size}, {options.size}]"]
    values += [f"stages.segmentation.epochs={options.epochs}"]
    return [word for value in values for word in ("--set", value)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, study, runs and table; may exist")
    parser.add_argument("--size", type=int, default=128, help="side of the leaves, in pixels")
    parser.add_argument("--per-cultivar", type=int, default=24, help="leaves of each of ten cultivars")
    parser.add_argument("--epochs", type=int, default=8, help="of the stage with masks")
    parser.add_argument("--networks", type=int, default=20, help="that are trained alone, to compare rankings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="at least two")
    return parser.parse_args()


if __name__ == "__main__":
    main()
