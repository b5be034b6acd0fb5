"""Divide a list of images among processes and into batches.

The list is cut into blocks of `batch_size` images; each process takes every WORLD_SIZE-th block. Only the list decides
which images share a batch, so a run that was interrupted and continued gives the same predictions.
h, w network input size; H, W image size, in pixels.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mnsa.data.decode import read_image
from mnsa.data.image_source import ImageSource
from mnsa.errors import ConfigError, MnsaError
from mnsa.inference.prediction import NamedPrediction
from mnsa.inference.predictor import Predictor

MAX_BATCH_BYTES = 128 * 2**20  # of decoded images: a batch of larger photos has fewer images


class Shard(NamedTuple):
    """The part of the images for process number `rank`, counted from 0, of `world_size` processes."""

    rank: int = 0
    world_size: int = 1


def shard_from_env(environment: Mapping[str, str] = os.environ) -> Shard:
    """Read the shard from RANK and WORLD_SIZE; without them it is all images. Raises: ConfigError."""
    rank, world = environment.get("RANK"), environment.get("WORLD_SIZE")
    if rank is None and world is None:
        return Shard()
    try:
        shard = Shard(int(rank or ""), int(world or ""))
    except ValueError:
        shard = Shard(-1, 0)
    if not 0 <= shard.rank < shard.world_size:
        raise ConfigError(
            f"RANK is {rank!r} and WORLD_SIZE {world!r}; expected whole numbers, 0 <= RANK < WORLD_SIZE, as torchrun "
            "sets them. Set both, or neither."
        )
    return shard


def local_device(environment: Mapping[str, str] = os.environ) -> torch.device:
    """Choose the GPU of this process by torchrun's LOCAL_RANK; without a GPU, the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = environment.get("LOCAL_RANK", "0")
    return torch.device("cuda", int(local) % torch.cuda.device_count() if local.isdecimal() else 0)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that was read, or the error of reading it.

    pixels: uint8 (3, H, W). inputs: float32 (3, h, w); None for a large image, which is predicted tile by tile.
    """

    index: int
    path: str
    pixels: Tensor | None = None
    inputs: Tensor | None = None
    error: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(tensor.nbytes for tensor in (self.pixels, self.inputs) if tensor is not None)


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """An image with its prediction, or its error. pixels: uint8 (H, W, 3)."""

    index: int
    path: str
    pixels: np.ndarray | None = None
    prediction: NamedPrediction | None = None
    error: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels in memory."""
        return 0 if self.pixels is None else self.pixels.nbytes


def iter_blocks(count: int, batch_size: int, shard: Shard) -> Iterator[range]:
    """Yield the blocks of one process as ranges of image indices."""
    for start in range(shard.rank * batch_size, count, shard.world_size * batch_size):
        yield range(start, min(start + batch_size, count))


def make_reader(predictor: Predictor, images: Sequence[ImageSource]) -> Callable[[int], LoadedImage]:
    """Return a function that reads and preprocesses the image `index`; a file that can't be read gives its error."""

    def read(index: int) -> LoadedImage:
        path = str(images[index])
        try:
            pixels = read_image(images[index])
            alone = predictor.predicts_alone((pixels.shape[1], pixels.shape[2]))
            return LoadedImage(index, path, pixels, None if alone else predictor.preprocess(pixels, path))
        except MnsaError as error:
            return LoadedImage(index, path, error=str(error))

    return read


def predict_batches(
    predictor: Predictor, items: Iterable[LoadedImage], batch_size: int
) -> Iterator[list[PredictedImage]]:
    """Predict block by block; images of the same input size go through the network together."""
    for _, block in groupby(items, lambda item: item.index // batch_size):
        for batch in _group_by_size(block):
            predicted = _predict_group(predictor, batch)
            batch.clear()  # the pixels of a scan are not held while the next scan is read
            yield predicted


def _group_by_size(block: Iterable[LoadedImage]) -> Iterator[list[LoadedImage]]:
    waiting: dict[object, list[LoadedImage]] = defaultdict(list)
    held = 0
    for item in block:
        waiting[item.index if item.inputs is None else item.inputs.shape].append(item)
        held += item.nbytes
        del item
        if held >= MAX_BATCH_BYTES:
            yield from waiting.values()
            waiting, held = defaultdict(list), 0
    yield from waiting.values()


def _predict_group(predictor: Predictor, batch: list[LoadedImage]) -> list[PredictedImage]:
    """Predict images of the same input size, or one large image; an image that was not read keeps its error."""
    pixels = [item.pixels for item in batch if item.pixels is not None]
    if not pixels:
        return [PredictedImage(item.index, item.path, error=item.error) for item in batch]
    try:
        predictions = _predict_images(predictor, batch, pixels)
    except MnsaError as error:
        return [PredictedImage(item.index, item.path, error=str(error)) for item in batch]
    return [
        PredictedImage(item.index, item.path, image.permute(1, 2, 0).numpy(), prediction)
        for item, image, prediction in zip(batch, pixels, predictions, strict=True)
    ]


def _predict_images(predictor: Predictor, batch: list[LoadedImage], pixels: list[Tensor]) -> list[NamedPrediction]:
    inputs = [item.inputs for item in batch if item.inputs is not None]
    if not inputs:
        return [predictor.predict_image(image, item.path) for item, image in zip(batch, pixels, strict=True)]
    sizes = [(image.shape[1], image.shape[2]) for image in pixels]
    return predictor.predict_batch(torch.stack(inputs), sizes, [item.path for item in batch])
