"""Where the time of a training step goes: a table by part, forward and backward.

Claim: none; it shows what to optimize. The shares depend on the machine.
Command: `python benchmarks/profile_step.py --backbone densenet161 --threads 2 --out profile.md`
Expect: a line per part (backbone; enhancer by level and branch; decoder by level; head; losses; optimizer), costliest
first, with its share of the step forward and backward. `--operators 20` adds torch's table of the costliest operators.

Forward, an operator belongs to the innermost part that calls it. Backward, autograd's nodes bear the sequence number of
the operator that made them, and with it belong to its part.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from mnsa.model.network import build_network
from network_speed import CLASSES, MASK_CLASSES, STAGE, compile_parts, paper_config
from stage_steps import StageSteps, random_batch
from timing import MIN_REPEATS, machine_facts, pick_device

LABEL = "part: "
STEP, OPTIMIZER = "the step's rest (losses, targets)", "optimizer"
LEAST_SHARE = 0.002
BACKWARD_NODE = "autograd::engine::evaluate_function"
# A module that matches is a part; where parts lie within each other, the innermost counts.
PARTS = re.compile(
    r"backbone|attention|class_head|mask_head|enhancer(\.levels\.\d(\.branches\.\w+)?|\.skips\.\d)?"
    r"|decoder(\.bridge|\.levels\.\d(\.(mix|refine))?)?"
)


class Event(NamedTuple):
    """What the profiler saw: times in microseconds; `cost` is the time on the device; sequence -1 for none."""

    name: str
    start: float
    end: float
    cost: float
    sequence: int
    thread: int


class Cost(NamedTuple):
    """Microseconds of a part."""

    forward: float
    backward: float


def main() -> None:
    """Build, profile, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    device, size = pick_device(options.device), (options.size, options.size)
    config = paper_config(options.backbone, options.precision)
    steps = StageSteps(build_network(config.model, CLASSES, MASK_CLASSES), config, STAGE, MASK_CLASSES, device)
    if options.compile:
        compile_parts(steps.network)
    batch = random_batch(options.batch, size, classes=CLASSES, mask_classes=MASK_CLASSES, device=device)
    for _ in range(options.warm_up):
        steps.step(batch)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with labelled(steps), profile(activities=activities) as profiler:
        for _ in range(options.repeats):
            steps.step(batch)
    report = markdown(costs_by_part(list(_events(profiler, device))), options)
    if options.operators:
        order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        report += "\n\n" + profiler.key_averages().table(sort_by=order, row_limit=options.operators)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


@contextmanager
def labelled(steps: StageSteps) -> Iterator[None]:
    """Record each part, the step and the optimizer in the profiler."""
    handles = [
        h for name, part in steps.network.named_modules() if PARTS.fullmatch(name) for h in _announce(name, part)
    ]
    original_step, original_optimizer = steps.module.training_step, steps.optimizer.step

    def training_step(*arguments: object) -> torch.Tensor:
        with record_function(LABEL + STEP):
            return original_step(*arguments)

    def optimize() -> None:
        with record_function(LABEL + OPTIMIZER):
            original_optimizer()

    steps.module.training_step, steps.optimizer.step = training_step, optimize
    yield
    steps.module.training_step, steps.optimizer.step = original_step, original_optimizer
    for handle in handles:
        handle.remove()


def costs_by_part(events: list[Event]) -> dict[str, Cost]:
    """Give every operator's time to the innermost part that it ran in, every backward node's to its operator's."""
    labels = sorted((e for e in events if e.name.startswith(LABEL)), key=lambda e: e.end - e.start)
    forward: defaultdict[str, float] = defaultdict(float)
    backward: defaultdict[str, float] = defaultdict(float)
    part_of_sequence: dict[int, str] = {}
    for event in events:
        inside = next((x for x in labels if x.thread == event.thread and x.start <= event.start < x.end), None)
        if inside is not None and event.sequence >= 0 and not event.name.startswith((BACKWARD_NODE, LABEL)):
            part_of_sequence.setdefault(event.sequence, inside.name.removeprefix(LABEL))
    for label in labels:
        within = [x for x in labels if x is not label and label.start <= x.start and x.end <= label.end]
        outermost = [x for x in within if not any(y is not x and y.start <= x.start and x.end <= y.end for y in within)]
        forward[label.name.removeprefix(LABEL)] += label.cost - sum(x.cost for x in outermost)
    for event in events:
        if event.name.startswith(BACKWARD_NODE):
            backward[part_of_sequence.get(event.sequence, STEP)] += event.cost
    return {part: Cost(forward[part], backward[part]) for part in {*forward, *backward}}


def markdown(costs: Mapping[str, Cost], options: argparse.Namespace) -> str:
    """Lay out the report: machine, sums of the large parts, then every part, costliest first."""
    total = sum(sum(cost) for cost in costs.values())
    lines = [
        f"{machine_facts()}; {options.backbone}, {options.size} px, batch {options.batch}, {options.precision}; "
        f"{options.repeats} steps of the second stage; shares of their time, from {LEAST_SHARE:.1%} on.\n",
        "| part | forward | backward | both |",
        "|---|---|---|---|",
    ]
    costliest = sorted(costs.items(), key=lambda item: -sum(item[1]))
    rows = [*_sums(costs).items(), *((part, cost) for part, cost in costliest if sum(cost) >= LEAST_SHARE * total)]
    for part, cost in rows:
        lines.append(f"| {part} | {cost.forward / total:.1%} | {cost.backward / total:.1%} | {sum(cost) / total:.1%} |")
    return "\n".join(lines)


def _sums(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Add up parts by the module they lie in."""
    wholes = dict.fromkeys(part.partition(".")[0] for part in costs if "." in part)
    return {f"**{whole}**": _sum(c for part, c in costs.items() if part.partition(".")[0] == whole) for whole in wholes}


def _from_one(name: str) -> str:
    """Count levels from 1, as everywhere but in lists."""
    return re.sub(r"(levels|skips)\.(\d)", lambda found: f"{found[1]}.{int(found[2]) + 1}", name)


def _sum(costs: Iterable[Cost]) -> Cost:
    forward, backward = zip(*costs, strict=True)
    return Cost(sum(forward), sum(backward))


def _announce(name: str, part: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
    running = record_function(LABEL + name)
    yield part.register_forward_pre_hook(lambda *_: running.__enter__() and None)
    yield part.register_forward_hook(lambda *_: running.__exit__(None, None, None))


def _events(profiler: profile, device: torch.device) -> Iterator[Event]:
    for e in profiler.events():
        cost = e.device_time_total if device.type == "cuda" else e.cpu_time_total
        yield Event(e.name, e.time_range.start, e.time_range.end, cost, e.sequence_nr, e.thread)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=("densenet161", "resnet18"), default="densenet161")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--size", type=int, default=224, help="side of the images in px, a multiple of 32")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS, help="steps to profile")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before those")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile each part")
    parser.add_argument("--operators", type=int, default=0, help="also list this many operators")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
