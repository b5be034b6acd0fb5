"""The request queue before the network: a bounded number of requests and one worker thread; and the Prometheus metrics."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

T = TypeVar("T")

RETRY_AFTER_S = 2


class RequestQueue:
    """One thread owns the network. Work is handed to it image by image, so that long requests let short ones pass.

    Used from the event loop's thread alone, so `active` needs no lock.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.active = 0
        self._thread = _new_executor()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for a request. Raises: HTTPException 429 when the queue is full."""
        if self.active >= self.size:
            detail = f"The queue is full ({self.size} requests). Try again in {RETRY_AFTER_S} seconds."
            raise HTTPException(429, detail, {"Retry-After": str(RETRY_AFTER_S)})
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work in the network's thread; whoever is cancelled while it waits has it dropped."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Drop what waits; what runs comes to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._thread = _new_executor()  # an application may be started again


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="mnsa-network")


METRICS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServerMetrics:
    """A registry of its own, so that two apps in one process don't mix."""

    def __init__(self, queue: RequestQueue) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "mnsa_requests", "Requests answered, by path and status.", ("path", "status"), registry=self.registry
        )
        self.images = Counter("mnsa_images", "Images answered for.", registry=self.registry)
        self.seconds = Histogram(
            "mnsa_image_seconds",
            "Reading, computing and measuring an image.",
            registry=self.registry,
            buckets=_SECONDS_BUCKETS,
        )
        active = Gauge("mnsa_queue_requests", "Requests received, waiting or computed now.", registry=self.registry)
        active.set_function(lambda: queue.active)
        Gauge("mnsa_queue_size", "Size of the queue.", registry=self.registry).set(queue.size)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)
