"""Records of predictions like those of a server, and the reference that they are compared with."""

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import schema

CLASSES = ["cat", "dog", "owl"]
MONITOR = schema.Monitor(
    max_rows=10_000,
    hours=24,
    every_s=60,
    max_error_fraction=0.01,
    max_p95_ms=1000,
    drift=schema.Drift(alpha_per_day=0.05, looks_per_day=24, sizes=[50, 200]),
)


def rows(n: int, seed: int, *, brighter: float = 0.0) -> pd.DataFrame:
    """Rows as in reference.parquet; `brighter` shifts brightness by so many standard deviations."""
    random = np.random.default_rng(seed)
    confidence = random.beta(8, 1.5, n)
    label = random.choice(CLASSES, n, p=[0.5, 0.3, 0.2])
    right = random.random(n) < confidence
    sketch = {f"sketch_{i}": random.normal(size=n).astype(np.float32) for i in range(16)}
    return pd.DataFrame(
        {
            "id": [uuid.UUID(bytes=random.bytes(16)).hex for _ in range(n)],
            "label": label,
            "predicted": np.where(right, label, "dog"),
            "confidence": confidence,
            "ood": random.gamma(16, 1 / 16, n),
            **sketch,
            "brightness": random.normal(0.5 + 0.1 * brighter, 0.1, n),
            "sharpness": random.gamma(5, 40, n),
        }
    )


def records(
    of: pd.DataFrame, *, start: float, version: str = "1", every_s: float = 1.0
) -> Iterator[dict[str, Any]]:
    """What the server hands to the recorder for each row."""
    for i, row in enumerate(of.to_dict("records")):
        sketch = [row[f"sketch_{k}"] for k in range(16)]
        same = {key: row[key] for key in ("id", "confidence", "ood", "brightness", "sharpness")}
        yield {
            **same,
            "time": start + i * every_s,
            "version": version,
            "status": 200,
            "latency_ms": 20.0 + i % 10,
            "class": row["predicted"],
            "sketch": sketch,
        }
