"""Read, predict and write at the same time: threads read and write, the main thread runs the network.

Memory holds at most two batches that were read ahead, the batch in the network, and the batch that is being written.
Scans are too large for that: each is read, predicted and written before the next.

Why not torch's DataLoader: it reads a number of batches ahead, not a number of bytes. The size of an image is unknown
before it is decoded. With two workers and batches of 4, DataLoader would hold 8 scans, which are 2.4 GB at 100
megapixels. `benchmarks/predict_loading.py` compares both on photos. So there is one mechanism for photos and scans.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import Condition
from typing import Protocol, TypeVar

import torch

from mnsa.batch.batching import (
    MAX_BATCH_BYTES,
    LoadedImage,
    PredictedImage,
    Shard,
    iter_blocks,
    make_reader,
    predict_batches,
)
from mnsa.batch.prediction_folder import (
    PredictionFolder,
    ResultsLog,
    find_finished,
    write_explanation,
    write_mask_and_overlay,
)
from mnsa.data.image_source import ImageSource
from mnsa.data.photo_scale import PhotoScale
from mnsa.errors import MnsaError
from mnsa.inference.predictor import Predictor
from mnsa.traits import TraitMeasurer
from mnsa.traits.measurer import Measure, measurement_pool
from mnsa.traits.records import SCALE_COLUMN, validate_scale

_N_THREADS = 2  # that read, and as many that write

Progress = Callable[[int, int, int], None]


class HasBytes(Protocol):
    """An object that knows its size in memory, in bytes."""

    @property
    def nbytes(self) -> int: ...


Item = TypeVar("Item", bound=HasBytes)


def prefetch(
    read: Callable[[int], Item], indices: Iterable[int], *, threads: int, depth: int, limit_bytes: int
) -> Generator[Item]:
    """Yield `read(index)` in the order of the indices; `threads` read at most `depth` items ahead.

    limit_bytes: no read starts while the items that wait, that the caller uses and that are being read have more bytes.
    An item being read is assumed to be as large as the largest so far. The next item may always be read.
    An error of `read` is raised when its item is due.
    """
    limiter = _ByteLimit(limit_bytes)

    def read_within_limit(position: int, index: int) -> Item:
        limiter.start_reading(position)
        size = 0
        try:
            item = read(index)
            size = item.nbytes
        finally:
            limiter.finish_reading(size)
        return item

    def yield_next(position: int) -> Generator[Item]:
        limiter.request(position)
        item = pending.popleft().result()
        size = item.nbytes
        yield item
        del item
        limiter.release(size)

    pending: deque[Future[Item]] = deque()
    pool = worker_threads(threads, "reader")
    position = yielded = 0
    try:
        for position, index in enumerate(indices, 1):
            pending.append(pool.submit(read_within_limit, position, index))
            if len(pending) >= depth:
                yielded += 1
                yield from yield_next(yielded)
        while yielded < position:
            yielded += 1
            yield from yield_next(yielded)
    finally:
        limiter.disable()
        pool.shutdown(cancel_futures=True)


def worker_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Create a pool of threads with one torch thread each; the main thread, which runs the network, keeps its own."""
    threads = torch.get_num_threads()

    def initialize() -> None:
        torch.get_num_threads()  # the first call in a thread copies the default, so it must come before the next line
        torch.set_num_threads(1)  # for this thread; it also changes the default of later threads,
        _set_default_threads(threads)  # which is restored here

    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=initialize)


def _set_default_threads(threads: int) -> None:
    """Set the number of torch threads for threads that start later: the last call in any thread decides."""
    with ThreadPoolExecutor(1) as other:
        other.submit(torch.set_num_threads, threads).result()


def predict_all(
    predictor: Predictor, images: Sequence[ImageSource], names: Sequence[str], folder: PredictionFolder,
    measurer: TraitMeasurer | None, photo_scale: PhotoScale | None, batch_size: int, shard: Shard,
    progress: Progress | None,
) -> int:  # fmt: skip
    """Predict the images of this process's shard that are not finished. Returns: their number.

    names: of the output files of each image, without suffix.
    Raises: RunError when another process works on the shard.
    """
    blocks = list(iter_blocks(len(images), batch_size, shard))
    with ExitStack() as stack:
        results_log = stack.enter_context(ResultsLog(folder, shard))
        measure = (
            stack.enter_context(measurement_pool(measurer, images=len(images), processes=_N_THREADS))
            if measurer
            else None
        )
        writers = stack.enter_context(worker_threads(_N_THREADS, "writer"))
        find_traits = (
            None if measurer is None or measure is None else _trait_finder(measurer, measure, images, photo_scale)
        )
        write = _make_writer(predictor, folder, results_log, names, find_traits)
        finished = find_finished(folder, len(images))
        # A block is predicted as a whole, so each image is in the same batch as without an interruption.
        todo = (index for block in blocks if not all(finished[index] for index in block) for index in block)
        items = stack.enter_context(closing(prefetch_images(predictor, images, todo, batch_size)))
        report = _make_reporter(progress, sum(finished[n] for block in blocks for n in block), sum(map(len, blocks)))
        new, writing = 0, list[Future[None]]()
        for batch in predict_batches(predictor, items, batch_size):
            new += _wait_for_writes(writing)
            report(new)
            writing = [writers.submit(write, image) for image in batch if not finished[image.index]]
            if sum(image.nbytes for image in batch) >= MAX_BATCH_BYTES:
                new += _wait_for_writes(writing)
                writing = []
            batch.clear()
        new += _wait_for_writes(writing)
        report(new)
    return new


