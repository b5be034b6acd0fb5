"""Read, predict and write at the same time: threads read and write, the main thread runs the network.

Held in memory: two batches that were read ahead, the batch in the network, and the batch that is being written. Scans
are too large for that: each is read, predicted and written before the next.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
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
from mnsa.batch.image_files import unique_names
from mnsa.batch.prediction_folder import PredictionFolder, ResultsLog, find_finished
from mnsa.batch.prediction_images import write_explanation, write_mask_and_overlay
from mnsa.inference.predictor import Predictor
from mnsa.traits import TraitMeasurer
from mnsa.traits.process_pool import Measure, measurement_pool


class HasBytes(Protocol):
    """What has a size in memory, in bytes."""

    @property
    def nbytes(self) -> int: ...


Item = TypeVar("Item", bound=HasBytes)


def prefetch(
    read: Callable[[int], Item], indices: Iterable[int], *, threads: int, depth: int, limit_bytes: int
) -> Generator[Item]:
    """Yield `read(index)` in the order of the indices, at most `depth` of them begun beforehand.

    limit_bytes: no reading begins while more than this waits, is in use (until the next is asked for) or is being read,
    where each is taken to be as large as the largest so far. One may always begin: the next.
    An error of `read` is raised at its turn.
    """
    gate = _ByteLimit(limit_bytes)

    def gated(place: int, index: int) -> Item:
        gate.enter(place)
        size = 0
        try:
            item = read(index)
            size = item.nbytes
        finally:
            gate.hold(size)
        return item

    def hand_over(place: int) -> Generator[Item]:
        gate.want(place)
        item = begun.popleft().result()
        size = item.nbytes
        yield item
        del item
        gate.let_go(size)

    begun: deque[Future[Item]] = deque()
    pool = worker_threads(threads, "reader")
    place = taken = 0
    try:
        for place, index in enumerate(indices, 1):
            begun.append(pool.submit(gated, place, index))
            if len(begun) >= depth:
                taken += 1
                yield from hand_over(taken)
        while taken < place:
            taken += 1
            yield from hand_over(taken)
    finally:
        gate.open()
        pool.shutdown(cancel_futures=True)


def worker_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads beside the network's. torch's own threads stay with the network: each helper has one."""
    threads = torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()  # its first call in a thread takes over the default, which must not come later
        torch.set_num_threads(1)  # for this thread; as a side effect it is what later threads begin with,
        _set_default_threads(threads)  # which is put right again

    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begin)


def _set_default_threads(threads: int) -> None:
    """Set the number for threads to come: the last call in any thread says it."""
    with ThreadPoolExecutor(1) as other:
        other.submit(torch.set_num_threads, threads).result()


class _ByteLimit:
    """Lets readers in, in order, while less than `limit` bytes are held or expected, or the next item is theirs."""

    def __init__(self, limit: int) -> None:
        self.limit, self.changed, self.is_open = limit, Condition(), False
        self.entered, self.wanted = 0, 0  # the last place that was let in, and the last that was asked for
        self.held, self.reading = 0, 0
        self.largest = -1  # unknown: the first is read alone

    def enter(self, place: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._may_enter(place))
            self.entered = place
            self.reading += 1
            self.changed.notify_all()

    def hold(self, count: int) -> None:
        with self.changed:
            self.reading -= 1
            self.held += count
            self.largest = max(self.largest, count)
            self.changed.notify_all()

    def want(self, place: int) -> None:
        with self.changed:
            self.wanted = place
            self.changed.notify_all()

    def let_go(self, count: int) -> None:
        with self.changed:
            self.held -= count
            self.changed.notify_all()

    def open(self) -> None:
        with self.changed:
            self.is_open = True
            self.changed.notify_all()

    def _may_enter(self, place: int) -> bool:
        has_room = self.largest >= 0 and self.held + self.reading * self.largest < self.limit
        return self.is_open or (place == self.entered + 1 and (place <= self.wanted or has_room))


Progress = Callable[[int, int, int], None]

_N_THREADS = 2  # that read, and as many that write


def predict_all(
    predictor: Predictor, images: list[Path], folder: PredictionFolder, measurer: TraitMeasurer | None, batch_size: int,
    shard: Shard, progress: Progress | None,
) -> int:  # fmt: skip
    """Answer for the images of this process's share that aren't finished. Returns: how many.

    Raises: RunError when another process has this share.
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
        write = _make_writer(predictor, folder, results_log, unique_names(images), measure)
        finished = find_finished(folder, len(images))
        # A block is answered as a whole, so that each image is in the batch that it would be in without interruption.
        todo = (index for block in blocks if not all(finished[index] for index in block) for index in block)
        items = stack.enter_context(closing(_prefetch_images(predictor, images, todo, batch_size)))
        report = _make_reporter(progress, sum(finished[n] for block in blocks for n in block), sum(map(len, blocks)))
        new, writing = 0, list[Future[None]]()
        for batch in predict_batches(predictor, items, batch_size):
            new += _wait_for_writes(writing)
            report(new)
            writing = [writers.submit(write, one) for one in batch if not finished[one.index]]
            if sum(one.nbytes for one in batch) >= MAX_BATCH_BYTES:
                new += _wait_for_writes(writing)
                writing = []
            batch.clear()
        new += _wait_for_writes(writing)
        report(new)
    return new


def _prefetch_images(
    predictor: Predictor, images: list[Path], todo: Iterable[int], batch_size: int
) -> Generator[LoadedImage]:
    read = make_reader(predictor, images)
    return prefetch(read, todo, threads=_N_THREADS, depth=2 * batch_size, limit_bytes=MAX_BATCH_BYTES)


def _make_writer(
    predictor: Predictor,
    folder: PredictionFolder,
    results_log: ResultsLog,
    names: Sequence[str],
    measure: Measure | None,
) -> Callable[[PredictedImage], None]:
    """What writes an image's pictures and then its row: an image with a row is finished."""
    table = predictor.prediction_table()

    def write(one: PredictedImage) -> None:
        if one.prediction is None or one.pixels is None:
            results_log.add(one.index, table.error_row(one.path, one.error))
            return
        row, mask = table.row(one.prediction, one.path), one.prediction.mask
        if mask is not None:
            write_mask_and_overlay(mask, one.pixels, folder, names[one.index])
            if measure is not None:
                row |= measure(mask)
        if predictor.explain:
            write_explanation(one.prediction, one.pixels, folder, names[one.index])
        results_log.add(one.index, row)

    return write


def _wait_for_writes(writing: Sequence[Future[None]]) -> int:
    """Wait until all is written; how many that were. Raises: what a writer raised."""
    for written in writing:
        written.result()
    return len(writing)


def _make_reporter(progress: Progress | None, before: int, share: int) -> Callable[[int], None]:
    def report(new: int) -> None:
        if progress is not None:
            progress(before + new, share, new)

    return report
