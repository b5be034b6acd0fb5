"""The paper's network against the upstream code: forward pass and training step.

Claim: `mnsa train`'s steps in the second stage (enhancer and decoder are trained) and mnsa's forward pass do the same
work in a fraction of the time of the upstream code, whose side is `upstream_network.py` (float32, two backbone passes).
Command: `python benchmarks/network_speed.py --backbone densenet161 --threads 2 --out network_speed.md`
Expect: a row per task and precision: the median ratio (upstream code's time / mnsa's) with its minimum and maximum, and
what both reach of the machine's own rate of matrix products, measured in the same turns; on a GPU also the memory of a
call. The two sides have the same weights and images; `mnsa.inference.Predictor` runs the forward pass, `mnsa.training`
the step.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from arithmetic import matrix_macs, matrix_products, share_of_rate, step_macs
from mnsa.config import Config
from mnsa.inference.predictor import Predictor
from mnsa.model.network import Network, build_network, network_cost
from mnsa.model.upstream import convert_upstream
from mnsa.run_folder import ModelSpec
from peak_memory import peak_of
from stage_steps import StageSteps, config_named, random_batch
from timing import MIN_REPEATS, Range, Seconds, machine_facts, pick_device, speed_up, take_turns
from upstream_network import UpstreamNetwork, second_stage

CLASSES, MASK_CLASSES = 200, 1
STAGE = "segmentation"
TASKS = ("forward", "step")
Candidates = dict[str, Callable[[], object]]


class Row(NamedTuple):
    """One line of the table; `share` and `upstream_share` are parts of the matrix rate in the side's own format."""

    task: str
    ours: str
    ratio: Range
    gmacs: float
    share: float
    upstream_share: float
    memory_mb: tuple[float, float] | None = None  # of a call: the upstream code's and mnsa's; measured on a GPU


def main() -> None:
    """Build, time, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = options.tf32
    rows: list[Row] = []
    for task in options.tasks:
        for found in measure(task, options):
            rows += found
            if options.out:  # now: the machine may be taken away
                options.out.write_text(markdown(rows, options) + "\n", encoding="utf-8")
    print(markdown(rows, options))


def measure(task: str, options: argparse.Namespace) -> Iterator[list[Row]]:
    """Time a task for both sides. For steps, each precision is compared with a new upstream network, to save memory."""
    if task == "forward":
        yield _rows(task, forward_candidates(options), forward_macs(options), options)
        return
    for precision in options.precisions:
        config = paper_config(options.backbone, precision, recompute=not options.no_recompute)
        macs = step_macs(config, STAGE, classes=CLASSES, mask_classes=MASK_CLASSES, size=_size(options))
        yield _rows(task, step_candidates(config, options), macs, options)
        gc.collect()


def forward_candidates(options: argparse.Namespace) -> Candidates:
    """Both sides in eval mode without autograd; mnsa in each precision."""
    device = pick_device(options.device)
    upstream = random_upstream(options.backbone)
    images = torch.randn(options.batch, 3, *_size(options), device=device)
    network = ours(upstream).to(device)
    predictor = Predictor(network, ModelSpec(paper_config(options.backbone).model, paper_config().data, (), ()))
    if options.compile:
        compile_parts(network)
    candidates = {f"mnsa, {precision}": in_precision(predictor, images, precision) for precision in options.precisions}
    upstream.eval().to(device)
    return {"upstream": lambda: without_autograd(upstream, images), **candidates}


def step_candidates(config: Config, options: argparse.Namespace) -> Candidates:
    """Both sides in the second stage, on the same batch."""
    device = pick_device(options.device)
    upstream = random_upstream(options.backbone)
    network = ours(upstream)
    steps = StageSteps(network, config, STAGE, MASK_CLASSES, device)
    if options.compile:
        compile_parts(network)
    trainee = second_stage(upstream.to(device))
    batch = random_batch(options.batch, _size(options), classes=CLASSES, mask_classes=MASK_CLASSES, device=device)

    def ours_once() -> None:
        steps.step(batch)
        steps.optimizer.zero_grad()  # two sides' gradients would be more memory than either has alone

    def theirs_once() -> None:
        trainee.step(batch.images, batch.masks)
        trainee.optimizer.zero_grad()

    return {"upstream": theirs_once, f"mnsa, {config.train.precision}": ours_once}


def forward_macs(options: argparse.Namespace) -> int:
    """Count the multiply-adds of a forward pass, per image."""
    return network_cost(paper_config(options.backbone).model, CLASSES, MASK_CLASSES, _size(options)).macs


def paper_config(backbone: str = "densenet161", precision: str = "float32", *, recompute: bool = True) -> Config:
    """Read the paper's config with another backbone and precision, and with or without recomputation."""
    recomputes = f"train.recompute={str(recompute).lower()}"
    return config_named("paper.toml", f"model.backbone={backbone}", f"train.precision={precision}", recomputes)


