"""How often the model is right on parts of the test images."""

import json

import numpy as np
import pandas as pd
from jaxtyping import Bool
from scipy.stats import binomtest

LEVEL = 0.95  # of the intervals; part of the figures' definition, not a setting
MOST_VALUES = 12  # a column of metadata with more distinct values gives no slices


def columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the table that are worth a slice.

    They are the source's metadata with few values, the format, and label-check's findings.
    """
    metadata = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    metadata = metadata.rename(
        columns={name: f"{name} (metadata)" for name in metadata if name in rows}
    )
    few = [column for column in metadata.columns if 1 < metadata[column].nunique() <= MOST_VALUES]
    findings = [
        column for column in rows.columns if rows[column].dtype == bool and rows[column].any()
    ]
    return pd.concat(
        [metadata[few], rows[[*(["format"] if rows["format"].nunique() > 1 else []), *findings]]],
        axis=1,
    )


def slices(rows: pd.DataFrame, correct: Bool[np.ndarray, " n"], *, min_n: int) -> pd.DataFrame:
    """Columns slice, n, accuracy, low, high (95 % interval of Wilson 1927), worst slice first.

    A slice is one value of one column, such as "dark = yes". Empty values and slices of fewer than
    `min_n` images are left out.
    """
    members: dict[str, np.ndarray] = {}
    for column in rows.columns:
        spelled = rows[column].astype(object).map(_spelled, na_action="ignore").fillna("")
        members |= {
            f"{column} = {value}": spelled.eq(value).to_numpy(dtype=bool)
            for value in spelled.unique()
            if value
        }
    table = pd.DataFrame(
        [
            _slice(name, correct[member])
            for name, member in members.items()
            if member.sum() >= max(min_n, 1)
        ],
        columns=["slice", "n", "accuracy", "low", "high"],
    )
    return table.sort_values(["accuracy", "slice"], ignore_index=True)


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); 0 to 1 without a case."""
    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def _spelled(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _slice(name: str, correct: Bool[np.ndarray, " m"]) -> dict[str, str | int | float]:
    low, high = wilson(int(correct.sum()), len(correct))
    return {
        "slice": name,
        "n": len(correct),
        "accuracy": float(correct.mean()),
        "low": low,
        "high": high,
    }
