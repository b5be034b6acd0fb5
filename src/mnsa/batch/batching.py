"""Which images share a batch: fixed by the list alone, so that a resumed run answers like an uninterrupted one.

The list is cut into blocks of `batch_size` images; a process takes every WORLD_SIZE-th block.
h, w network input size; H, W image size, in pixels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnsa.data.images import read_image
from mnsa.errors import MnsaError
from mnsa.inference.predictor import Predictor
from mnsa.inference.shard import Shard
from mnsa.records import Prediction

LIMIT_BYTES = 128 * 2**20  # of decoded images: a batch of large photos is cut short here


@dataclass(frozen=True, slots=True)
class Ready:
    """An image that was read: pixels uint8 (3, H, W), inputs float32 (3, h, w); or the error that it met.

    One without inputs or error is large, and is answered tile by tile.
    """

    index: int
    path: str
    pixels: Tensor | None = None
    inputs: Tensor | None = None
    error: str = ""

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(tensor.nbytes for tensor in (self.pixels, self.inputs) if tensor is not None)


@dataclass(frozen=True, slots=True)
class Answered:
    """An image with its answer; pixels: uint8 (H, W, 3). Or the error that it met."""

    index: int
    path: str
    pixels: np.ndarray | None = None
    answer: Prediction | None = None
    error: str = ""

    @property
    def nbytes(self) -> int:
        """Size of the pixels in memory."""
        return 0 if self.pixels is None else self.pixels.nbytes


def blocks_of(count: int, batch_size: int, shard: Shard) -> Iterator[range]:
    """The blocks of one process, each as its images' numbers."""
    for start in range(shard.rank * batch_size, count, shard.world * batch_size):
        yield range(start, min(start + batch_size, count))


def reader(predictor: Predictor, images: list[Path]) -> Callable[[int], Ready]:
    """What reads and prepares image number `index`; a broken file becomes its error."""

    def read(index: int) -> Ready:
        path = str(images[index])
        try:
            pixels = read_image(images[index])
            cut = predictor.cuts((pixels.shape[1], pixels.shape[2]))
            return Ready(index, path, pixels, None if cut else predictor.prepare(pixels, path))
        except MnsaError as error:
            return Ready(index, path, error=str(error))

    return read


def answers(predictor: Predictor, items: Iterable[Ready], batch_size: int) -> Iterator[list[Answered]]:
    """Answer block by block: the images of one input size go through the network together."""
    for _, block in groupby(items, lambda item: item.index // batch_size):
        for batch in _batches(block):
            answered = _answered(predictor, batch)
            batch.clear()  # a scan's pixels are not held while the next is read
            yield answered


def _batches(block: Iterable[Ready]) -> Iterator[list[Ready]]:
    waiting: dict[object, list[Ready]] = defaultdict(list)
    held = 0
    for item in block:
        waiting[item.index if item.inputs is None else item.inputs.shape].append(item)
        held += item.nbytes
        del item
        if held >= LIMIT_BYTES:
            yield from waiting.values()
            waiting, held = defaultdict(list), 0
    yield from waiting.values()


def _answered(predictor: Predictor, batch: list[Ready]) -> list[Answered]:
    """Answer for images of one input size, or for a large one, or pass on the error that one met."""
    pixels = [item.pixels for item in batch if item.pixels is not None]
    if not pixels:
        return [Answered(item.index, item.path, error=item.error) for item in batch]
    try:
        found = _predictions(predictor, batch, pixels)
    except MnsaError as error:
        return [Answered(item.index, item.path, error=str(error)) for item in batch]
    return [
        Answered(item.index, item.path, shown.permute(1, 2, 0).numpy(), answer)
        for item, shown, answer in zip(batch, pixels, found, strict=True)
    ]


def _predictions(predictor: Predictor, batch: list[Ready], pixels: list[Tensor]) -> list[Prediction]:
    inputs = [item.inputs for item in batch if item.inputs is not None]
    if not inputs:
        return [predictor.predict_image(shown, item.path) for item, shown in zip(batch, pixels, strict=True)]
    sizes = [(shown.shape[1], shown.shape[2]) for shown in pixels]
    return predictor.answer(torch.stack(inputs), sizes, [item.path for item in batch])
