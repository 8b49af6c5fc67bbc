"""The server's Prometheus metrics, over all its processes."""

import os
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from pipeline.serving.batching import Batcher
from pipeline.serving.limits import Admission
from pipeline.serving.swap import CurrentModel

# A folder in which all processes count; set before this process starts.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
LATENCY_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Counters:
    """One registry per application, so that two in one process do not clash."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.exposed = CollectorRegistry() if SHARED in os.environ else self.registry
        if self.exposed is not self.registry:
            MultiProcessCollector(self.exposed)  # type: ignore[no-untyped-call]
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self.requests = self._counter("fieldmark_requests", "requests to /predict", "status")
        self.seconds = Histogram(
            "fieldmark_request_seconds",
            "time of a request to /predict",
            buckets=LATENCY_S,
            registry=self.registry,
        )
        self.images = self._counter("fieldmark_images", "images predicted", "version", "verdict")
        self.batch = Histogram(
            "fieldmark_batch_images",
            "images per call of the engine",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.engine = self._counter(
            "fieldmark_engine_seconds", "time in the engine, summed over parallel calls"
        )
        self.hung_up = self._counter(
            "fieldmark_hung_up", "connections closed before the client had its answer", "reason"
        )
        self.versions = self._counter(
            "fieldmark_version_events", "versions swapped, refused, or out of reach", "event"
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def watch(self, current: CurrentModel, admission: Admission, batcher: Batcher) -> None:
        """Add the gauges of the parts of a server."""
        self.gauge(
            "fieldmark_inside_images",
            "images between their first byte and their answer",
            lambda: admission.images,
            "livesum",
        )
        self.gauge(
            "fieldmark_waiting_images",
            "images that wait for the engine",
            lambda: batcher.waiting,
            "livesum",
        )
        self.gauge(
            "fieldmark_version_refused",
            "1 while a broken version is refused",
            lambda: current.refused is not None,
            "livemax",
        )
        self.gauge(
            "fieldmark_version_since_seconds",
            "when the current version was loaded, in seconds since 1970",
            lambda: current.since,
            "livemin",
        )

    def gauge(
        self,
        name: str,
        documentation: str,
        value: Callable[[], float],
        of_all: Literal["livesum", "livemax", "livemin"],
    ) -> None:
        """Add a value that is read at each scrape.

        `of_all` says how to combine the values of all live processes.
        """
        self._gauges.append(
            (Gauge(name, documentation, registry=self.registry, multiprocess_mode=of_all), value)
        )

    def tell_others(self) -> None:
        """Share this process's gauges with the others: any process may answer the next scrape."""
        if self.exposed is not self.registry:
            self._look()

    def _look(self) -> None:
        for gauge, value in self._gauges:
            gauge.set(value())

    def text(self) -> bytes:
        """All metrics in the format of Prometheus."""
        self._look()
        return generate_latest(self.exposed)
