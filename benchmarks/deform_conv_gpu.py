"""Deformable convolution on a GPU: mnsa's Triton kernels against torchvision's CUDA kernel and against grid_sample.

Claim (a goal, not measured yet): forward and backward at least 3 times faster than torchvision's kernel and 2 times
faster than projecting and `grid_sample`, in half the memory; the deterministic mode takes at most 3 times as long.
Command: `python benchmarks/deform_conv_gpu.py --device cuda --out deform_conv.md`
Expect: per level, kernel size and number format the median time of mnsa, its share of the roofline (`roofline.py`), the
ratios of the others' times to it with their ranges, and the memory of forward and backward.
bfloat16 and float16 are mixed precision, in which torchvision's operator computes in float32, as under autocast.
On a CPU, mnsa's kernels run in Triton's interpreter: only to try the script out, with tiny sizes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvisions

from deform_conv_speed import KERNEL_SIZES, LEVELS
from mnsa.model.ops.deform_conv import deform_conv2d_grid_sample
from mnsa.model.ops.tap_sampling import deform_conv2d_triton
from peak_memory import peak_of
from roofline import DTYPES, Roofline, measure, tf32
from timing import MIN_REPEATS, Range, machine_facts, pick_device, speed_up, take_turns

OTHERS = {"torchvision": "torchvision", "grid_sample": "grid_sample", "deterministic": "mnsa, deterministic"}
HEADER = (
    "| level | channels | side, px | kernel | format | task | mnsa, ms | roofline | torchvision / mnsa "
    "| grid_sample / mnsa | deterministic / mnsa | memory, MB: mnsa | torchvision | grid_sample |"
)


class Case(NamedTuple):
    """Inputs of all sides. features (B, C, H, W) in channels-last memory, offsets (B, 2 k^2, H, W), weight."""

    features: Tensor
    offsets: Tensor
    weight: Tensor
    pull: Tensor  # the gradient of the output (B, O, H, W)

    @property
    def macs(self) -> int:
        """Multiply-adds of the convolution: each output sums k^2 C products."""
        return self.pull.numel() * self.weight[0].numel()

    @property
    def forward_bytes(self) -> int:
        """Bytes of all inputs and of the output, each once."""
        return sum(t.nbytes for t in self)


def main() -> None:
    """Measure, and write the report after each row."""
    options = _options()
    device = pick_device(options.device)
    roofline = measure(device, options.precisions, side=options.matrix_side)
    lines = [
        f"{machine_facts()}; {options.input_px} px, batch {options.batch}, {options.repeats} repeats; {roofline}.\n",
        HEADER,
        "|" + "---|" * (HEADER.count("|") - 1),
    ]
    for level in options.levels:
        for kernel_size in options.kernels:
            for precision in options.precisions:
                print(f"level {level}, {kernel_size}x{kernel_size}, {precision} ...", file=sys.stderr)
                lines += rows(level, kernel_size, precision, roofline, options)
                if options.out:
                    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def rows(
    level: int, kernel_size: int, precision: str, roofline: Roofline, options: argparse.Namespace
) -> Iterator[str]:
    """Measure one case: a line for forward and one for forward and backward."""
    device, case = pick_device(options.device), make_case(level, kernel_size, precision, options)
    channels, side_px = case.features.shape[1], case.features.shape[2]
    for task in ("forward", "forward + backward"):
        candidates = {name: candidate(name, task, case, precision) for name in ("mnsa", *OTHERS.values())}
        with tf32(enabled=precision == "tf32"):
            if task == "forward":
                del candidates[OTHERS["deterministic"]]  # the forward pass always is
            times = take_turns(candidates, options.repeats, options.warm_up)
            memory = {name: peak_of(run, device).rise for name, run in candidates.items()}
        passes = 1 if task == "forward" else 3  # backward: a gradient for each of the two factors of a product
        least = roofline.seconds(macs=passes * case.macs, moved_bytes=passes * case.forward_bytes, precision=precision)
        ours = median(times["mnsa"])
        ratios = [ratio(times, name) for name in OTHERS.values()]
        used = [f"{memory[name]:,.0f}" for name in ("mnsa", "torchvision", "grid_sample")]
        cells = [level, f"{channels} -> {len(case.weight)}", side_px, f"{kernel_size}x{kernel_size}", precision, task]
        yield f"| {' | '.join(map(str, [*cells, f'{ours * 1e3:.3f}', f'{least / ours:.0%}', *ratios, *used]))} |"


def candidate(name: str, task: str, case: Case, precision: str) -> Callable[[], object]:
    """Make one side's task."""
    device_type = case.features.device.type

    def convolve() -> Tensor:
        if name == "torchvision":
            floats = (t.float() for t in (case.features, case.offsets, case.weight))
            result: Tensor = torchvisions(*floats, padding=case.weight.shape[-1] // 2)
            return result
        run = deform_conv2d_grid_sample if name == "grid_sample" else deform_conv2d_triton
        with torch.autocast(device_type, DTYPES[precision], enabled=DTYPES[precision] != torch.float32):
            return run(case.features, case.offsets, case.weight)

    @torch.no_grad()
    def forward() -> Tensor:
        return convolve()

    def both() -> object:
        with deterministic(enabled=name == OTHERS["deterministic"]):
            out = convolve()
            return torch.autograd.grad(out, (case.features, case.offsets, case.weight), case.pull.to(out.dtype))

    return forward if task == "forward" else both


@contextmanager
def deterministic(*, enabled: bool) -> Iterator[None]:
    """Choose deterministic algorithms inside the context; operators without one warn."""
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def make_case(level: int, kernel_size: int, precision: str, options: argparse.Namespace) -> Case:
    """Draw inputs of DenseNet-161's levels: a pixel's spread of offsets, an eighth of the channels as output."""
    device, dtype, channels = pick_device(options.device), DTYPES[precision], LEVELS[level][0]
    side_px, out_channels = options.input_px >> level, channels // 8
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    features = draw(options.batch, channels, side_px, side_px).to(dtype, memory_format=torch.channels_last)
    offsets = draw(options.batch, 2 * kernel_size**2, side_px, side_px).to(dtype)
    weight = draw(out_channels, channels, kernel_size, kernel_size).to(memory_format=torch.channels_last)
    pull = draw(options.batch, out_channels, side_px, side_px).to(dtype, memory_format=torch.channels_last)
    return Case(features.requires_grad_(), offsets.requires_grad_(), weight.requires_grad_(), pull)


def ratio(times: dict[str, list[float]], name: str) -> Range | str:
    """Compare a side's time with mnsa's; a dash where it was not measured."""
    return speed_up(times, slow=name, fast="mnsa") if name in times else "-"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--kernels", type=int, nargs="+", default=list(KERNEL_SIZES))
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--input-px", type=int, default=448, help="side of the images; level l has this / 2^l")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2 * MIN_REPEATS)
    parser.add_argument("--warm-up", type=int, default=2, help="turns that count for nothing")
    parser.add_argument("--matrix-side", type=int, help="of the roofline's matrices")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="also write the report to this file, row by row")
    return parser.parse_args()


if __name__ == "__main__":
    main()
