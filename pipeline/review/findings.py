"""What label-check found, as the review page shows it: a snapshot of data/label-check.

Axes: n images, d numbers an embedding, k neighbours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import store, table
from pipeline.errors import FieldmarkError

# Kind of finding -> the score that says how bad, and whether the lowest is the worst.
QUALITY = {
    "dark": ("dark_score", True),
    "bright": ("bright_score", False),
    "blur": ("blur_score", True),
    "low_information": ("low_information_score", True),
    "odd_size": ("n_bytes", True),
    "odd_aspect": ("n_bytes", True),
}
PRESENT = "run `dvc repro label-check` first"


@dataclass(frozen=True)
class Findings:
    """`kinds`: rows of each kind of finding, the worst first; `twins`: near-duplicates that bear another label."""

    rows: pd.DataFrame
    ids: list[str]
    names: list[str]
    embedding: np.ndarray
    neighbours: np.ndarray
    twins: dict[int, list[int]]
    kinds: dict[str, list[int]]
    row_of: dict[str, int]


def load(folder: Path) -> Findings:
    """Raises FieldmarkError where label-check has not run, or not with this version."""
    try:
        rows = table.read(folder)
        embedding, neighbours = (store.read_array(folder / f"{name}.npy") for name in ("embedding", "neighbours"))
        pairs = pd.read_csv(folder / "near_duplicates.csv", dtype=str, keep_default_na=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FieldmarkError(f"{error.filename or folder} is missing; {PRESENT}") from error
    if "given_label" not in rows or len(neighbours) != len(rows):
        raise FieldmarkError(f"{folder} was made by another version; {PRESENT}")
    ids, names = rows["id"].tolist(), rows["name"].tolist()
    row_of = {id: i for i, id in enumerate(ids)}
    twins = _twins(pairs, row_of)
    return Findings(rows, ids, names, embedding, neighbours, twins, _kinds(rows, twins), row_of)


def _twins(pairs: pd.DataFrame, row_of: dict[str, int]) -> dict[int, list[int]]:
    differ = pairs[pairs["label"] != pairs["other_label"]].sort_values("cosine", ascending=False, kind="stable")
    twins: dict[int, list[int]] = {}
    for id, other in zip(differ["id"], differ["other_id"], strict=True):
        first, second = row_of[id], row_of[other]
        twins.setdefault(first, []).append(second)
        twins.setdefault(second, []).append(first)
    return twins


def _kinds(rows: pd.DataFrame, twins: dict[int, list[int]]) -> dict[str, list[int]]:
    doubted = rows[rows["suspect"]].sort_values(["suspect_score", "id"], ascending=[False, True])
    kinds = {"suspect": doubted.index.tolist(), "duplicate": list(twins)}
    for name, (score, ascending) in QUALITY.items():
        found = rows[rows[name]].sort_values([score, "id"], ascending=[ascending, True])
        kinds[name] = found.index.tolist()
    kinds["unlabelled"] = rows.index[rows["given_label"] == ""].tolist()
    return kinds
