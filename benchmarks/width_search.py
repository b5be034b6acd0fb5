"""The benefit of the width search: on synthetic leaves (vein IoU) and on coffee leaves (symptom IoU).

Questions: (1) at equal trials, does TPE reach a higher validation IoU than random draws, search seed for search seed?
(2) At equal training, is the network that TPE found better on test than the uniform one, 1/8 everywhere, seed for seed?
Command: `python benchmarks/width_search.py --set leaves --out width_leaves --trials 12 --search-seeds 1 2 3` and
`python benchmarks/width_search.py --set coffee --coffee PATH_TO/coffee_leaf_stress --out width_coffee --trials 8
--search-seeds 1`; about three hours together on 2 cores.
Expect: `table.md` in --out: one table per question, with differences and their 95 % intervals over seeds (Student's t).
An interval that contains 0 shows no difference. A second call does only what is missing and resumes what was
interrupted. Nothing is pruned, so that trials cost the same for both samplers. With the same seed, both begin with the
same five random trials; the found network is that of the first search seed, whatever the others found.
"""

import argparse
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from coffee import CONFIG as COFFEE_CONFIG
from coffee import import_coffee, mnsa
from coffee_table import estimate
from mnsa.config import load_config
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.run_folder import RunFolder
from mnsa.study_folder import StudyFolder, read_study_record
from timing import machine_facts

CONFIGS = COFFEE_CONFIG.parent
SAMPLERS = ("tpe", "random")
UNIFORM = "model.widths=[0.125, 0.125, 0.125, 0.125, 0.125]"


class Task(NamedTuple):
    """One data set: its config, the mask class that counts, and how long the final networks train."""

    config: Path
    mask_class: str
    epochs: int


TASKS = {
    "leaves": Task(CONFIGS / "search.toml", "vein", 24),
    "coffee": Task(CONFIGS / "search_coffee.toml", "symptom", 12),
}


def main() -> None:
    """Make the data, search, train the found network and the uniform one, write the tables."""
    options = _options()
    task, out = TASKS[options.set], options.out
    out.mkdir(parents=True, exist_ok=True)
    data = out / "data"
    if not data.exists():
        make_data(options.set, options.coffee, data)
    reached = {
        sampler: [best_of_study(task, data, out, sampler, seed, options.trials) for seed in options.search_seeds]
        for sampler in SAMPLERS
    }
    found = StudyFolder(study_path(out, "tpe", options.search_seeds[0])).best_file
    tested = {
        name: [test_iou(task, data, out / f"{name}-{seed}", config, (*extra, f"train.seed={seed}"))
               for seed in options.seeds]
        for name, config, extra in (("found", found, ()), ("uniform", task.config, (UNIFORM,)))
    }  # fmt: skip
    report = "\n\n".join(
        (machine_facts(), sampler_table(reached, options), network_table(tested, found, task, options))
    )
    (out / "table.md").write_text(report + "\n", encoding="utf-8")
    print(report)


def make_data(name: str, coffee: Path | None, data: Path) -> None:
    """Draw the leaves, or import the published coffee set."""
    if name == "leaves":
        mnsa("synth", "--cultivars", "10", "--per-cultivar", "24", "--size", "128", "--seed", "1", str(data))
    elif coffee is None:
        raise SystemExit("--set coffee needs --coffee, the folder with labels.csv, images/ and masks/")
    else:
        import_coffee(coffee, data)


def study_path(out: Path, sampler: str, seed: int) -> Path:
    """The folder of one study."""
    return out / f"study-{sampler}-{seed}"


def best_of_study(task: Task, data: Path, out: Path, sampler: str, seed: int, trials: int) -> float:
    """Search, or go on searching. Returns: the best validation IoU that was reached."""
    study = StudyFolder(study_path(out, sampler, seed))
    if study.path.exists():
        mnsa("search", "--join", str(study.path))
    else:
        settings = (f"search.sampler={sampler}", f"search.seed={seed}", "search.pruner=none", "search.startup_trials=5")
        given = ["--data", str(data), "--out", str(study.path), "--trials", str(trials)]
        mnsa("search", str(task.config), *given, *_overrides(settings))
    return max(trial.iou or 0.0 for trial in read_study_record(study).with_status("complete"))


def test_iou(task: Task, data: Path, run: Path, config: Path, settings: Sequence[str]) -> float:
    """Train a network for longer than a trial, and score it on test, unless that is done. Returns: pooled IoU."""
    scores = run / "evaluation.json"
    if not scores.exists():
        if run.exists():
            mnsa("train", "--resume", str(run))
        else:
            stage = load_config(config).stages[-1].name
            longer = (*settings, f"stages.{stage}.epochs={task.epochs}")
            mnsa("train", str(config), "--data", str(data), "--out", str(run), *_overrides(longer))
        mnsa("evaluate", str(run), "--split", "test")
    iou = read_evaluations(RunFolder(run))["test"].value("iou", task.mask_class)
    return math.nan if iou is None else iou


def sampler_table(reached: dict[str, list[float]], options: argparse.Namespace) -> str:
    """Question 1."""
    lines = [
        f"**Best validation IoU after {options.trials} trials**, without pruning\n",
        f"| | {' | '.join(f'search seed {seed}' for seed in options.search_seeds)} | mean |",
        "|---|" + "---|" * (len(options.search_seeds) + 1),
    ]
    return "\n".join([*lines, *_rows(reached, "TPE - random")])


def network_table(tested: dict[str, list[float]], found: Path, task: Task, options: argparse.Namespace) -> str:
    """Question 2."""
    widths = tomllib.loads(found.read_text(encoding="utf-8"))["model"]["widths"]
    lines = [
        f"**Test IoU of {task.mask_class}** after {task.epochs} epochs of the second stage; found widths: {widths}\n",
        f"| | {' | '.join(f'seed {seed}' for seed in options.seeds)} | mean |",
        "|---|" + "---|" * (len(options.seeds) + 1),
    ]
    return "\n".join([*lines, *_rows(tested, "found - uniform")])


def _rows(scores: dict[str, list[float]], difference: str) -> list[str]:
    first, second = scores.values()
    table = {**scores, f"**{difference}**": [a - b for a, b in zip(first, second, strict=True)]}
    return [
        f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} | {estimate(values).text(4)} |"
        for name, values in table.items()
    ]


def _overrides(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=TASKS, required=True)
    parser.add_argument("--coffee", type=Path, help="folder with labels.csv, images/ and masks/")
    parser.add_argument("--out", type=Path, required=True, help="folder for data, studies, runs and tables; may exist")
    parser.add_argument("--trials", type=int, default=12, help="of each study")
    parser.add_argument("--search-seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the final trainings")
    return parser.parse_args()


if __name__ == "__main__":
    main()
