"""The `small` preset against segmentation_models.pytorch's U-Net with a class head, on the same encoder.

Claim: at the coffee leaves' size and at 448 px a training step of both tasks is at least 1.3 times faster, prediction
at least 1.5 times, and a training step's memory at most two thirds.
Command: `python benchmarks/peer_speed.py --out peer_speed.md` (needs `pip install -e '.[bench]'`)
Expect: a row per size and task: the median ratio (peer's time / mnsa's) with its minimum and maximum, against the peer
as it comes and against the peer in channels-last memory, which mnsa's layout is; then the memory of a step.
`step` is a step of configs/coffee.toml, where the shallow half of the encoder stays frozen; `step, all trainable`
trains the whole encoder, as the peer does in both. Each side has its own losses: `mnsa.training.losses`,
`coffee_peer.loss_of`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import segmentation_models_pytorch as smp
import torch

from coffee_peer import build, loss_of, parameter_groups
from mnsa.config import Config
from mnsa.inference.predictor import Predictor
from mnsa.model.network import build_network
from mnsa.run_folder import ModelSpec
from mnsa.structures import Batch
from peak_memory import Peak, in_child, peak_of, rises
from stage_steps import StageSteps, config_named, random_batch
from timing import MIN_REPEATS, machine_facts, pick_device, speed_up, take_turns

CLASSES, MASK_CLASSES = 5, 3  # of the coffee leaves
STAGE = "joint"
TASKS = {"step": "backbone_deep", "step, all trainable": "backbone", "forward": "backbone"}
LAYOUTS = {"peer": torch.contiguous_format, "peer, channels last": torch.channels_last}
MEMORY_STEPS = 2  # in the second, gradients and optimizer states exist
Candidates = dict[str, Callable[[], object]]


def main() -> None:
    """Measure in turns, then memory in children; or be such a child."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.side:
        print(json.dumps(memory_of(options.side, options.task, options.sizes[0], options)))
        return
    lines: list[str] = []
    for line in report(options):
        lines.append(line)
        if options.out:  # now: the machine may be taken away
            options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def report(options: argparse.Namespace) -> Iterator[str]:
    """Measure everything; line by line."""
    peers = list(LAYOUTS)
    yield (
        f"{machine_facts()}; smp {smp.__version__}, batch {options.batch}, {options.precision}, {options.repeats} "
        "repeats; median (minimum-maximum) of the peer's time / mnsa's.\n"
    )
    yield "| size, px | task | " + " | ".join(f"{peer} / mnsa" for peer in peers) + " |"
    yield "|---|---|" + "---|" * len(peers)
    for size in options.sizes:
        for task in TASKS:
            print(f"{_by(size)}, {task} ...", file=sys.stderr)
            times = take_turns(candidates(task, size, options), options.repeats)
            ratios = (speed_up(times, slow=peer, fast="mnsa") for peer in peers)
            cells = " | ".join(f"{r.median:.2f} ({r.low:.2f}-{r.high:.2f})" for r in ratios)
            yield f"| {_by(size)} | {task} | {cells} |"
    yield from ("", "| size, px | task | peer, MB | mnsa, MB | mnsa / peer |", "|---|---|---|---|---|")
    for size in options.sizes:
        for task in (task for task in TASKS if task != "forward"):
            peer, ours = (peaks(side, task, size, options) for side in ("peer", "mnsa"))
            turns = [mine.rise / theirs.rise for mine, theirs in zip(ours, peer, strict=True)]
            yield f"| {_by(size)} | {task} | {rises(peer)} | {rises(ours)} | {sorted(turns)[len(turns) // 2]:.2f} |"


def candidates(task: str, size: tuple[int, int], options: argparse.Namespace) -> Candidates:
    """Make mnsa's side, and the peer's in both layouts."""
    peers = {name: peer_side(task, size, layout, options) for name, layout in LAYOUTS.items()}
    return {"mnsa": our_side(task, size, options), **peers}


def our_side(task: str, size: tuple[int, int], options: argparse.Namespace) -> Callable[[], object]:
    """Make mnsa's candidate: `mnsa train`'s step, or the predictor."""
    config, device = coffee_config(task, options.precision), pick_device(options.device)
    network, batch = build_network(config.model, CLASSES, MASK_CLASSES), _batch(size, options)
    if task != "forward":
        steps = StageSteps(network, config, STAGE, MASK_CLASSES, device)
        return lambda: steps.step(batch)
    predictor = Predictor(network.to(device), ModelSpec(config.model, config.data, (), ()))

    def predict() -> object:
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
            return predictor(batch.images)

    return predict


def peer_side(
    task: str, size: tuple[int, int], layout: torch.memory_format, options: argparse.Namespace
) -> Callable[[], object]:
    """Make the peer's candidate in a memory layout."""
    device, bf16 = pick_device(options.device), options.precision == "bfloat16"
    model, batch = build(CLASSES, MASK_CLASSES).to(device, memory_format=layout), _batch(size, options)
    batch = replace(batch, images=batch.images.contiguous(memory_format=layout))
    optimizer = torch.optim.AdamW(parameter_groups(model))
    dice = smp.losses.DiceLoss(mode="multiclass")

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model, batch, dice, bf16=bf16).backward()
        optimizer.step()

    @torch.inference_mode()
    def predict() -> object:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return model(batch.images)

    if task == "forward":
        model.eval()
        return predict
    return step


def coffee_config(task: str, precision: str) -> Config:
    """Read the coffee leaves' config, with the whole encoder trainable or as in the file."""
    trainable = [TASKS[task], "attention", "class_head", "enhancer", "decoder"]
    return config_named(
        "coffee.toml", f"stages.{STAGE}.trainable={json.dumps(trainable)}", f"train.precision={precision}"
    )


def peaks(side: str, task: str, size: tuple[int, int], options: argparse.Namespace) -> list[Peak]:
    """Measure a step's memory in fresh processes, or on a GPU, whose allocator counts exactly, in this one."""
    if pick_device(options.device).type == "cuda":
        return [memory_of(side, task, size, options)]
    given = {"--side": side, "--task": task, "--sizes": f"{size[0]}x{size[1]}", "--batch": options.batch}
    given |= {"--precision": options.precision, "--threads": options.threads, "--device": options.device}
    arguments = [__file__, *(str(word) for pair in given.items() for word in pair)]
    return [in_child(arguments) for _ in range(options.processes)]


def memory_of(side: str, task: str, size: tuple[int, int], options: argparse.Namespace) -> Peak:
    """Take two steps in this process."""
    make = our_side(task, size, options) if side == "mnsa" else peer_side(task, size, LAYOUTS["peer"], options)
    return peak_of(lambda: [make() for _ in range(MEMORY_STEPS)], pick_device(options.device))


def _batch(size: tuple[int, int], options: argparse.Namespace) -> Batch:
    device = pick_device(options.device)
    return random_batch(options.batch, size, classes=CLASSES, mask_classes=MASK_CLASSES, device=device)


def size_of(text: str) -> tuple[int, int]:
    """Read `256x512` as height and width."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size_of, nargs="+", default=[(256, 512), (448, 448)], help="height x width, px")
    parser.add_argument("--batch", type=int, default=8, help="configs/coffee.toml trains with 8")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of both sides")
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--processes", type=int, default=3, help="per side, to measure memory in")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--side", choices=("mnsa", "peer"), help="measure memory here (peer_speed.py starts these itself)"
    )
    parser.add_argument("--task", choices=TASKS, default="step", help="with --side: of which task")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
