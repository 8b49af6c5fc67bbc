"""The server's Prometheus metrics, over all its processes."""

import os
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from pipeline.serving.batching import Batcher
from pipeline.serving.limits import Door
from pipeline.serving.swap import Keeper

# set before this process started, a folder in which all of them count
SHARED = "PROMETHEUS_MULTIPROC_DIR"
LATENCY_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Counters:
    """One registry an application, so that two in a process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.shown = CollectorRegistry() if SHARED in os.environ else self.registry
        if self.shown is not self.registry:
            MultiProcessCollector(self.shown)  # type: ignore[no-untyped-call]
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self.requests = Counter(
            "fieldmark_requests", "requests to /predict", ["status"], registry=self.registry
        )
        self.seconds = Histogram(
            "fieldmark_request_seconds",
            "time of a request to /predict",
            buckets=LATENCY_S,
            registry=self.registry,
        )
        self.images = Counter(
            "fieldmark_images", "images predicted", ["version", "verdict"], registry=self.registry
        )
        self.batch = Histogram(
            "fieldmark_batch_images",
            "images of a call of the engine",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.engine = Counter(
            "fieldmark_engine_seconds",
            "time in the engine, added up over what runs at once",
            registry=self.registry,
        )
        self.hung_up = Counter(
            "fieldmark_hung_up",
            "connections ended without an answer, or before it was taken",
            ["reason"],
            registry=self.registry,
        )
        self.versions = Counter(
            "fieldmark_version_events",
            "versions swapped, refused, or out of reach",
            ["event"],
            registry=self.registry,
        )

    def watch(self, keeper: Keeper, door: Door, batcher: Batcher) -> None:
        """The gauges of what a server consists of."""
        self.gauge(
            "fieldmark_inside_images",
            "images between their first byte and their answer",
            lambda: door.images,
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
            lambda: keeper.refused is not None,
            "livemax",
        )
        self.gauge(
            "fieldmark_version_since_seconds",
            "when the present version came, since 1970",
            lambda: keeper.since,
            "livemin",
        )

    def gauge(
        self,
        name: str,
        what: str,
        value: Callable[[], float],
        of_all: Literal["livesum", "livemax", "livemin"],
    ) -> None:
        """A value that is read when it is asked for; `of_all` says how the processes that live make
        one of theirs.
        """
        self._gauges.append(
            (Gauge(name, what, registry=self.registry, multiprocess_mode=of_all), value)
        )

    def tell_others(self) -> None:
        """Where there are several processes, let the others see this one's gauges: any may be
        scraped next.
        """
        if self.shown is not self.registry:
            self._look()

    def _look(self) -> None:
        for gauge, value in self._gauges:
            gauge.set(value())

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        self._look()
        return generate_latest(self.shown)
