"""Reads the monitor store as frames: predictions with labels, and the reference of a version."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from pipeline.exported.signature import SKETCH
from pipeline.monitor import tables
from pipeline.monitor.tables import FEATURES, checks, labels, losses, predictions, refusals, sources

LARGEST_SOURCE = 1000  # rows of a reference that are kept
SKETCHES = [f"sketch_{i}" for i in range(SKETCH)]


def store_reference(engine: sa.Engine, version: str, reference: pd.DataFrame) -> None:
    """Store the reference of a model version, or a random part of it, beside its predictions.

    `reference` is data/export/reference.parquet. The references of versions without predictions are
    deleted after a day.
    """
    rows = (
        reference
        if len(reference) <= LARGEST_SOURCE
        else reference.sample(LARGEST_SOURCE, random_state=0)
    )
    sketch = rows[SKETCHES].to_numpy("<f4")
    values = [
        {
            "version": version,
            "row": i,
            "time": time.time(),
            "label": str(row.label),
            "class_": str(row.predicted),
            "sketch": sketch[i].tobytes(),
            **{name: float(getattr(row, name)) for name in FEATURES},
        }
        for i, row in enumerate(rows.itertuples())
    ]
    tables.ready(engine)
    used = (
        sa.select(predictions.c.version).where(predictions.c.version == sources.c.version).exists()
    )
    with engine.begin() as connection:
        unused = ~used & (sources.c.time < time.time() - 86_400)
        connection.execute(sa.delete(sources).where((sources.c.version == version) | unused))
        connection.execute(tables.insert_new(engine, sources), values)


def reference(connection: sa.Connection, version: str) -> pd.DataFrame:
    """The reference of a version; empty where it has none.

    Columns: label, predicted, confidence, ood, brightness, sharpness, sketch_0 ….
    """
    return _with_sketch(
        _frame(
            connection,
            sa.select(sources).where(sources.c.version == version).order_by(sources.c.row),
        )
    )


def recent(connection: sa.Connection, since: float, until: float) -> pd.DataFrame:
    """Predictions with their labels, and refusals, from `since` to `until` (seconds since 1970).

    Columns: time, version, status, n, latency_ms, predicted, confidence, label. A row of refusals
    stands for n requests of one minute; its other columns are missing.
    """
    once: sa.Label[int] = sa.literal_column("1").label("n")
    gap = sa.null()
    columns = [predictions.c[name] for name in ("latency_ms", "class_", "confidence")]
    joined = predictions.outerjoin(labels, labels.c.id == predictions.c.id)
    answered = sa.select(
        predictions.c.time,
        predictions.c.version,
        predictions.c.status,
        once,
        *columns,
        labels.c.label,
    ).select_from(joined)
    refused = sa.select(
        refusals.c.time, refusals.c.version, refusals.c.status, refusals.c.n, gap, gap, gap, gap
    )
    query = sa.union_all(
        answered.where(predictions.c.time.between(since, until)),
        refused.where(refusals.c.time.between(since, until)),
    )
    return _frame(connection, query.order_by("time"))


def next_window(
    connection: sa.Connection, version: str, size: int, *, after: int, not_before: float
) -> pd.DataFrame:
    """The next `size` complete predictions of a version after the row `after`.

    Columns as in `reference`, and seq, time.
    """
    whole = sa.and_(*(predictions.c[name].is_not(None) for name in (*FEATURES, "class_", "sketch")))
    mine = (
        (predictions.c.version == version)
        & (predictions.c.seq > after)
        & (predictions.c.time >= not_before)
    )
    query = sa.select(predictions).where(mine & whole).order_by(predictions.c.seq).limit(size)
    return _with_sketch(_frame(connection, query))


def finished(connection: sa.Connection, since: float, until: float) -> pd.DataFrame:
    """The windows that ended in the period.

    Columns: version, size, start, end, level, p (test -> adjusted p-value).
    """
    return _frame(
        connection,
        sa.select(checks).where(checks.c.end.between(since, until)).order_by(checks.c.end),
    )


def lost(connection: sa.Connection, since: float, until: float) -> int:
    """How many records could not be written, as far as the store knows."""
    return int(
        connection.execute(
            sa.select(sa.func.sum(losses.c.n)).where(losses.c.time.between(since, until))
        ).scalar()
        or 0
    )


def versions(connection: sa.Connection) -> Sequence[str]:
    """The model versions with a reference."""
    return (
        connection.execute(sa.select(sources.c.version).distinct().order_by(sources.c.version))
        .scalars()
        .all()
    )


def _frame(
    connection: sa.Connection, query: sa.Select[Any] | sa.CompoundSelect[Any]
) -> pd.DataFrame:
    names = [
        {"class_": "predicted"}.get(str(column.key), str(column.key))
        for column in query.selected_columns
    ]
    return pd.DataFrame.from_records(
        [tuple(row) for row in connection.execute(query)], columns=names
    )


def _with_sketch(rows: pd.DataFrame) -> pd.DataFrame:
    packed = np.frombuffer(b"".join(rows["sketch"]), dtype="<f4").reshape(-1, SKETCH)
    return pd.concat([rows.drop(columns="sketch"), pd.DataFrame(packed, columns=SKETCHES)], axis=1)
