"""Records of predictions as rows of the store: checked, and with text that any store can hold."""

import math
import time
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.exported.signature import SKETCH
from pipeline.monitor import tables

LONGEST_TEXT = 500


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as a row of the table; raises ValueError or TypeError for an invalid one."""
    sketch = record.get("sketch")
    predicted = record.get("class")
    return {
        "id": text(record.get("id") or uuid.uuid4().hex),
        "time": _number(record.get("time")) or time.time(),
        "version": text(record.get("version") or ""),
        "latency_ms": _number(record.get("latency_ms")),
        "status": _status(record.get("status") or 200),
        "class_": None if predicted is None else text(predicted),
        "sketch": None if sketch is None else _sketch(sketch),
        **{name: _number(record.get(name)) for name in tables.FEATURES},
    }


def text_only(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with text that any store can hold."""
    return {key: text(value) if isinstance(value, str) else value for key, value in item.items()}


def _sketch(values: Any) -> bytes:
    with np.errstate(over="ignore"):  # checked below
        sketch = np.asarray(values, dtype="<f4")
    if sketch.shape != (SKETCH,) or not np.isfinite(sketch).all():
        raise ValueError(f"a sketch is {SKETCH} finite numbers")
    return sketch.tobytes()


def _status(value: Any) -> int:
    status = int(value)
    if not 100 <= status < 600:
        raise ValueError(f"{status} is not an HTTP status")
    return status


def text(value: object) -> str:
    """The text without NUL (for PostgreSQL) and lone surrogates (for UTF-8), cut to a length."""
    return str(value).encode("utf-8", "replace").decode().replace("\0", "")[:LONGEST_TEXT]


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None
