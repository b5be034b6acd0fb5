"""Reading, network and writing at the same time: threads read ahead and write, the network has the main thread.

Held in memory: what was read ahead (two batches), the batch in the network, and the one that is being written. Scans
are too large for that: each is read, answered and written before the next.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path

from mnsa.inference.answers_folder import AnswersFolder, Part, finished_images
from mnsa.inference.blocks import LIMIT_BYTES, Answered, Ready, answers, blocks_of, reader
from mnsa.inference.find import unique_names
from mnsa.inference.pictures import write_explanation, write_pictures
from mnsa.inference.predictor import Predictor
from mnsa.inference.read_ahead import helper_threads, read_ahead
from mnsa.inference.rows import row_of
from mnsa.inference.shard import Shard
from mnsa.inference.trait_pool import Measure, measuring
from mnsa.traits import Ruler

Progress = Callable[[int, int, int], None]
_THREADS = 2  # that read, and as many that write


def answer_all(
    predictor: Predictor, images: list[Path], folder: AnswersFolder, ruler: Ruler | None, batch_size: int,
    shard: Shard, progress: Progress | None,
) -> int:  # fmt: skip
    """Answer for the images of this process's share that aren't finished. Returns: how many.

    Raises: RunError when another process has this share.
    """
    blocks = list(blocks_of(len(images), batch_size, shard))
    with ExitStack() as stack:
        part = stack.enter_context(Part(folder, shard))
        measure = stack.enter_context(measuring(ruler, images=len(images), processes=_THREADS)) if ruler else None
        writers = stack.enter_context(helper_threads(_THREADS, "writer"))
        write = _writer(predictor, folder, part, unique_names(images), measure)
        finished = finished_images(folder, len(images))
        # A block is answered as a whole, so that each image is in the batch that it would be in without interruption.
        todo = (index for block in blocks if not all(finished[index] for index in block) for index in block)
        items = stack.enter_context(closing(_read(predictor, images, todo, batch_size)))
        report = _reporter(progress, sum(finished[n] for block in blocks for n in block), sum(map(len, blocks)))
        new, writing = 0, list[Future[None]]()
        for batch in answers(predictor, items, batch_size):
            new += _settle(writing)
            report(new)
            writing = [writers.submit(write, one) for one in batch if not finished[one.index]]
            if sum(one.nbytes for one in batch) >= LIMIT_BYTES:
                new += _settle(writing)
                writing = []
            batch.clear()
        new += _settle(writing)
        report(new)
    return new


def _read(predictor: Predictor, images: list[Path], todo: Iterable[int], batch_size: int) -> Generator[Ready]:
    read = reader(predictor, images)
    return read_ahead(read, todo, threads=_THREADS, depth=2 * batch_size, limit_bytes=LIMIT_BYTES)


def _writer(
    predictor: Predictor, folder: AnswersFolder, part: Part, names: Sequence[str], measure: Measure | None
) -> Callable[[Answered], None]:
    """What writes an image's pictures and then its row: an image with a row is finished."""

    def write(one: Answered) -> None:
        if one.answer is None or one.pixels is None:
            part.add(one.index, {"image": one.path, "error": one.error})
            return
        row, mask = row_of(predictor, one.answer), one.answer.mask
        if mask is not None:
            write_pictures(mask, one.pixels, folder, names[one.index])
            if measure is not None:
                row |= measure(mask)
        if predictor.explain:
            write_explanation(one.answer, one.pixels, folder, names[one.index])
        part.add(one.index, row)

    return write


def _settle(writing: Sequence[Future[None]]) -> int:
    """Wait until all is written; how many that were. Raises: what a writer raised."""
    for written in writing:
        written.result()
    return len(writing)


def _reporter(progress: Progress | None, before: int, share: int) -> Callable[[int], None]:
    def report(new: int) -> None:
        if progress is not None:
            progress(before + new, share, new)

    return report
