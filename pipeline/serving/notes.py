"""Completes the records of predictions with brightness and sharpness, after the answer was sent."""

import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pipeline.labels import quality

log = logging.getLogger(__name__)


@runtime_checkable
class Recorder(Protocol):
    """Takes records; see pipeline.monitor.records for the keys."""

    def put(self, record: Mapping[str, Any], /) -> bool:
        """Take a record; False where it was dropped. Never waits."""

    def refuse(self, version: str, status: int, /) -> None:
        """Count a request that got no prediction; never waits."""

    def label(self, id: str, label: str, /) -> bool:
        """Take the true label of a prediction; False where it was dropped. Never waits."""


class Notes:
    """A bounded queue and one thread, which computes brightness and sharpness by labels.quality.

    The reference has the same two figures.
    """

    def __init__(self, recorder: Recorder, size: int = 1000) -> None:
        self._recorder = recorder
        self._queue: queue.Queue[tuple[dict[str, Any], np.ndarray | None] | None] = queue.Queue(
            size
        )
        self._thread = threading.Thread(target=self._work, name="notes", daemon=True)
        self._thread.start()

    def add(self, record: dict[str, Any], image: np.ndarray | None = None) -> None:
        """Never waits; with a full queue the record goes on without figures of its image."""
        try:
            self._queue.put_nowait((record, image))
        except queue.Full:
            self._recorder.put(record)

    def refuse(self, version: str, status: int) -> None:
        """Count a request that got no prediction.

        It bypasses the queue: there a flood of refusals would displace records.
        """
        self._recorder.refuse(version, status)

    def close(self, timeout_s: float = 5.0) -> None:
        """Hand over the queue, for `timeout_s` at most."""
        try:
            self._queue.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        except queue.Full:
            log.warning("%d records were not handed over at the end", self._queue.qsize())

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            record, image = item
            if image is not None:
                scores = quality.scores(image)
                record |= {"brightness": scores["brightness"], "sharpness": scores["blur"]}
            self._recorder.put(record)
