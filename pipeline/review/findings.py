"""A snapshot of the findings of label-check and the images from production, for the review page.

Axes: n images, d dimensions of an embedding, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline import FieldmarkError
from pipeline.feedback.inbox import Waiting
from pipeline.storage import csvs, store, table

# Kind of finding -> the column of its score, and whether the lowest score is the worst.
SCORES = {
    "outlier": ("outlier_score", False),
    "dark": ("dark_score", True),
    "bright": ("bright_score", False),
    "blur": ("blur_score", True),
    "low_information": ("low_information_score", True),
    "odd_size": ("n_bytes", True),
    "odd_aspect": ("n_bytes", True),
}
PRESENT = "run `dvc repro label-check` first, in the folder that holds dvc.yaml"


class Shown(NamedTuple):
    """What the page shows of an image beside its pixels."""

    name: str
    label: str
    suggested_label: str
    suspect_score: float


@dataclass(frozen=True)
class Findings:
    """All images of the page, and what is doubtful about them.

    `kinds`: the rows of each kind of finding, the worst first. `twins`: near-duplicates with another
    label. `rows` starts with the rows of the table; images from feedback that are not in the data
    yet follow, without embedding and neighbours. `predicted`: the class that the model in production
    predicted, by row.
    """

    rows: pd.DataFrame
    ids: list[str]
    names: list[str]
    embedding: np.ndarray
    neighbours: np.ndarray
    twins: dict[int, list[int]]
    kinds: dict[str, list[int]]
    row_of: dict[str, int]
    predicted: dict[int, str] = field(default_factory=dict)

    def shown(self, row: int) -> Shown:
        """What the page shows of an image."""
        values = self.rows.iloc[row]
        return Shown(
            name=values["name"],
            label=values["given_label"],
            suggested_label=values["suggested_label"],
            suspect_score=values["suspect_score"],
        )

    def expected_wrong(self, kind: str) -> float | None:
        """How many labels of this kind are expected to be wrong; None for a kind that doubts none."""
        if kind not in ("suspect", "less_suspect"):
            return None
        return float(self.rows["chance_wrong"].iloc[self.kinds[kind]].sum())


def load(folder: Path) -> Findings:
    """The findings in the folder of label-check.

    Raises FieldmarkError where it has not run, or not with this version.
    """
    try:
        rows = table.read(folder)
        embedding, neighbours = (
            store.read_array(folder / f"{name}.npy") for name in ("embedding", "neighbours")
        )
        pairs = csvs.read(folder / "near_duplicates.csv", dtype=str, keep_default_na=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FieldmarkError(f"{error.filename or folder} is missing; {PRESENT}") from error
    if not {"given_label", "chance_wrong", *SCORES} <= {*rows} or len(neighbours) != len(rows):
        raise FieldmarkError(f"{folder} was made by another version; {PRESENT}")
    ids, names = rows["id"].tolist(), rows["name"].tolist()
    row_of = {id: i for i, id in enumerate(ids)}
    twins = _twins(pairs, row_of)
    return Findings(rows, ids, names, embedding, neighbours, twins, _kinds(rows, twins), row_of)


def with_feedback(checked: Findings, waiting: Sequence[Waiting]) -> Findings:
    """Add the kinds `feedback` (a person objected) and `abstained` (the model did), in order.

    An image whose file is in the data keeps its row there. An accepted image that is in the data
    now is left out.
    """
    unseen = {
        each.id: each
        for each in reversed(waiting)
        if not {each.id, each.upload} & checked.row_of.keys()
    }
    new = [*reversed(unseen.values())]
    present = [each for each in waiting if each.upload in checked.row_of and each.label]
    rows = checked.rows.copy()
    for each in present:
        rows.loc[checked.row_of[each.upload], "suggested_label"] = each.label
    rows = pd.concat([rows, _as_rows(new, rows)], ignore_index=True) if new else rows
    ids, names = rows["id"].tolist(), rows["name"].tolist()
    row_of = {id: i for i, id in enumerate(ids)}
    place = {
        each.upload: row_of.get(each.id, row_of.get(each.upload, -1)) for each in [*present, *new]
    }
    kinds = {
        "feedback": [place[each.upload] for each in waiting if each.upload in place and each.label],
        "abstained": [place[each.upload] for each in new if not each.label],
    }
    predicted = {place[each.upload]: each.predicted for each in [*present, *new]}
    return replace(
        checked,
        rows=rows,
        ids=ids,
        names=names,
        row_of=row_of,
        kinds={**checked.kinds, **kinds},
        predicted=predicted,
    )


def _as_rows(waiting: Sequence[Waiting], like: pd.DataFrame) -> pd.DataFrame:
    """Rows of the same columns and types, without findings and labels."""
    blank = {
        name: ""
        if like[name].dtype.kind not in "biuf"
        else False
        if like[name].dtype.kind == "b"
        else 0
        for name in like
    }
    rows = pd.DataFrame(blank, index=range(len(waiting)))
    return rows.assign(
        id=[each.id for each in waiting],
        name=[f"feedback/{each.id[:12]}.png" for each in waiting],
        suggested_label=[each.label or each.predicted for each in waiting],
        suspect_score=[1 - each.confidence for each in waiting],
        width=[each.width for each in waiting],
        height=[each.height for each in waiting],
        n_bytes=[each.n_bytes for each in waiting],
    )


def _twins(pairs: pd.DataFrame, row_of: dict[str, int]) -> dict[int, list[int]]:
    differ = pairs[pairs["label"] != pairs["other_label"]].sort_values(
        "cosine", ascending=False, kind="stable"
    )
    twins: dict[int, list[int]] = {}
    for id, other in zip(differ["id"], differ["other_id"], strict=True):
        first, second = row_of[id], row_of[other]
        twins.setdefault(first, []).append(second)
        twins.setdefault(second, []).append(first)
    return twins


def _kinds(rows: pd.DataFrame, twins: dict[int, list[int]]) -> dict[str, list[int]]:
    ranked = rows.sort_values(["suspect_score", "id"], ascending=[False, True])
    doubted, less = ranked[ranked["suspect"]], ranked[ranked["less_suspect"]]
    kinds = {
        "suspect": doubted.index.tolist(),
        "less_suspect": less.index.tolist(),
        "duplicate": list(twins),
    }
    for name, (score, ascending) in SCORES.items():
        worst_first = rows[rows[name]].sort_values([score, "id"], ascending=[ascending, True])
        kinds[name] = worst_first.index.tolist()
    kinds["unlabelled"] = rows.index[rows["given_label"] == ""].tolist()
    return kinds
