"""Prefetching keeps the order, is limited in number and bytes, and raises errors when their item is due."""

import threading
import time
from dataclasses import dataclass

import pytest
import torch

from mnsa.batch.pipeline import prefetch, worker_threads


@dataclass(frozen=True)
class Item:
    index: int
    nbytes: int = 1


def test_items_come_in_order_whichever_is_read_first() -> None:
    later_done = threading.Event()

    def read(index: int) -> Item:
        if index == 1:  # the first is read alone, for its size
            assert later_done.wait(10)
        if index == 2:
            later_done.set()
        return Item(index)

    assert [item.index for item in prefetch(read, range(20), threads=2, depth=4, limit_bytes=100)] == [*range(20)]


def test_at_most_depth_reads_start_before_they_are_requested() -> None:
    started = list[int]()

    def read(index: int) -> Item:
        started.append(index)
        return Item(index)

    items = prefetch(read, range(50), threads=2, depth=5, limit_bytes=100)
    for taken in range(50):
        assert next(items).index == taken
        assert len(started) <= taken + 5


def test_waiting_items_are_limited_in_bytes() -> None:
    lock, held, most = threading.Lock(), 0, 0

    def read(index: int) -> Item:
        nonlocal held, most
        with lock:
            held += 10
            most = max(most, held)
        return Item(index, nbytes=10)

    for _ in prefetch(read, range(60), threads=2, depth=40, limit_bytes=30):
        with lock:
            held -= 10
    assert most <= 30 + 10  # the limit and the next item, which may always be read


def test_large_items_are_read_one_by_one_after_the_one_before_is_released() -> None:
    started = list[int]()

    def read(index: int) -> Item:
        started.append(index)
        return Item(index, nbytes=1000)

    for item in prefetch(read, range(6), threads=2, depth=4, limit_bytes=100):
        time.sleep(0.02)  # in which another read would start, if it could
        assert started == [*range(item.index + 1)]


def test_an_item_larger_than_the_limit_is_still_read() -> None:
    items = prefetch(lambda index: Item(index, nbytes=1000), range(6), threads=2, depth=4, limit_bytes=1)
    assert [item.index for item in items] == [*range(6)]


def test_an_error_is_raised_when_its_item_is_due_and_ends_the_reading() -> None:
    def read(index: int) -> Item:
        if index == 2:
            raise ZeroDivisionError
        return Item(index)

    items = prefetch(read, range(100), threads=2, depth=4, limit_bytes=100)
    assert [next(items).index, next(items).index] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_worker_threads_have_one_torch_thread_each_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with worker_threads(2, "helper") as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        later = list[int]()
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)
