"""Numbers and tables as text for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

DASH = "–"
SHARES = {"accuracy", "f1_macro", "f1_weighted"}
LATENCIES = {"p50_ms": "ms per photo", "batch_ms": "ms per photo, in a batch"}
SPLITS = {"train": "training", "val": "validation", "test": "test"}
METRICS = {
    "f1_macro": "macro F1",
    "f1_weighted": "weighted F1",
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
    "mcc": "Matthews\u2019 correlation",
    "ece": "calibration error (ECE)",
}
SHARES |= {"balanced_accuracy", "top3_accuracy", "largest_class", "worst_recall", "set_coverage"}
SHARES.add("accuracy_smoothed")


@dataclass(frozen=True)
class Table:
    """Cells as text; `numeric` says which columns are right-aligned."""

    columns: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[str]]


def share(value: float, digits: int = 1) -> str:
    """A fraction in percent."""
    return DASH if np.isnan(value) else f"{100 * value:.{digits}f}\u202f%"


def short_number(value: float) -> str:
    """Three significant digits."""
    return DASH if np.isnan(value) else f"{value:.3g}"


def figure(value: float, metric: str) -> str:
    """A metric as text: shares in percent, the others with three decimals."""
    return share(value) if metric in SHARES else f"{value:.3f}"


def table(frame: pd.DataFrame) -> Table:
    """A data frame as text."""
    columns = [_heading(str(column)) for column in frame.columns]
    numeric = [
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        for kind in frame.dtypes
    ]
    cells = [_cells(frame[column]) for column in frame.columns]
    return Table(columns, numeric, list(zip(*cells, strict=True)))


def _heading(column: str) -> str:
    split, _, name = column.rpartition("/")
    if split == "latency":
        return LATENCIES.get(name, name.replace("_", " "))
    if split in SPLITS:
        return f"{METRICS.get(name, name.replace('_', ' '))} ({SPLITS[split]})"
    if column in METRICS:
        return METRICS[column]
    if "." in column:  # the key of a setting, to be copied into params.yaml
        return column
    return "count" if column == "n" else column.removeprefix("n_").replace("_", " ")


def _cells(column: pd.Series) -> list[str]:
    """The cells of a column; shares and scores have three decimals, so that rows compare."""
    if pd.api.types.is_float_dtype(column):
        return [
            DASH if np.isnan(value) else format(value, _float_format(column)) for value in column
        ]
    if pd.api.types.is_integer_dtype(column):
        return [f"{value:,}" for value in column]
    return [
        {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        for value in column
    ]


def _float_format(column: pd.Series) -> str:
    sizes = column.abs()
    if sizes.between(0, 0.01, inclusive="neither").any():
        return ".2g"
    return ".3f" if sizes.max() <= 1 else ".1f"


def strongest(attacks: pd.DataFrame) -> pd.DataFrame:
    """Clean against robust accuracy: what is left after all attacks at each radius, 0 being clean."""
    last = attacks.drop_duplicates("severity", keep="last")
    columns = ["severity", "n", "accuracy", "low", "high", "balanced_accuracy", "largest_class"]
    return last[columns].rename(columns={"severity": "radius"})
