"""Places, turns, and what becomes of work that nobody waits for."""

import asyncio
import threading

import pytest
from fastapi import HTTPException

from mnsa.serving.request_queue import RequestQueue


def test_a_place_is_free_again_whatever_happens_in_it():
    queue = RequestQueue(1)
    for error in (ValueError, HTTPException(400), asyncio.CancelledError):
        with pytest.raises(BaseException), queue.slot():  # noqa: B017
            raise error
    with queue.slot(), pytest.raises(HTTPException) as refused, queue.slot():
        pass
    assert (refused.value.status_code, queue.active) == (429, 0)


def test_all_work_is_done_in_one_thread_and_in_turn():
    async def work():
        queue = RequestQueue(4)
        done = await asyncio.gather(*(queue.run(lambda k=k: (k, threading.get_ident())) for k in range(20)))
        queue.close()
        return done

    done = asyncio.run(work())
    assert [k for k, _ in done] == list(range(20))
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()


def test_waiting_work_of_the_cancelled_is_never_begun():
    begun, go_on = [], threading.Event()

    async def work():
        queue = RequestQueue(4)
        running = asyncio.create_task(queue.run(go_on.wait))
        waiting = asyncio.create_task(queue.run(lambda: begun.append(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await running
        await queue.run(lambda: None)
        queue.close()

    asyncio.run(work())
    assert not begun
