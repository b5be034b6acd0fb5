"""What the losses for thin structures add to a training step.

Claim: soft clDice, skeleton recall and the centerline-weighted cross-entropy add at most 15 % each to a step of `small`
(256 px, batch 8, full-size logits), with the thinning of the masks in the same process, and little memory.
Command: `python benchmarks/thin_losses.py --threads 2 --out thin_losses.md`
Expect: a row per term: the median ratio of the step with the term and the step without it in the same turn, with its
minimum and maximum. On a CPU the ratio is that of CPU seconds, which other programs change less than the clock's.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mnsa.config import DataConfig
from mnsa.data.dataset import find_centerlines, read_sample
from mnsa.data.manifest import read_manifest
from mnsa.data.synthetic import synthesize
from mnsa.data.transforms import eval_transform
from mnsa.model.network import build_network
from mnsa.structures import Batch
from peak_memory import most_held
from stage_steps import StageSteps, config_named, random_batch
from timing import MIN_REPEATS, machine_facts, pick_device, seconds_of, speed_up

CLASSES, STAGE = 12, "joint"
TERMS = {
    "none": (),
    "cldice": ("loss.cldice=0.5",),
    "skeleton_recall": ("loss.skeleton_recall=1",),
    "centerline": ("loss.centerline=4",),
}


def main() -> None:
    """Build, time, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    batch = drawn_batch(options.batch, options.size)
    steps = {term: StepWithTerm(term, batch, device) for term in TERMS}
    measured = turns(steps, options.repeats, device)
    times = {term: [seconds[term] for seconds in measured] for term in TERMS}
    held = {term: most_held(step.run) if device.type == "cpu" else 1.0 for term, step in steps.items()}
    lines = [
        f"{machine_facts()}; {options.size} px, batch {options.batch}, {options.repeats} repeats; with / without the "
        "term.",
        "",
        "| term | time | memory of tensors |",
        "|---|---|---|",
    ]
    for term in list(TERMS)[1:]:
        ratio = speed_up(times, term, "none")
        lines.append(
            f"| {term} | {ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f}) | {held[term] / held['none']:.2f} |"
        )
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def turns(steps: "dict[str, StepWithTerm]", repeats: int, device: torch.device) -> list[dict[str, float]]:
    """Take steps in turns; two turns are warm-up. Returns: seconds per term and turn, of the CPU where it computes."""
    clock = _cpu_seconds if device.type == "cpu" else seconds_of
    return [{term: clock(step.run) for term, step in steps.items()} for _ in range(2 + repeats)][2:]


def _cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


class StepWithTerm:
    """A network in training with a loss for thin structures beside cross-entropy and Dice."""

    def __init__(self, term: str, batch: Batch, device: torch.device) -> None:
        config = config_named("small.toml", *TERMS[term])
        self.steps = StageSteps(build_network(config.model, CLASSES, 1), config, STAGE, 1, device)
        self.needs_centerlines = config.loss.needs_centerlines
        self.batch, self.device = batch, device

    def run(self) -> None:
        """Thin the masks, as the loader does, and take a step."""
        batch = self.batch
        if self.needs_centerlines:
            batch = replace(batch, centerlines=torch.stack([find_centerlines(mask, (1,)) for mask in batch.masks]))
        self.steps.step(batch.to(self.device))


def drawn_batch(count: int, size: int) -> Batch:
    """Draw leaves with veins at the size of the input."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "leaves"
        synthesize(root, cultivars=2, per_cultivar=max(3, (count + 1) // 2), size_px=size, seed=1, workers=1)
        manifest = read_manifest(root)
        samples = [read_sample(manifest, row) for row in manifest.rows[:count]]
    transform = eval_transform(DataConfig(size=(size, size)), (0.0,) * 3, (1.0,) * 3)
    masks = [transform(sample.image, sample.mask)[1] for sample in samples]
    batch = random_batch(count, (size, size), classes=CLASSES, mask_classes=1, device=torch.device("cpu"))
    return replace(batch, masks=torch.stack(masks))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
