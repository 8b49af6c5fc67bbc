"""Which labels of the table are doubted, and which rows are left out for that."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.schema import Errors
from pipeline.labels import errors, suspects

SETTLED = ("keep", "relabel")  # decisions after which a label is no longer doubted
BLANK: dict[str, Any] = {
    "suspect": False,
    "less_suspect": False,
    "suspect_score": 0.0,
    "chance_wrong": 0.0,
    "suggested_label": "",
}


def doubt(rows: pd.DataFrame, features: errors.Features, limits: Errors, seed: int) -> pd.DataFrame:
    """The rows with suspect, less_suspect, suspect_score, chance_wrong and suggested_label.

    features: one row per row of the table. What a person kept or changed is no longer doubted.
    """
    labelled = rows["label"] != ""
    return _doubted(rows, features, labelled, limits, seed)


def drop(rows: pd.DataFrame, features: errors.Features, limits: Errors, seed: int) -> pd.DataFrame:
    """The rows, where suspects of train and val have no split any more.

    They are judged by train and val alone. A label of a test image must not decide which images a
    model learns from, or the test would no longer be one.
    """
    learned_from = rows["split"].isin(["train", "val"]) & (rows["label"] != "")
    judged = _doubted(rows, features, learned_from, limits, seed)
    return rows.assign(split=rows["split"].mask(judged["suspect"] & learned_from, ""))


def _doubted(
    rows: pd.DataFrame, features: errors.Features, of: pd.Series, limits: Errors, seed: int
) -> pd.DataFrame:
    names, labelling = errors.labelling(rows[of])
    probs = errors.out_of_fold(
        features, labelling, folds=limits.folds, C=limits.C, seed=seed, rows=np.flatnonzero(of)
    )
    verdicts = suspects.named(labelling, probs, max_fraction=limits.max_fraction)
    settled = rows.loc[of, "decision"].isin(SETTLED)
    rows = rows.assign(**BLANK)
    for name in ("suspect", "less_suspect"):
        rows.loc[of, name] = verdicts[name].to_numpy() & ~settled
    rows.loc[of, "suspect_score"] = verdicts["suspect_score"].to_numpy()
    rows.loc[of, "chance_wrong"] = verdicts["chance_wrong"].to_numpy() * ~settled
    rows.loc[of, "suggested_label"] = [names[i] for i in verdicts["suggested"]]
    return rows
