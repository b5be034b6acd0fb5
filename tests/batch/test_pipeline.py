"""Reading ahead keeps the order, is bounded in number and bytes, and passes errors on."""

import threading
import time
from typing import NamedTuple

import pytest
import torch

from mnsa.batch.pipeline import prefetch, worker_threads


class Thing(NamedTuple):
    index: int
    nbytes: int = 1


def test_results_come_in_order_whoever_is_first():
    later_done = threading.Event()

    def read(index):
        if index == 1:  # the first is read alone, for its size
            assert later_done.wait(10)
        if index == 2:
            later_done.set()
        return Thing(index)

    assert [thing.index for thing in prefetch(read, range(20), threads=2, depth=4, limit_bytes=100)] == [*range(20)]


def test_no_more_than_depth_are_begun_before_they_are_asked_for():
    begun = []

    def read(index):
        begun.append(index)
        return Thing(index)

    things = prefetch(read, range(50), threads=2, depth=5, limit_bytes=100)
    for taken in range(50):
        assert next(things).index == taken
        assert len(begun) <= taken + 5


def test_bytes_that_wait_are_bounded_by_the_limit_and_what_the_readers_have_in_hand():
    lock, held, most = threading.Lock(), 0, 0

    def read(index):
        nonlocal held, most
        with lock:
            held += 10
            most = max(most, held)
        return Thing(index, nbytes=10)

    for _ in prefetch(read, range(60), threads=2, depth=40, limit_bytes=30):
        with lock:
            held -= 10
    assert most <= 30 + 10  # the limit, and the next, which may always begin


def test_large_things_are_read_one_at_a_time_after_the_one_before_is_done_with():
    begun = []

    def read(index):
        begun.append(index)
        return Thing(index, nbytes=1000)

    for thing in prefetch(read, range(6), threads=2, depth=4, limit_bytes=100):
        time.sleep(0.02)  # in which a reader would begin, if it were let in
        assert begun == [*range(thing.index + 1)]


def test_one_thing_larger_than_the_limit_still_comes():
    things = prefetch(lambda index: Thing(index, nbytes=1000), range(6), threads=2, depth=4, limit_bytes=1)
    assert [thing.index for thing in things] == [*range(6)]


def test_an_error_comes_at_its_turn_and_ends_the_reading():
    def read(index):
        if index == 2:
            raise ZeroDivisionError
        return Thing(index)

    things = prefetch(read, range(100), threads=2, depth=4, limit_bytes=100)
    assert [next(things).index, next(things).index] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(things)


def test_helpers_have_one_of_torchs_threads_each_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with worker_threads(2, "helper") as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)
