"""The queue before the network: a bounded number of requests, and one thread that works for them in turn."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fastapi import HTTPException

T = TypeVar("T")
RETRY_S = 2


class Queue:
    """One thread owns the network. Work is handed to it image by image, so that long requests let short ones pass.

    Used from the event loop's thread alone, so `inside` needs no lock.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.inside = 0
        self._thread = _new_thread()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a request. Raises: HTTPException 429 when all are taken."""
        if self.inside >= self.places:
            detail = f"All {self.places} places in the queue are taken. Try again in {RETRY_S} seconds."
            raise HTTPException(429, detail, {"Retry-After": str(RETRY_S)})
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work in the network's thread; whoever is cancelled while it waits has it dropped."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Drop what waits; what runs comes to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._thread = _new_thread()  # an application may be started again


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="mnsa-network")