def random_upstream(backbone: str) -> UpstreamNetwork:
    """Make the upstream network with random weights, including offsets, so that no tap stays on its own pixel."""
    torch.manual_seed(0)
    return UpstreamNetwork(backbone, CLASSES)


def ours(upstream: UpstreamNetwork) -> Network:
    """Make mnsa's network with the same weights, read as `mnsa import-checkpoint` reads them."""
    found = convert_upstream(upstream.checkpoint())
    network = build_network(found.model, found.classes, found.mask_classes)
    network.load_state_dict(found.state)
    return network


def compile_parts(network: Network) -> None:
    """Have torch.compile translate each part, in place."""
    for part in network.parts().values():
        part.compile()


def in_precision(predictor: Predictor, images: Tensor, precision: str) -> Callable[[], object]:
    """Make a candidate that predicts in float32 or in mixed precision."""

    def run() -> object:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return predictor(images)

    return run


@torch.inference_mode()
def without_autograd(network: UpstreamNetwork, images: Tensor) -> object:
    """Run the upstream network's forward pass."""
    return network(images)


def markdown(rows: list[Row], options: argparse.Namespace) -> str:
    """Lay out the report: machine, then one line per row."""
    lines = [
        f"{machine_facts()}; {options.backbone}, {options.size} px, batch {options.batch}, {options.repeats} repeats"
        f"{', TF32' if options.tf32 else ''}{', torch.compile' if options.compile else ''}"
        f"{', without recomputation' if options.no_recompute else ''}; "
        "median (minimum-maximum) of the upstream code's time / mnsa's; shares are parts of the machine's rate of "
        "matrix products in the same number format.\n",
        "| task | mnsa's side | upstream / mnsa | G multiply-adds per image | mnsa's share | upstream code's share |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = row.ours.removeprefix("mnsa, ")
        shares = f"{row.share:.0%} | {row.upstream_share:.0%}"
        lines.append(f"| {row.task} | {name} | {row.ratio} | {row.gmacs:.1f} | {shares} |")
    return "\n".join(lines + memory_table(rows))


def memory_table(rows: list[Row]) -> list[str]:
    """Lay out how far a call raises the memory of the GPU, beyond weights and optimizer states."""
    table = ["", "| task | mnsa's side | upstream, MB | mnsa, MB | mnsa / upstream |", "|---|---|---|---|---|"]
    for row in rows:
        if row.memory_mb:
            theirs, ours = row.memory_mb
            name = row.ours.removeprefix("mnsa, ")
            table.append(f"| {row.task} | {name} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |")
    return table if len(table) > 3 else []


def _rows(task: str, candidates: Candidates, macs: int, options: argparse.Namespace) -> list[Row]:
    print(f"{options.backbone}, {task}: {', '.join(candidates)} ...", file=sys.stderr)
    device = pick_device(options.device)
    with _convolutions_tuned(options):
        times = take_turns({**candidates, **matrix_products(device)}, options.repeats, options.warm_up)
        memory = {name: peak_of(run, device).rise for name, run in candidates.items()} if device.type == "cuda" else {}
    rows = [
        row_of(task, name, times, macs, options.batch, matrix_macs(device)) for name in candidates if name != "upstream"
    ]
    return [row._replace(memory_mb=(memory["upstream"], memory[row.ours])) if memory else row for row in rows]


def row_of(task: str, ours: str, times: Seconds, macs: int, batch: int, matrix: int) -> Row:
    """Turn times into a line; `macs` are one image's, `matrix` those of the matrix product."""

    def share(side: str, number_format: str) -> float:
        return share_of_rate(macs * batch, times[side], matrix, times[f"matrices, {number_format}"])

    number_format = "bfloat16" if "bfloat16" in ours else "float32"
    ratio = speed_up(times, slow="upstream", fast=ours)
    return Row(task, ours, ratio, macs / 1e9, share(ours, number_format), share("upstream", "float32"))


@contextmanager
def _convolutions_tuned(options: argparse.Namespace) -> Iterator[None]:
    """Let cuDNN try its algorithms in the warm-up, for both sides."""
    torch.backends.cudnn.benchmark = pick_device(options.device).type == "cuda"
    yield
    torch.backends.cudnn.benchmark = False


def _size(options: argparse.Namespace) -> tuple[int, int]:
    return options.size, options.size


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=("densenet161", "resnet18"), default="densenet161")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=("float32", "bfloat16"))
    parser.add_argument("--size", type=int, default=224, help="side of the images in px, a multiple of 32")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--warm-up", type=int, default=1, help="turns that count for nothing; 3 with --compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--tf32", action="store_true", help="on a GPU, round the products of float32 to TF32, both sides"
    )
    parser.add_argument("--no-recompute", action="store_true", help="train.recompute = false for mnsa's step")
    parser.add_argument("--compile", action="store_true", help="torch.compile each of mnsa's parts")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
