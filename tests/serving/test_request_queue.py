"""Slots, order and cancellation of queued work."""

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest
from fastapi import HTTPException

from mnsa.serving.request_queue import RequestQueue


def test_a_slot_is_freed_after_any_error() -> None:
    queue = RequestQueue(1)
    for error in (ValueError, HTTPException(400), asyncio.CancelledError):
        with pytest.raises(BaseException), queue.slot():  # noqa: B017
            raise error
    with queue.slot(), pytest.raises(HTTPException) as refused, queue.slot():
        pass
    assert (refused.value.status_code, queue.active) == (429, 0)


def test_work_runs_in_one_thread_and_in_order() -> None:
    async def work() -> Any:
        queue = RequestQueue(4)
        done = await asyncio.gather(*(queue.run(partial(lambda k: (k, threading.get_ident()), k)) for k in range(20)))
        queue.close()
        return done

    done = asyncio.run(work())
    assert [k for k, _ in done] == list(range(20))
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()


def test_cancelled_work_never_starts() -> None:
    started, release = [], threading.Event()

    async def work() -> None:
        queue = RequestQueue(4)
        running = asyncio.create_task(queue.run(release.wait))
        waiting = asyncio.create_task(queue.run(lambda: started.append(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        release.set()
        await running
        await queue.run(lambda: None)
        queue.close()

    asyncio.run(work())
    assert not started


def test_cancelled_work_that_runs_is_given_up() -> None:
    started, ended = threading.Event(), []

    def long() -> None:
        started.set()
        try:
            for _ in range(6000):
                time.sleep(0.01)
        finally:
            ended.append(1)

    async def work() -> Any:
        queue = RequestQueue(4)
        for _ in range(20):
            started.clear()
            running = asyncio.create_task(queue.run(long))
            await asyncio.to_thread(started.wait)
            running.cancel()
            assert await queue.run(lambda: sum(range(1000))) == 499_500
        queue.close()
        return len(ended)

    assert asyncio.run(asyncio.wait_for(work(), 50)) == 20
