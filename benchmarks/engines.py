"""Inference engines against eager torch: the same network, exported, on the same images.

Claim: exported networks compute the outputs of the eager network in less time.
Command: `python benchmarks/engines.py --backbone densenet161 --repeats 5 --out engines.md`; `--run RUN` uses a trained
run instead of the untrained network of the paper with that backbone.
Expect: per engine the median ratio (eager's time / the engine's) with its minimum and maximum, and the largest
difference of its mask logits from eager's, in units of their standard deviation. int8 is calibrated on the images that
are timed: its speed counts here, not its accuracy, which `mnsa export --precision int8` measures.
"""

import argparse
import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnsa.config import ModelConfig
from mnsa.engines.artifact import open_artifact, write_artifact
from mnsa.engines.spec import ENGINE_PRECISIONS, EngineName, ExportSpec, Precision
from mnsa.engines.torch_engine import output_names
from mnsa.model.network import Network, build_network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from mnsa.model_folder import load_network
from mnsa.structures import NetworkOutputs
from timing import MIN_REPEATS, machine_facts, speed_up, take_turns

CLASSES, MASK_CLASSES = 200, 1
CALIBRATION_IMAGES = 4
Engine = Callable[[Tensor], NetworkOutputs]


def main() -> None:
    """Export, time, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = load_network(options.run)[0] if options.run else paper_network(options.backbone)
    images = torch.randn(options.batch, 3, options.side_px, options.side_px)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(network, images, Path(folder), options.repeats)
    name = options.run or f"the paper's network with {options.backbone}, untrained"
    report = f"{machine_facts()}; {name}; {tuple(images.shape)}; {options.repeats} repeats.\n\n{report}"
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


def paper_network(backbone: str) -> Network:
    """The paper's network, untrained, but with offsets that are not all zero."""
    config = ModelConfig(preset="paper", backbone=backbone, pretrained="none")
    network = build_network(config, CLASSES, MASK_CLASSES).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.01)
    return network


def rivals(network: Network, images: Tensor, folder: Path) -> Iterator[tuple[str, Engine]]:
    """Yield the eager network with fused BatchNorms, and every engine in every precision, one by one to save memory."""
    fused = deepcopy(network)
    fuse_batch_norms(fused)
    yield "fused", fused
    del fused
    for engine, precisions in ENGINE_PRECISIONS.items():
        for precision in precisions:
            name = f"{engine} {precision}"
            target = folder / name.replace(" ", "-")
            target.mkdir()
            write_artifact(target, network, export_spec(network, engine, precision), calibration(images))
            gc.collect()
            yield name, open_artifact(target, engine)
            shutil.rmtree(target)


def export_spec(network: Network, engine: EngineName, precision: Precision) -> ExportSpec:
    """Make the spec of a network that belongs to no run."""
    return ExportSpec(
        engine=engine, precision=precision, outputs=output_names(network), classes=(), mask_classes=(),
        mean=network.backbone.mean, std=network.backbone.std, size=(0, 0), resize_mode="resize",
        weights_sha256="", provenance={}, versions={},
    )  # fmt: skip


def calibration(images: Tensor) -> Iterator[np.ndarray]:
    """A few images, one by one."""
    return (image[None].numpy() for image in images[:CALIBRATION_IMAGES])


def measure(network: Network, images: Tensor, folder: Path, repeats: int) -> str:
    """Time each engine in turns with eager and lay out the table."""
    lines = ["| engine | eager's time / its | largest difference, sd |", "|---|---|---|"]
    for name, rival in rivals(network, images, folder):
        with torch.inference_mode():
            found = difference(network(images), rival(images))
            times = take_turns({"eager": partial(network, images), name: partial(rival, images)}, repeats)
        lines.append(f"| {name} | {speed_up(times, slow='eager', fast=name)} | {found:.1e} |")
        del rival
    return "\n".join(lines)


def difference(expected: NetworkOutputs, found: NetworkOutputs) -> float:
    """Largest difference of the mask logits (of the class logits where there are none), in standard deviations."""
    mine, theirs = (out.class_logits if out.mask_logits is None else out.mask_logits for out in (expected, found))
    assert mine is not None
    assert theirs is not None
    return float((mine - theirs).abs().max() / mine.std())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--run", type=Path, help="a trained run")
    network.add_argument("--backbone", help="of the paper's network: densenet161, resnet18, ...")
    parser.add_argument("--side-px", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2 * MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
