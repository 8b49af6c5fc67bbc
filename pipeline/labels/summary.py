"""What label-check found, for people: counts with a word on each, and which pairs of images show it best."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

from pipeline.labels.duplicates import Pair
from pipeline.schema import Classes

LEAK, DIFFER, ALIKE = "given to different splits", "labels differ", "near-duplicates"


def findings(
    rows: pd.DataFrame, pairs: Sequence[Pair], told: pd.DataFrame, leaks: pd.Series, *, problems: Sequence[str], unmatched: int,
    classes: Classes, feedback: pd.Series,
) -> pd.DataFrame:  # fmt: skip
    """A row a kind of finding: finding, n, note. told: the rows of `correlates` that are named; leaks: see `splits.leaking`."""
    label = rows["label"].to_numpy(dtype=object)
    carried = [json.loads(text) for text in rows["metadata"]]
    counts = rows.loc[rows["split"] != "", "label"].value_counts().sort_index()
    found: list[tuple[str, int, str]] = [
        ("suspect labels", int(rows["suspect"].sum()), ""),
        ("near-duplicate pairs", len(pairs), ""),
        ("near-duplicate pairs with different labels", sum(label[i] != label[j] for i, j, _ in pairs), ""),
        *((name.replace("_", " "), int(rows[name].sum()), "") for name in problems),
        ("outliers", int(rows["outlier"].sum()), ""),
        ("classes with few images", *_named(counts[counts < classes.min_images])),
        ("classes far smaller than the largest", *_named(counts[counts * classes.max_imbalance < counts.max()])),
        ("classes told apart by one property alone", len(told), "; ".join(_shortcut(row) for row in told.itertuples())),
        ("decisions applied", int((rows["decision"] != "").sum()), ""),
        ("labels changed by decisions", int((rows["label"] != rows["given_label"]).sum()), ""),
        ("conflicting decisions", int((rows["decision"] == "conflict").sum()), ""),
        ("decisions on images not in the data", unmatched, ""),
        ("images without a label", int((label == "").sum()), ""),
        ("groups moved as they were given to several splits", int(rows.loc[leaks, "dup_group"].nunique()), _share(leaks, rows)),
        ("images that carried a place (GPS)", sum("has_gps" in row for row in carried), "left behind in data/ingest"),
        ("images that carried other metadata", sum("has_metadata" in row for row in carried), "left behind in data/ingest, but for the camera's model"),
    ]
    if feedback.any():
        n_alike = int((feedback & (rows["split"] == "") & (rows["decision"] != "drop") & (label != "")).sum())
        found += [("feedback images", int(feedback.sum()), ""), ("feedback images left out as they are like held-out ones", n_alike, "")]
    return pd.DataFrame(found, columns=["finding", "n", "note"])


def telling_pairs(rows: pd.DataFrame, pairs: Sequence[Pair], *, at_most: int) -> list[tuple[str, Pair]]:
    """Why and which: pairs across given splits first, then those whose labels differ, the most alike first; one a group."""
    given, label, group = (rows[name].to_numpy(dtype=object) for name in ("given_split", "label", "dup_group"))

    def why(pair: Pair) -> str:
        i, j, _ = pair
        if given[i] and given[j] and given[i] != given[j]:
            return LEAK
        return DIFFER if label[i] != label[j] else ALIKE

    order = [LEAK, DIFFER, ALIKE]
    reasons = sorted(((why(pair), pair) for pair in pairs), key=lambda one: (order.index(one[0]), -one[1][2], one[1][:2]))
    chosen: dict[str, tuple[str, Pair]] = {}
    for reason, pair in reasons:
        chosen.setdefault(group[pair[0]], (reason, pair))
    kept = [[one for one in chosen.values() if one[0] == reason] for reason in order]
    shares = _fair(np.array([len(some) for some in kept]), at_most)
    return [one for some, n in zip(kept, shares, strict=True) for one in some[:n]]


def _fair(wanted: Int64[np.ndarray, " k"], at_most: int) -> Int64[np.ndarray, " k"]:
    """Places for each kind: one at a time in turn, so that no kind is crowded out."""
    given = np.zeros_like(wanted)
    while given.sum() < min(at_most, wanted.sum()):
        for i in np.flatnonzero(given < wanted)[: at_most - int(given.sum())]:
            given[i] += 1
    return given


def _named(counts: pd.Series) -> tuple[int, str]:
    return len(counts), "; ".join(f"{name}: {n}" for name, n in counts.items())


def _shortcut(row: object) -> str:
    label, name, auc, accuracy, majority = (getattr(row, key) for key in ("label", "property", "auc", "accuracy", "majority"))
    return f"{label} by {name} (AUC {auc:.2f}; right {100 * accuracy:.0f} %, by always saying the likelier {100 * majority:.0f} %)"


def _share(leaks: pd.Series, rows: pd.DataFrame) -> str:
    given = int((rows["given_split"] != "").sum())
    return f"{int(leaks.sum())} of {given} images with a given split" if given else ""
