"""Summarises a period of production by model version."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import sqlalchemy as sa

from pipeline.evaluation.proportions import wilson
from pipeline.monitor import accuracy, reading, tables
from pipeline.monitor.figures import Accuracy, Share, Slice, Summary, Version, Windows

SLICES = 24  # points in time of the curves
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def read(engine: sa.Engine, *, since: float, until: float, slow_ms: float) -> Summary:
    """The summary of a period; requests that took longer than `slow_ms` count as slow.

    Raises SQLAlchemyError where the store cannot be reached.
    """
    tables.ready(engine)
    with engine.connect() as connection:
        rows = reading.recent(connection, since, until)
        tested = reading.finished(connection, since, until)
        references = {
            version: reading.reference(connection, version) for version in rows["version"].unique()
        }
        lost = reading.lost(connection, since, until)
    return summarise(rows, references, tested, since=since, until=until, slow_ms=slow_ms, lost=lost)


def summarise(
    rows: pd.DataFrame,
    references: Mapping[str, pd.DataFrame],
    tested: pd.DataFrame,
    *,
    since: float,
    until: float,
    slow_ms: float,
    lost: int = 0,
) -> Summary:
    """The summary of the frames of reading.py; the version used last comes first."""
    parts = sorted(rows.groupby("version"), key=lambda part: -part[1]["time"].max())
    versions = [
        _version(
            str(name),
            part,
            references.get(str(name)),
            tested[tested["version"] == name],
            since,
            until,
            slow_ms,
        )
        for name, part in parts
    ]
    return Summary(since=since, until=until, lost=lost, versions=versions)


def by_status(statuses: Mapping[int, int]) -> str:
    """`429: 17, 413: 2`, the most frequent first."""
    return (
        ", ".join(
            f"{status}: {n}" for status, n in sorted(statuses.items(), key=lambda each: -each[1])
        )
        or "none"
    )


def _version(
    name: str,
    rows: pd.DataFrame,
    reference: pd.DataFrame | None,
    tested: pd.DataFrame,
    since: float,
    until: float,
    slow_ms: float,
) -> Version:
    reference = None if reference is None or reference.empty else reference
    answered = rows[rows["status"] < 400]
    return Version(
        version=name,
        n=int(rows["n"].sum()),
        answered=len(answered),
        refused=int(rows["n"][rows["status"].between(400, 499)].sum()),
        failed=_failed(rows),
        statuses=_statuses(rows),
        first=float(rows["time"].min()),
        last=float(rows["time"].max()),
        latency_ms={
            key: value
            for key, q in QUANTILES.items()
            if (value := _quantile(answered["latency_ms"], q)) is not None
        },
        slow=int((answered["latency_ms"].astype(float) > slow_ms).sum()),
        confidence=_mean(answered["confidence"]),
        confidence_in_reference=None if reference is None else _mean(reference["confidence"]),
        classes=_classes(
            answered["predicted"], None if reference is None else reference["predicted"]
        ),
        accuracy=_accuracy(answered, reference),
        drift=[
            _windows(size, tested[tested["size"] == size])
            for size in sorted(map(int, tested["size"].unique()))
        ],
        over_time=_slices(rows, since, until),
    )


def _statuses(rows: pd.DataFrame) -> dict[int, int]:
    n_by_status = rows[rows["status"] >= 400].groupby("status")["n"].sum()
    return {int(str(status)): int(n) for status, n in n_by_status.items()}


def _classes(predicted: pd.Series, reference: pd.Series | None) -> list[Share]:
    counts = predicted.value_counts()
    before = None if reference is None else reference.value_counts(normalize=True)
    names = sorted({*counts.index, *([] if before is None else before.index)})
    n = max(int(counts.sum()), 1)
    return [
        Share(
            name=name,
            n=(k := int(counts.get(name, 0))),
            share=k / n,
            reference=None if before is None else float(before.get(name, 0.0)),
        )
        for name in names
    ]


def _accuracy(answered: pd.DataFrame, reference: pd.DataFrame | None) -> Accuracy:
    labelled = answered.dropna(subset=["label", "predicted"])
    right = int((labelled["label"] == labelled["predicted"]).sum())
    low, high = wilson(right, len(labelled))
    confidence = answered["confidence"].dropna().astype(float)
    mean, taken_for_right = (
        accuracy.expected(reference, confidence)
        if reference is not None and len(confidence) >= accuracy.FEWEST
        else (None, None)
    )
    n = len(confidence)
    ends = (None, None) if taken_for_right is None else wilson(taken_for_right, n)
    correct = (
        pd.Series(dtype=bool) if reference is None else reference["label"] == reference["predicted"]
    )
    return Accuracy(
        in_reference=float(correct.mean()) if len(correct) else None,
        in_reference_low=wilson(int(correct.sum()), len(correct))[0],
        by_confidence=mean,
        by_threshold=None if taken_for_right is None else taken_for_right / n,
        by_threshold_low=ends[0],
        by_threshold_high=ends[1],
        labelled=len(labelled),
        right=right,
        low=low,
        high=high,
    )


def _windows(size: int, tested: pd.DataFrame) -> Windows:
    tested = tested.sort_values("end")
    last = tested.iloc[-1]
    below = [
        [name for name, p in ps.items() if p <= level]
        for ps, level in zip(tested["p"], tested["level"], strict=True)
    ]
    alarming = pd.Series([name for names in below for name in names], dtype=object).value_counts()
    return Windows(
        size=size,
        n=len(tested),
        alarms=sum(map(bool, below)),
        level=float(last["level"]),
        last_end=float(last["end"]),
        last_p=last["p"],
        alarming={str(name): int(n) for name, n in alarming.items()},
    )


def _slices(rows: pd.DataFrame, since: float, until: float) -> list[Slice]:
    edges = np.linspace(since, until, SLICES + 1)
    places = np.clip(np.searchsorted(edges, rows["time"], side="right") - 1, 0, SLICES - 1)
    parts = {i: rows[places == i] for i in range(SLICES)}
    return [_slice(float(start), parts[i]) for i, start in enumerate(edges[:-1])]


def _slice(start: float, rows: pd.DataFrame) -> Slice:
    answered = rows[rows["status"] < 400]
    return Slice(
        start=start,
        n=int(rows["n"].sum()),
        failed=_failed(rows),
        p50_ms=_quantile(answered["latency_ms"], 0.5),
        p95_ms=_quantile(answered["latency_ms"], 0.95),
        confidence=_mean(answered["confidence"]),
    )


def _failed(rows: pd.DataFrame) -> int:
    return int(rows["n"][rows["status"] >= 500].sum())


def _quantile(values: Sequence[float] | pd.Series, q: float) -> float | None:
    numbers = pd.Series(values, dtype=float).dropna()
    return float(numbers.quantile(q)) if len(numbers) else None


def _mean(values: pd.Series) -> float | None:
    mean = float(values.astype(float).mean())
    return None if math.isnan(mean) else mean
