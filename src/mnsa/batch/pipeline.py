"""Reads ahead in threads: results come in order, and what waits to be taken is bounded in number and in bytes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from typing import Protocol, TypeVar

import torch


class Sized(Protocol):
    """What has a size in memory, in bytes."""

    @property
    def nbytes(self) -> int: ...


Item = TypeVar("Item", bound=Sized)


def read_ahead(
    read: Callable[[int], Item], indices: Iterable[int], *, threads: int, depth: int, limit_bytes: int
) -> Generator[Item]:
    """Yield `read(index)` in the order of the indices, at most `depth` of them begun beforehand.

    limit_bytes: no reading begins while more than this waits, is in use (until the next is asked for) or is being read,
    where each is taken to be as large as the largest so far. One may always begin: the next.
    An error of `read` is raised at its turn.
    """
    gate = _Gate(limit_bytes)

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
    pool = helper_threads(threads, "reader")
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


def helper_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads beside the network's. torch's own threads stay with the network: each helper has one."""
    threads = torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()  # its first call in a thread takes over the default, which must not come later
        torch.set_num_threads(1)  # for this thread; as a side effect it is what later threads begin with,
        _set_default(threads)  # which is put right again

    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begin)


def _set_default(threads: int) -> None:
    """Set the number for threads to come: the last call in any thread says it."""
    with ThreadPoolExecutor(1) as other:
        other.submit(torch.set_num_threads, threads).result()


class _Gate:
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
