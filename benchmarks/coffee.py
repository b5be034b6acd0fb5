"""Real leaves: five stress classes and leaf/symptom masks of coffee (BRACOL), one network for both tasks.

Question: does `configs/coffee.toml` train on two processor cores within 35 minutes, and are its scores at least
those of the usual choice, a U-Net with a classification head on the same encoder (`coffee_peer.py`), seed for seed?
Command: `python benchmarks/coffee.py --coffee PATH_TO/coffee_leaf_stress --out coffee --seeds 1 2 3 --peer`
Expect: `coffee/table.md`, for val, test and both (98 images, scored as one set): accuracy, macro-F1, IoU of leaf and
symptom (pooled over all pixels), IoU of symptom per image, minutes of training; means with 95 % intervals over seeds
(Student's t). A second call does only what is missing, and resumes what was interrupted.
The peer needs `pip install -e '.[bench]'`. With `--budget 10m`, mnsa trains without a config, as `mnsa train` plans it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from coffee_table import Result, markdown
from mnsa.data.manifest import read_manifest
from mnsa.inference.predictor import load
from scoring import SPLITS, score
from timing import machine_facts

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "coffee.toml"
MASK_CLASSES = ("background", "leaf", "symptom")
PEER = "smp U-Net"


def main() -> None:
    """Import, train and score every seed, write the table."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.out / "data"
    if not data.exists():
        import_coffee(options.coffee, data)
    results = []
    for seed in options.seeds:  # side by side, so that a busy hour slows both
        results.append(result_of_mnsa(data, options.out, seed, options.budget))
        if options.peer:
            results.append(result_of_peer(data, options.out, seed, options.peer_options))
    results.sort(key=lambda result: result.method)
    report = f"{machine_facts()}\n\n{markdown(results)}\n"
    (options.out / "table.md").write_text(report, encoding="utf-8")
    print(report)


def import_coffee(source: Path, data: Path) -> None:
    """Make the data set from the published folder; `mixed` (10 leaves of several stresses) is no class."""
    columns = ["--image", "image", "--mask", "mask", "--label", "class_name", "--split", "source_split"]
    names = [part for name in MASK_CLASSES for part in ("--mask-class", name)]
    mnsa("import", "csv", str(source / "labels.csv"), *columns, "--drop-label", "mixed", *names, "--out", str(data))


def result_of_mnsa(data: Path, out: Path, seed: int, budget: str | None) -> Result:
    """Train and score one seed, unless that is done."""
    kept, run = out / f"mnsa-{seed}.json", out / f"run-{seed}"
    if not kept.exists():
        seconds = train_mnsa(data, run, seed, budget)
        for split in ("val", "test"):
            mnsa("evaluate", str(run), "--split", split)
        scores = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        network = load(run)
        both = SPLITS[-1]
        scores[both] = score(lambda sample: network.predict_image(sample.image, sample.path), read_manifest(data), both)
        kept.write_text(json.dumps({"train_seconds": seconds, "scores": scores}, indent=2) + "\n", encoding="utf-8")
    method = "mnsa" if budget is None else f"mnsa, no config, {budget}"
    return Result(method, seed, **json.loads(kept.read_text(encoding="utf-8")))


def train_mnsa(data: Path, run: Path, seed: int, budget: str | None) -> float | None:
    """Train, or continue where a run stopped. Returns: seconds, or None for a run that was interrupted."""
    if run.exists():
        mnsa("train", "--resume", str(run))
        return None
    start = time.perf_counter()
    how = [str(CONFIG)] if budget is None else ["--budget", budget]
    mnsa("train", *how, "--data", str(data), "--out", str(run), "--set", f"train.seed={seed}")
    return time.perf_counter() - start


def result_of_peer(data: Path, out: Path, seed: int, peer_options: str) -> Result:
    """Train and score one seed of the peer, unless that is done."""
    kept = out / f"peer-{seed}.json"
    if not kept.exists():
        given = ["--data", str(data), "--seed", str(seed), "--out", str(kept), *peer_options.split()]
        run_python(str(HERE / "coffee_peer.py"), *given)
    return Result(PEER, seed, **json.loads(kept.read_text(encoding="utf-8")))


def mnsa(*arguments: str) -> None:
    """Call the mnsa command of this Python."""
    run_python("-m", "mnsa", *arguments)


def run_python(*arguments: str) -> None:
    """Run a Python script in another process. Raises: CalledProcessError when it fails."""
    print("+ python", *arguments, flush=True)
    if code := subprocess.run([sys.executable, *arguments], check=False).returncode:
        sys.exit(code)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coffee", type=Path, required=True, help="folder with labels.csv, images/ and masks/")
    parser.add_argument("--out", type=Path, required=True, help="folder for data set, runs and table; may exist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--budget", help="train without a config within this time, such as 10m")
    parser.add_argument("--peer", action="store_true", help="train the peer as well")
    parser.add_argument("--peer-options", default="", help="for coffee_peer.py: --peer-options='--bf16 --epochs 16'")
    return parser.parse_args()


if __name__ == "__main__":
    main()
