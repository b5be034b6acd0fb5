"""The request queue with its single worker thread, and the Prometheus metrics."""

import asyncio
import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, get_ident
from threading import enumerate as enumerate_threads
from typing import Generic, TypeVar

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

T = TypeVar("T")

RETRY_AFTER_S = 2
METRICS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_THREAD_NAME = "mnsa-network"
_SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RequestQueue:
    """Limits the number of requests, and runs their work in one thread, image by image.

    Work is queued per image, so that a short request need not wait for all images of a long one. Use the queue from the
    event loop's thread only; therefore `active` needs no lock.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.active = 0
        self._stops = set[asyncio.Future[None]]()
        self._executor = _new_executor()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot of the queue during a request. Raises: HTTPException 429 when the queue is full."""
        if self.active >= self.size:
            detail = f"The queue is full ({self.size} requests). Try again in {RETRY_AFTER_S} seconds."
            raise HTTPException(429, detail, {"Retry-After": str(RETRY_AFTER_S)})
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Run a function in the worker thread.

        Cancelling it before it starts removes it from the queue; after that, it ends at its next step in Python, so
        that a large image past its time doesn't hold up the requests behind it.
        """
        job = _Job(work)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, job)
        except asyncio.CancelledError:
            job.give_up()
            raise

    @contextmanager
    def stop_request(self) -> Iterator["asyncio.Future[None]"]:
        """Give a future that is done when the server has no more time for this request."""
        stop = asyncio.get_running_loop().create_future()
        self._stops.add(stop)
        try:
            yield stop
        finally:
            self._stops.discard(stop)

    def stop(self) -> None:
        """Tell all requests that the server has no more time."""
        for stop in self._stops:
            if not stop.done():
                stop.set_result(None)

    def close(self) -> None:
        """Remove queued work."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = _new_executor()  # an app may be started again


class ServerMetrics:
    """The Prometheus metrics, in a separate registry per app."""

    def __init__(self, queue: RequestQueue) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "mnsa_requests", "Requests by path and status.", ("path", "status"), registry=self.registry
        )
        self.images = Counter("mnsa_images", "Predicted images.", registry=self.registry)
        self.seconds = Histogram(
            "mnsa_image_seconds",
            "Seconds to decode, predict and measure an image.",
            registry=self.registry,
            buckets=_SECONDS_BUCKETS,
        )
        active = Gauge("mnsa_queue_requests", "Requests in the queue, including running ones.", registry=self.registry)
        active.set_function(lambda: queue.active)
        Gauge("mnsa_queue_size", "Size of the queue.", registry=self.registry).set(queue.size)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _GivenUp(BaseException):
    """Raised in the worker thread to end work whose result is no longer needed."""


class _Job(Generic[T]):
    """Work that another thread can end."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work, self._lock = work, Lock()
        self._thread: int | None = None

    def __call__(self) -> T:
        with self._lock:
            self._thread = get_ident()
        try:
            return self._work()
        finally:
            with self._lock:
                self._thread = None
                _raise_in_thread(get_ident(), None)  # the thread's next work must not get what comes too late

    def give_up(self) -> None:
        """End the work if it is running."""
        with self._lock:
            if self._thread is not None:
                _raise_in_thread(self._thread, _GivenUp)


def _raise_in_thread(thread: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in another thread, where it runs Python code; None: take back one that was not raised yet."""
    error = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=_THREAD_NAME)


def is_working(wait_s: float) -> bool:
    """Check whether a worker thread still works on something that can't be given up. wait_s: for its end."""
    threads = [thread for thread in enumerate_threads() if thread.name.startswith(_THREAD_NAME)]
    for thread in threads:
        thread.join(wait_s)
    return any(thread.is_alive() for thread in threads)
