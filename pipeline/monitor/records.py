"""Writes the records of predictions off the request path: a bounded queue and one thread that
empties it.
"""

import logging
import math
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from pipeline import one_line
from pipeline.exported.signature import SKETCH
from pipeline.monitor import tables

BATCH = 500  # rows of one transaction
PAUSE_S = 0.2  # records wait this long for company: a transaction costs as much as many rows
LONGEST_RETRY_S = 30.0
LONGEST_TEXT = 500
REFUSALS_S = 1.0  # between writes of what was refused
PENDING = 10_000  # minutes, versions and statuses of refusals that wait while the store is away
log = logging.getLogger(__name__)


class Recorder:
    """Takes records at any rate; what does not fit, or cannot be written, is counted in `lost`,
    never waited for.
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
        self._lost, self._told = 0, 0  # since the start, and how many of them the store knows of
        self._away = False
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
    def away(self) -> bool:
        """Whether the store could not be reached at the last try."""
        return self._away

    def put(self, record: Mapping[str, Any]) -> bool:
        """Take the record of one prediction; False where it had to be dropped. Never waits, never
        raises.

        Keys: id, time (seconds since 1970), version, status, latency_ms, class, confidence, ood,
        brightness, sharpness, sketch (16 floats). Others are left out; id, time and status have
        defaults, the others may be missing.
        """
        return self._offer("record", record)

    def label(self, id: str, label: str) -> bool:
        """What the image of a prediction really showed; the last word wins. False where it had to
        be dropped.
        """
        return self._offer("label", {"id": id, "label": label, "time": time.time()})

    def refuse(self, version: str, status: int) -> None:
        """Count a request that got no prediction. Never waits; a thousand take no more room than
        one.
        """
        key = (60.0 * (time.time() // 60), _text(version), status)
        with self._lock:
            if key in self._refused or len(self._refused) < PENDING:
                self._refused[key] += 1
                return
        self._lose(1)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, for so long at most; the rest is counted as lost."""
        self._closing.set()
        self._thread.join(timeout_s)
        self._lose(self._queue.qsize() + self._refused.total())

    def _offer(self, kind: str, item: Any) -> bool:
        if self._closing.is_set():
            self._lose(1)
            return False
        try:
            self._queue.put_nowait((kind, item))
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
        """The next items, those of a pause together; none where only refusals are to be written,
        None when closed and empty.
        """
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
            taken, self._refused = self._refused, Counter()
        self._refused_written = time.monotonic()
        return [
            {"time": minute, "version": version, "status": status, "n": n}
            for (minute, version, status), n in taken.items()
        ]

    def _write_in_the_end(self, batch: Sequence[tuple[str, Any]]) -> None:
        """Try until it works; meanwhile the queue fills, and what comes after that is lost."""
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
                log.warning("a record that cannot be written was left out: %s", error)
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
                if lost > self._told:
                    connection.execute(
                        sa.insert(tables.losses), [{"time": time.time(), "n": lost - self._told}]
                    )
                self._trim(connection)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if not self._away:
                log.warning("the monitor store is away, records wait: %s", one_line(error))
            self._away = True
            return False
        if self._away:
            log.warning("the monitor store is back; %d records were lost since the start", lost)
        self._away, self._told = False, lost
        return True

    def _insert(
        self, connection: sa.Connection, rows: Sequence[Any], labels: Sequence[Any]
    ) -> None:
        if rows:
            connection.execute(tables.insert_new(self._engine, tables.predictions), rows)
        if labels:
            newest = {
                text_only(each)["id"]: text_only(each) for each in labels
            }  # one row is not touched twice
            connection.execute(tables.upsert(self._engine, tables.labels), list(newest.values()))

    def _trim(self, connection: sa.Connection) -> None:
        """The oldest rows go; the numbers of rows never come again, so a comparison is enough."""
        for table, keep in ((tables.predictions, self._max_rows), (tables.losses, 1000)):
            newest = sa.select(sa.func.max(table.c.seq)).scalar_subquery()
            connection.execute(sa.delete(table).where(table.c.seq <= newest - keep))
        kept = [
            (tables.labels, tables.labels.c.time, self._max_rows),
            (tables.checks, tables.checks.c.end, 10_000),
            (tables.refusals, tables.refusals.c.time, 50_000),
        ]
        for table, column, keep in kept:
            oldest = (
                sa.select(column).order_by(column.desc()).offset(keep).limit(1).scalar_subquery()
            )
            connection.execute(sa.delete(table).where(column <= oldest))


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as the table takes it; raises ValueError or TypeError for what is no record."""
    sketch = record.get("sketch")
    predicted = record.get("class")
    return {
        "id": _text(record.get("id") or uuid.uuid4().hex),
        "time": _number(record.get("time")) or time.time(),
        "version": _text(record.get("version") or ""),
        "latency_ms": _number(record.get("latency_ms")),
        "status": _status(record.get("status") or 200),
        "class_": None if predicted is None else _text(predicted),
        "sketch": None if sketch is None else _sketch(sketch),
        **{name: _number(record.get(name)) for name in tables.FEATURES},
    }


def text_only(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with every text as a store can hold it."""
    return {key: _text(value) if isinstance(value, str) else value for key, value in item.items()}


def _sketch(values: Any) -> bytes:
    with np.errstate(over="ignore"):  # found below
        sketch = np.asarray(values, dtype="<f4")
    if sketch.shape != (SKETCH,) or not np.isfinite(sketch).all():
        raise ValueError(f"a sketch is {SKETCH} finite numbers")
    return sketch.tobytes()


def _status(value: Any) -> int:
    status = int(value)
    if not 100 <= status < 600:
        raise ValueError(f"{status} is no HTTP status")
    return status


def _text(value: object) -> str:
    """Without what PostgreSQL (NUL) or UTF-8 (lone surrogates) cannot hold, and not endless."""
    return str(value).encode("utf-8", "replace").decode().replace("\0", "")[:LONGEST_TEXT]


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None
