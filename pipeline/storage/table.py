"""The one table: one row per image, as table.parquet. Only this module reads or writes it.

Axes: n rows, k classes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64
from pandas.api.types import is_integer_dtype, is_object_dtype, pandas_dtype

from pipeline.storage import store

FILE = "table.parquet"
GROUP_ROWS = 8192  # in memory while a table is written row by row

INGEST_COLUMNS = {
    "id": "str",
    "name": "str",
    "label": "str",
    "soft_label": "str",
    "group": "str",
    "stratum": "str",
    "given_split": "str",
    "width": "int32",
    "height": "int32",
    "format": "str",
    "n_bytes": "int64",
    "weight": "float64",
    "metadata": "str",
}


def write(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write folder/table.parquet and return the rows as `read` returns them, counted from 0.

    Equal rows give equal bytes. Further columns follow INGEST_COLUMNS. Raises ValueError where a
    column is missing, has a gap, or holds another type.
    """
    checked = _checked(rows)
    whole = _plain(checked)
    _write_parts(
        (whole.slice(start, GROUP_ROWS) for start in range(0, len(whole), GROUP_ROWS)),
        whole.schema,
        folder,
    )
    return checked


def write_each(rows: Iterable[Mapping[str, object]], folder: Path) -> None:
    """The same file from rows of INGEST_COLUMNS that are drawn one by one.

    Only GROUP_ROWS of them are in memory.
    """
    frames = (
        pd.DataFrame(some, columns=[*INGEST_COLUMNS]) for some in store.chunks(rows, GROUP_ROWS)
    )
    none = _plain(_checked(pd.DataFrame(columns=[*INGEST_COLUMNS])))
    _write_parts((_plain(_checked(frame)) for frame in frames), none.schema, folder)


def write_where(source: Path, column: str, values: Sequence[str], folder: Path) -> None:
    """The rows of another stage's table whose column has one of the values.

    Only a part of them is in memory.
    """
    with pq.ParquetFile(source / FILE) as file:
        parts = (
            part.filter(pc.is_in(part[column], pa.array(values)))
            for part in file.iter_batches(GROUP_ROWS)
        )
        _write_parts(map(pa.table, parts), file.schema_arrow, folder)


def read(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of a stage's folder, or those of `columns` that it has, with their dtypes."""
    rows: pd.DataFrame = pq.read_table(folder / FILE, columns=columns).to_pandas()
    return rows if columns else _checked(rows)


def from_feedback(metadata: str) -> bool:
    """Whether a row's metadata says that the image came from production, not from the source."""
    return bool(json.loads(metadata or "{}").get("origin") == "feedback")


def targets(rows: pd.DataFrame, classes: list[str]) -> Float32[np.ndarray, "n k"]:
    """The targets of training: each row sums to 1.

    The soft label where its likeliest class is the label, else one-hot: a person's relabelling
    overrides the probabilities that it contradicts. Raises ValueError for a label outside the
    classes.
    """
    rest = set(rows["label"]) - set(classes)
    if rest:
        raise ValueError(f"labels {sorted(rest)} are none of the classes {classes}")
    pairs = zip(rows["label"], rows["soft_label"], strict=True)
    probabilities = [
        _probabilities(label, json.loads(soft or "{}", parse_int=float)) for label, soft in pairs
    ]
    wide = np.array([[row.get(name, 0.0) for name in classes] for row in probabilities], np.float64)
    # In double precision, where the smallest probability is not yet zero.
    wide = wide.reshape(len(rows), len(classes))
    shares: Float32[np.ndarray, "n k"] = (wide / wide.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def shares(rows: pd.DataFrame, classes: list[str]) -> Float64[np.ndarray, "n k"] | None:
    """The share of each class in an image's label, see `targets`; None if all are certain."""
    return targets(rows, classes).astype(np.float64) if (rows["soft_label"] != "").any() else None


def weights(rows: pd.DataFrame) -> Float64[np.ndarray, " n"] | None:
    """How much each image counts in training, 0 or more; None where all count the same."""
    return rows["weight"].to_numpy(np.float64) if (rows["weight"] != 1).any() else None


def relative(weights: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Scaled to a mean of 1; all zeros stay zeros.

    So learning rate and regularisation mean the same as without weights.
    """
    # Divided by it first, since the sum of huge weights would be infinite.
    largest = weights.max(initial=0.0)
    shares: Float64[np.ndarray, " n"] = weights / largest if largest > 0 else weights
    return shares / shares.mean() if largest > 0 else shares


def _probabilities(label: str, soft: Mapping[str, float]) -> Mapping[str, float]:
    agrees = soft.get(label, 0) > 0 and soft[label] == max(soft.values())
    return soft if agrees else {label: 1.0}


def _plain(rows: pd.DataFrame) -> pa.Table:
    """The rows in one piece, without pandas' metadata, which name its version.

    Strings come from pandas in chunks of any size.
    """
    return (
        pa.Table.from_pandas(rows, preserve_index=False)
        .replace_schema_metadata(None)
        .combine_chunks()
    )


def _write_parts(parts: Iterable[pa.Table], schema: pa.Schema, folder: Path) -> None:
    """Write each part as a row group."""
    folder.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(folder / FILE, schema) as file:
        for part in parts:
            file.write_table(part)


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in INGEST_COLUMNS if name not in rows]
    if missing:
        raise ValueError(f"the table lacks the columns {missing}")
    names = [*INGEST_COLUMNS, *(name for name in rows if name not in INGEST_COLUMNS)]
    return pd.DataFrame({name: _typed(rows[name]) for name in names}).reset_index(drop=True)


def _typed(column: pd.Series) -> pd.Series:
    dtype = INGEST_COLUMNS.get(
        str(column.name), "str" if is_object_dtype(column) else str(column.dtype)
    )
    if dtype == "str" and not all(isinstance(value, str) for value in column):
        raise ValueError(
            f"column {column.name} holds something other than text; none is an empty string"
        )
    if dtype.startswith("int") and len(column) and not is_integer_dtype(column):
        raise ValueError(f"column {column.name} holds something other than whole numbers")
    typed: pd.Series = column.astype(pandas_dtype(dtype))
    if dtype == "int32" and not np.array_equal(typed, column):
        raise ValueError(f"column {column.name} holds numbers too large for {dtype}")
    return typed
