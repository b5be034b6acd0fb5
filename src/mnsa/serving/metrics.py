"""What a Prometheus server may read: counters since the start, and the process's own memory and time."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from mnsa.serving.queue import Queue

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """A registry of its own, so that two apps in one process don't mix."""

    def __init__(self, queue: Queue) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "mnsa_requests", "Requests answered, by path and status.", ("path", "status"), registry=self.registry
        )
        self.images = Counter("mnsa_images", "Images answered for.", registry=self.registry)
        self.seconds = Histogram(
            "mnsa_image_seconds", "Reading, computing and measuring an image.", registry=self.registry, buckets=_SECONDS
        )
        inside = Gauge("mnsa_queue_requests", "Requests received, waiting or computed now.", registry=self.registry)
        inside.set_function(lambda: queue.inside)
        Gauge("mnsa_queue_places", "Requests that may be inside.", registry=self.registry).set(queue.places)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)
