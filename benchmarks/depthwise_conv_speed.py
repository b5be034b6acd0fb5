"""Depthwise convolutions of a backbone in training: gradients in float32 against oneDNN's in bfloat16.

Claim: forward and backward together, the depthwise convolutions of `small`'s backbone are more than twice as fast in
mixed precision as plain `nn.Conv2d`, and a training step of `small` is faster in bfloat16 than in float32.
Command: `python benchmarks/depthwise_conv_speed.py --out depthwise_conv_speed.md`, on a CPU that has bfloat16.
Expect: per layer the median ratio of plain's time to mnsa's, with its minimum and maximum, and the same for all layers;
then the time of a step in float32 to that in bfloat16.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mnsa.model.backbone import Backbone, Conv2d
from mnsa.model.network import build_network
from mnsa.model.ops.depthwise_conv import depthwise_conv_reference, is_depthwise
from stage_steps import StageSteps, config_named, random_batch
from timing import MIN_REPEATS, machine_facts, speed_up, take_turns

CLASSES, MASK_CLASSES = 12, 1


def main() -> None:
    """Time the layers and the step, and print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    report = markdown(options)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


def markdown(options: argparse.Namespace) -> str:
    """Measure everything and lay out the report."""
    lines = [
        f"{machine_facts()}; {options.size} px, batch {options.batch}, {options.repeats} repeats; "
        "median (minimum-maximum) of the ratios of adjacent turns.\n",
        "| channels | input | kernel | stride | plain / mnsa |",
        "|---|---|---|---|---|",
    ]
    layers = depthwise_layers(options.size, options.batch)
    for conv, features in layers:
        times = take_turns({"plain": plain_run(conv, features), "mnsa": mnsa_run(conv, features)}, options.repeats)
        ratio = speed_up(times, slow="plain", fast="mnsa")
        side, kernel = features.shape[-1], conv.kernel_size[0]
        lines.append(f"| {conv.in_channels} | {side} px | {kernel}x{kernel} | {conv.stride[0]} | {ratio} |")
    both = {
        name: _all_of([run(conv, features) for conv, features in layers])
        for name, run in {"plain": plain_run, "mnsa": mnsa_run}.items()
    }
    ratio = speed_up(take_turns(both, options.repeats), slow="plain", fast="mnsa")
    lines.append(f"| all layers | | | | {ratio} |")
    ratio = speed_up(take_turns(steps(options), options.repeats, warm_up=2), slow="float32", fast="bfloat16")
    step = f"A step of `small`, float32 / bfloat16: {ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})."
    return "\n".join([*lines, "", step])


def depthwise_layers(size: int, batch: int) -> list[tuple[Conv2d, Tensor]]:
    """Return the depthwise convolutions of the backbone of `small`, and a random input of each."""
    backbone, inputs = Backbone(config_named("small.toml").model.backbone), dict[nn.Module, torch.Size]()
    for module in backbone.modules():
        if isinstance(module, Conv2d) and is_depthwise(module):
            module.register_forward_pre_hook(lambda conv, args: inputs.update({conv: _padded(conv, args[0]).shape}))
    with torch.no_grad():
        backbone(torch.zeros(batch, 3, size, size))
    torch.manual_seed(0)
    return [(conv, _random_map(shape)) for conv, shape in inputs.items() if isinstance(conv, Conv2d)]


def _padded(conv: nn.Module, features: Tensor) -> Tensor:
    return nn.functional.pad(features, getattr(conv, "border", (0, 0, 0, 0)))


def _random_map(shape: torch.Size) -> Tensor:
    return torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()


def mnsa_run(conv: Conv2d, features: Tensor) -> Callable[[], None]:
    """Forward and backward with the gradients of `Conv2d`."""
    return lambda: _backward(nn.Conv2d.forward(conv.bfloat16(), features), conv, features)


def plain_run(conv: Conv2d, features: Tensor) -> Callable[[], None]:
    """Forward and backward of PyTorch's own convolution."""
    geometry = conv.stride, conv.padding, conv.dilation
    return lambda: _backward(
        depthwise_conv_reference(features, conv.bfloat16().weight, None, *geometry),  # type: ignore[arg-type]
        conv,
        features,
    )


def _backward(out: Tensor, conv: Conv2d, features: Tensor) -> None:
    torch.autograd.grad(out, [features, conv.weight], torch.ones_like(out))


def _all_of(runs: list[Callable[[], None]]) -> Callable[[], None]:
    def run_all() -> None:
        for run in runs:
            run()

    return run_all


def steps(options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Steps of the joint stage of `small` in both precisions, on the same random batch."""
    size = options.size, options.size
    cpu = torch.device("cpu")
    batch = random_batch(options.batch, size, classes=CLASSES, mask_classes=MASK_CLASSES, device=cpu)
    runs = dict[str, Callable[[], None]]()
    for precision in ("float32", "bfloat16"):
        config = config_named("small.toml", f"train.precision={precision}")
        network = build_network(config.model, CLASSES, MASK_CLASSES)
        stage = StageSteps(network, config, config.stages[-1].name, MASK_CLASSES, cpu)
        runs[precision] = lambda stage=stage: stage.step(batch)  # type: ignore[misc]
    return runs


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the images in px, a multiple of 32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