def prefetch_images(
    predictor: Predictor, images: Sequence[ImageSource], indices: Iterable[int], batch_size: int
) -> Generator[LoadedImage]:
    """Read and preprocess images in the order of `indices`, at most two batches ahead."""
    read = make_reader(predictor, images)
    return prefetch(read, indices, threads=_N_THREADS, depth=2 * batch_size, limit_bytes=MAX_BATCH_BYTES)


def _make_writer(
    predictor: Predictor,
    folder: PredictionFolder,
    results_log: ResultsLog,
    names: Sequence[str],
    find_traits: Callable[[PredictedImage], dict[str, str]] | None,
) -> Callable[[PredictedImage], None]:
    """Return a function that writes the image files of a prediction and then its row, which makes it finished."""
    table = predictor.prediction_table()

    def write(image: PredictedImage) -> None:
        if image.prediction is None or image.pixels is None:
            results_log.add(image.index, table.error_row(image.path, image.error))
            return
        mask, traits, files = image.prediction.mask, dict[str, str](), dict[str, str]()
        if mask is not None:
            files["mask"] = folder.image_path("masks", names[image.index]).relative_to(folder.path).as_posix()
            write_mask_and_overlay(mask, image.pixels, folder, names[image.index], predictor.mask_classes)
            traits = find_traits(image) if find_traits is not None else {}
        if predictor.explain:
            write_explanation(image.prediction, image.pixels, folder, names[image.index])
        results_log.add(image.index, table.row(image.prediction, image.path, traits) | files)

    return write


def _trait_finder(
    measurer: TraitMeasurer, measure: Measure, images: Sequence[ImageSource], photo_scale: PhotoScale | None
) -> Callable[[PredictedImage], dict[str, str]]:
    """Return a function that gives the traits of a prediction, or the reason why it has none."""

    def find(image: PredictedImage) -> dict[str, str]:
        if image.prediction is None or image.prediction.mask is None:
            return {}
        scale = measurer.px_per_mm
        try:
            if photo_scale is not None:
                scale = photo_scale.find(images[image.index], image.pixels)
                validate_scale(scale)
            columns = {} if scale is None else {SCALE_COLUMN: f"{scale:.6g}"}
            return columns | measure(image.prediction.mask, scale)
        except MnsaError as error:
            return {"error": f"No traits: {error}"}

    return find


def _wait_for_writes(writing: Sequence[Future[None]]) -> int:
    """Wait until all images are written. Returns: their number. Raises: the error of a writer."""
    for future in writing:
        future.result()
    return len(writing)


def _make_reporter(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    def report(new: int) -> None:
        if progress is not None:
            progress(before + new, total, new)

    return report


class _ByteLimit:
    """Lets reads start, in order, while less than `limit` bytes are held or expected, or when the next item is due."""

    def __init__(self, limit: int) -> None:
        self.limit, self.changed, self.is_disabled = limit, Condition(), False
        self.started, self.requested = 0, 0  # the last position whose read started, and the last that is due
        self.held, self.reading = 0, 0  # bytes, and reads in progress
        self.largest = -1  # bytes of an item; unknown until the first is read, which is read alone

    def start_reading(self, position: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._may_start(position))
            self.started = position
            self.reading += 1
            self.changed.notify_all()

    def finish_reading(self, count: int) -> None:
        with self.changed:
            self.reading -= 1
            self.held += count
            self.largest = max(self.largest, count)
            self.changed.notify_all()

    def request(self, position: int) -> None:
        with self.changed:
            self.requested = position
            self.changed.notify_all()

    def release(self, count: int) -> None:
        with self.changed:
            self.held -= count
            self.changed.notify_all()

    def disable(self) -> None:
        with self.changed:
            self.is_disabled = True
            self.changed.notify_all()

    def _may_start(self, position: int) -> bool:
        has_room = self.largest >= 0 and self.held + self.reading * self.largest < self.limit
        is_next = position == self.started + 1
        return self.is_disabled or (is_next and (position <= self.requested or has_room))
