"""What training costs on this machine: seconds and bytes per image, measured by a few steps before it begins."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mnsa.batch.batching import local_device
from mnsa.config import Config
from mnsa.data.dataset import LeafDataset, SampleIndex, collate_batch
from mnsa.data.manifest import Manifest
from mnsa.data.transforms import train_transform
from mnsa.errors import ConfigError, is_out_of_memory
from mnsa.model.network import build_network
from mnsa.structures import Batch
from mnsa.training.module import StageModule
from mnsa.training.out_of_memory import available_bytes, free_memory, measure_peak, out_of_memory_message
from mnsa.training.preflight import thin_class_values

FEWEST_AT_ONCE = 2  # images; training divides its batches into parts no smaller

_THREAD_EFFICIENCY = 0.8  # of two threads and more, per thread
_USABLE = 0.8  # of the memory that is available; the rest is for other programs, and for what reads the images
_WEIGHT_COPIES = 3  # that a step doesn't show: two moments of AdamW, and the average of the weights


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """The memory that a training step needs: bytes whatever the batch, and for each pixel of its input.

    available_bytes: what this machine, its container or its GPU has left.
    """

    fixed_bytes: float
    pixel_bytes: float
    available_bytes: int

    def needed_bytes(self, images: int, size: tuple[int, int]) -> float:
        """Bytes for a number of images at once. size: height and width of an input, in pixels."""
        return self.fixed_bytes + self.pixel_bytes * images * size[0] * size[1]

    def fits(self, images: int, size: tuple[int, int]) -> bool:
        """Whether there is enough memory for so many images at once."""
        return self.needed_bytes(images, size) <= _USABLE * self.available_bytes


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What training costs on this machine.

    read_s: seconds to read and augment an image. pixel_s: seconds of a training step per pixel of its input. memory:
    None where the system can't tell.
    """

    read_s: float
    pixel_s: float
    memory: TrainingMemory | None = None


def measure_training(config: Config, manifest: Manifest) -> TrainingCost:
    """Run a few steps of the last stage on the rows of a manifest, in batches of its size, or smaller where that fails.

    Raises: ConfigError when there is no memory for `FEWEST_AT_ONCE` images.
    """
    stage, size, device = config.stages[-1], config.data.size, local_device()
    network = build_network(
        config.model.model_copy(update={"pretrained": "none"}),
        len(manifest.classes) if "classification" in stage.tasks else 0,
        len(manifest.mask_classes) if "segmentation" in stage.tasks else 0,
    )
    thin = thin_class_values(config.loss, manifest.mask_classes) if config.loss.needs_centerlines else ()
    transform = train_transform(config.data, config.augment, network.backbone.mean, network.backbone.std)
    images = LeafDataset(manifest, transform, seed=config.train.seed, thin_classes=thin)
    module = StageModule(
        network, stage, config.loss, mask_classes=max(1, len(manifest.mask_classes)), class_weights=None,
        thin_classes=thin,
    ).to(device).train()  # fmt: skip
    rows = [SampleIndex(0, index) for index in range(len(manifest.rows))]
    read_s = _seconds(lambda: [images[row] for row in rows]) / len(rows)
    items = [images[row] for row in rows]

    def step(batch: Batch) -> None:
        module.zero_grad()
        module.compute_loss(batch)[0].backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    def make_batch(images_at_once: int) -> Batch:
        return collate_batch((items * images_at_once)[:images_at_once]).to(device)

    images_at_once = stage.batch_size
    while True:
        try:
            batch = make_batch(images_at_once)
            step(batch)  # the first step is slower than the others, and loads libraries
            step_s = min(_seconds(lambda: step(batch)), _seconds(lambda: step(batch)))  # noqa: B023 - called here
            sizes = {FEWEST_AT_ONCE, images_at_once}
            peaks = {count: measure_peak(lambda: step(make_batch(count)), device) for count in sizes}  # noqa: B023
            break
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
        if images_at_once == FEWEST_AT_ONCE:
            raise ConfigError(out_of_memory_message(stage, images_at_once, *size))
        images_at_once = max(FEWEST_AT_ONCE, images_at_once // 2)
        free_memory()
    weights = sum(tensor.nbytes for tensor in network.parameters())
    module.zero_grad()
    memory = _extrapolate(peaks, size, available_bytes(device))
    if memory is not None:
        memory = replace(memory, fixed_bytes=memory.fixed_bytes + _WEIGHT_COPIES * weights)
    return TrainingCost(read_s, step_s / (images_at_once * size[0] * size[1]), memory)


def _extrapolate(peaks: dict[int, int | None], size: tuple[int, int], available: int | None) -> TrainingMemory | None:
    """Put a line through the peaks of memory. peaks: bytes of a step by its number of images, one or two of them."""
    known = [(images, peak) for images, peak in sorted(peaks.items()) if peak is not None]
    if not known or available is None:
        return None
    (fewest, low), (most, high) = known[0], known[-1]
    slope = (high - low) / (most - fewest) if most > fewest else high / most
    if slope <= 0:  # where images are tiny, chance decides
        slope = high / most
    return TrainingMemory(max(0.0, high - slope * most), slope / (size[0] * size[1]), available)


def _seconds(run: Callable[[], object]) -> float:
    """Measure the seconds of a call, as if no other program was running.

    On a CPU that is the processor time of one thread, divided by the number of threads and their usual efficiency: on a
    busy machine, the time on the clock can be ten times as long, and plans would change from call to call.
    """
    if local_device().type == "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.process_time()
        run()
        return (time.process_time() - start) / max(1.0, _THREAD_EFFICIENCY * threads)
    finally:
        torch.set_num_threads(threads)
