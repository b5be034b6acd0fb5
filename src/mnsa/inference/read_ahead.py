"""Reads ahead in threads: results come in order, and what waits to be taken is bounded in number and in bytes."""

import sys
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

    limit_bytes: while more than this waits to be taken, no reading begins, but for the one that comes next.
    An error of `read` is raised at its turn.
    """
    gate = _Gate(limit_bytes)

    def gated(place: int, index: int) -> Item:
        gate.enter(place)
        item = read(index)
        gate.hold(item.nbytes)
        return item

    def take(place: int) -> Item:
        gate.want(place)
        item = begun.popleft().result()
        gate.let_go(item.nbytes)
        return item

    begun: deque[Future[Item]] = deque()
    pool = helper_threads(threads, "reader")
    place = taken = 0
    try:
        for place, index in enumerate(indices, 1):
            begun.append(pool.submit(gated, place, index))
            if len(begun) >= depth:
                taken += 1
                yield take(taken)
        while taken < place:
            taken += 1
            yield take(taken)
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
    """Lets readers in as long as less than `limit` bytes wait, or when theirs is the next to be taken."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.wanted, self.changed = limit, 0, 0, Condition()

    def enter(self, place: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.held < self.limit or place <= self.wanted)

    def hold(self, count: int) -> None:
        with self.changed:
            self.held += count

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
            self.limit = sys.maxsize
            self.changed.notify_all()
