"""Writes the records of predictions outside of requests: a bounded queue and one thread."""

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline import one_line
from pipeline.monitor import tables
from pipeline.monitor.rows import row, text, text_only

BATCH = 500  # rows of one transaction
PAUSE_S = 0.2  # records wait this long for others: one transaction costs as much as many rows
LONGEST_RETRY_S = 30.0
REFUSALS_S = 1.0  # between writes of refusals
PENDING = 10_000  # rows of refusals that wait while the store is away
log = logging.getLogger(__name__)


class Recorder:
    """Takes records at any rate and never waits.

    `lost` counts the records that did not fit into the queue or could not be written.
    """

    def __init__(
        self,
        url: str,
        max_rows: int,
        *,
        queue_size: int = 10_000,
        retry_s: float = 1.0,
        on_loss: Callable[[int], None] = lambda n: None,
    ) -> None:
        self._engine = tables.connect(url)
        self._max_rows, self._retry_s, self._on_loss = max_rows, retry_s, on_loss
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(queue_size)
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._lost, self._lost_written = 0, 0  # since the start, and as the store knows it
        self._away, self._last_put = False, -math.inf
        self._refused, self._refused_written = Counter[tuple[float, str, int]](), -math.inf
        self._thread = threading.Thread(target=self._work, name="monitor-records", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Records and labels that were dropped since the start."""
        return self._lost

    @property
    def waiting(self) -> int:
        """Records and labels in the queue."""
        return self._queue.qsize()

    @property
    def last_put(self) -> float:
        """When this process last took a record, in seconds since 1970; -inf before the first."""
        return self._last_put

    @property
    def away(self) -> bool:
        """Whether the store could not be reached at the last try."""
        return self._away

    def put(self, record: Mapping[str, Any]) -> bool:
        """Take the record of one prediction; False where it was dropped. Never waits, never raises.

        Keys: id, time (seconds since 1970), version, status, latency_ms, class, confidence, ood,
        brightness, sharpness, sketch (16 floats). Other keys are ignored. id, time and status have
        defaults; the others may be missing.
        """
        return self._offer("record", record)

    def label(self, id: str, label: str) -> bool:
        """Take the true label of a prediction; the last one counts. False where it was dropped."""
        return self._offer("label", {"id": id, "label": label, "time": time.time()})

    def refuse(self, version: str, status: int) -> None:
        """Count a request that got no prediction; never waits.

        A thousand of one kind take no more room than one.
        """
        key = (60.0 * (time.time() // 60), text(version), status)
        with self._lock:
            if key in self._refused or len(self._refused) < PENDING:
                self._refused[key] += 1
                return
        self._lose(1)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write the queue, for `timeout_s` at most; the rest counts as lost."""
        self._closing.set()
        self._thread.join(timeout_s)
        self._lose(self._queue.qsize() + self._refused.total())

    def _offer(self, kind: str, item: Any) -> bool:
        if self._closing.is_set():
            self._lose(1)
            return False
        try:
            self._queue.put_nowait((kind, item))
            self._last_put = time.time()
        except queue.Full:
            self._lose(1)
            return False
        return True

    def _lose(self, n: int) -> None:
        with self._lock:
            self._lost += n
        self._on_loss(n)

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            self._write_in_the_end(batch)
        self._engine.dispose()

    def _take(self) -> list[tuple[str, Any]] | None:
        """The next batch; [] where only refusals are to be written, None when closed and empty."""
        while True:
            closed = self._queue.qsize() < BATCH and self._closing.wait(PAUSE_S)
            if not self._queue.empty() or self._refusals_due():
                return [self._queue.get_nowait() for _ in range(min(BATCH, self._queue.qsize()))]
            if closed:
                return None

    def _refusals_due(self) -> bool:
        late = self._closing.is_set() or time.monotonic() - self._refused_written > REFUSALS_S
        return bool(self._refused) and late

    def _take_refused(self) -> list[dict[str, Any]]:
        with self._lock:
            refusals, self._refused = self._refused, Counter()
        self._refused_written = time.monotonic()
        return [
            {"time": minute, "version": version, "status": status, "n": n}
            for (minute, version, status), n in refusals.items()
        ]

    def _write_in_the_end(self, batch: Sequence[tuple[str, Any]]) -> None:
        """Retry until it works; meanwhile the queue fills, and later records are lost."""
        rows, labels = self._rows(batch), [item for kind, item in batch if kind == "label"]
        refused = self._take_refused() if self._refusals_due() else []
        wait = self._retry_s
        while not self._write(rows, labels, refused):
            if self._closing.wait(wait):
                if not self._write(rows, labels, refused):  # the last try
                    self._lose(len(rows) + len(labels) + sum(each["n"] for each in refused))
                return
            wait = min(2 * wait, LONGEST_RETRY_S)

    def _rows(self, batch: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
        rows = []
        for record in (item for kind, item in batch if kind == "record"):
            try:
                rows.append(row(record))
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                self._lose(1)
                log.warning("a record was left out, since it cannot be written: %s", error)
        return rows

    def _write(
        self,
        rows: Sequence[Mapping[str, Any]],
        labels: Sequence[Mapping[str, Any]],
        refused: Sequence[Mapping[str, Any]],
    ) -> bool:
        lost = self._lost
        try:
            tables.ready(self._engine)
            with self._engine.begin() as connection:
                self._insert(connection, rows, labels)
                if refused:
                    connection.execute(tables.add(self._engine, tables.refusals), refused)
                if lost > self._lost_written:
                    loss = {"time": time.time(), "n": lost - self._lost_written}
                    connection.execute(sa.insert(tables.losses), [loss])
                self._trim(connection)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if not self._away:
                log.warning(
                    "the monitor store cannot be reached, records wait: %s", one_line(error)
                )
            self._away = True
            return False
        if self._away:
            log.warning(
                "the monitor store can be reached again; %d records were lost since the start", lost
            )
        self._away, self._lost_written = False, lost
        return True

    def _insert(
        self, connection: sa.Connection, rows: Sequence[Any], labels: Sequence[Any]
    ) -> None:
        if rows:
            connection.execute(tables.insert_new(self._engine, tables.predictions), rows)
        if labels:
            # one statement must not change a row twice
            newest = {text_only(each)["id"]: text_only(each) for each in labels}
            connection.execute(tables.upsert(self._engine, tables.labels), list(newest.values()))

    def _trim(self, connection: sa.Connection) -> None:
        """Delete the oldest rows; row numbers are never used again, so a comparison is enough."""
        for table, keep in ((tables.predictions, self._max_rows), (tables.losses, 1000)):
            newest = sa.select(sa.func.max(table.c.seq)).scalar_subquery()
            connection.execute(sa.delete(table).where(table.c.seq <= newest - keep))
        limits = [
            (tables.labels, tables.labels.c.time, self._max_rows),
            (tables.checks, tables.checks.c.end, 10_000),
            (tables.refusals, tables.refusals.c.time, 50_000),
        ]
        for table, column, keep in limits:
            oldest = (
                sa.select(column).order_by(column.desc()).offset(keep).limit(1).scalar_subquery()
            )
            connection.execute(sa.delete(table).where(column <= oldest))
