"""What label-check found, for people: how often each kind of finding occurs, and the pairs of
images that show most.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int64

from pipeline.config.schema import LabelCheck
from pipeline.labels.duplicates import Pairs

WHY = "given to different splits", "labels differ", "near-duplicates"

FEW = "from about 30 a class figures mean something, about 100 are a good start"
UNTRAINED = "classes without a training image"  # no model can ever say them

Finding = tuple[str, int, str]
Pair = tuple[int, int, float]  # two rows and the cosine of their embeddings


class Context(NamedTuple):
    """What the findings are counted from, beside the table.

    shortcuts: see `correlates`; leaks and feedback: which rows are in a group that crosses given
    splits, and which came as feedback; unmatched: decisions on images that are not there.
    """

    pairs: Pairs
    shortcuts: pd.DataFrame
    leaks: pd.Series
    feedback: pd.Series
    unmatched: int


def findings(rows: pd.DataFrame, context: Context, settings: LabelCheck) -> pd.DataFrame:
    """One row per kind of finding: finding, n, note."""
    return pd.DataFrame(
        [
            *_of_images(rows, context.pairs, list(settings.quality.model_dump())),
            *_of_classes(rows, context.shortcuts, settings),
            *_of_decisions(rows, context.unmatched),
            *_of_splits(rows, context.leaks),
            *_of_metadata(rows),
            *(_of_feedback(rows, context.feedback) if context.feedback.any() else []),
        ],
        columns=["finding", "n", "note"],
    )


def figures(findings: pd.DataFrame, audited: pd.DataFrame, n_leaking: float) -> dict[str, float]:
    """What DVC and MLflow compare: n_suspect_labels and so on, the audit, groups across splits."""
    names = [re.sub(r"\W+", "_", name).strip("_") for name in findings["finding"]]
    counts = {f"n_{name}": float(n) for name, n in zip(names, findings["n"], strict=True)}
    return {**counts, **_audit_figures(audited), "leaks": n_leaking}


def _audit_figures(audited: pd.DataFrame) -> dict[str, float]:
    """The average precision of each kind and share of planted errors, for DVC and MLflow."""
    return {
        f"audit/average_precision_{row['kind']}_{100 * row['fraction']:.0f}": row[
            "average_precision"
        ]
        for row in audited.to_dict("records")
    }


def _of_images(rows: pd.DataFrame, pairs: Pairs, problems: Sequence[str]) -> list[Finding]:
    label = rows["label"].to_numpy(dtype=object)
    n_differ = int((label[pairs.first] != label[pairs.second]).sum())
    lists = [("suspect labels", rows["suspect"]), ("less suspect labels", rows["less_suspect"])]
    return [
        *((name, int(those.sum()), _expected(rows, those)) for name, those in lists),
        ("near-duplicate pairs", len(pairs.first), ""),
        ("near-duplicate pairs with different labels", n_differ, ""),
        *((name.replace("_", " "), int(rows[name].sum()), "") for name in problems),
        ("outliers", int(rows["outlier"].sum()), ""),
    ]


def _expected(rows: pd.DataFrame, those: pd.Series) -> str:
    """How many of these labels are expected to be wrong, see noise."""
    wrong = rows.loc[those, "chance_wrong"].sum()
    return f"about {wrong:.0f} of them are expected to be wrong" if those.any() else ""


def _of_classes(rows: pd.DataFrame, shortcuts: pd.DataFrame, settings: LabelCheck) -> list[Finding]:
    n = rows.loc[rows["split"] != "", "label"].value_counts().sort_index()
    named = shortcuts[shortcuts["auc"] >= settings.correlates.min_auc]
    small = n[n < settings.classes.min_images]
    far_smaller = n[n * settings.classes.max_imbalance < n.max()]
    telling = "; ".join(_shortcut(row) for row in named.itertuples())
    return [
        (UNTRAINED, *_untrained(rows)),
        ("classes with few images", *_named(small, few=True)),
        ("classes far smaller than the largest", *_named(far_smaller)),
        ("classes told apart by one property alone", len(named), telling),
    ]


def _of_decisions(rows: pd.DataFrame, unmatched: int) -> list[Finding]:
    return [
        ("decisions applied", int((rows["decision"] != "").sum()), ""),
        ("labels changed by decisions", int((rows["label"] != rows["given_label"]).sum()), ""),
        ("conflicting decisions", int((rows["decision"] == "conflict").sum()), ""),
        ("decisions on images not in the data", unmatched, ""),
        ("images without a label", int((rows["label"] == "").sum()), ""),
    ]


def _of_splits(rows: pd.DataFrame, leaks: pd.Series) -> list[Finding]:
    n_moved = int(rows.loc[leaks, "dup_group"].nunique())
    name = "groups moved as they were given to several splits"
    return [(name, n_moved, _share(leaks, rows))]


def _of_metadata(rows: pd.DataFrame) -> list[Finding]:
    carried = Counter(key for text in rows["metadata"] for key in json.loads(text))
    return [
        ("images that carried a place (GPS)", carried["has_gps"], "it stays in data/ingest"),
        (
            "images that carried other metadata",
            carried["has_metadata"],
            "it stays in data/ingest, except the camera's model",
        ),
    ]


def _of_feedback(rows: pd.DataFrame, feedback: pd.Series) -> list[Finding]:
    left_out = (rows["split"] == "") & (rows["decision"] != "drop") & (rows["label"] != "")
    n_alike = int((feedback & left_out).sum())
    return [
        ("feedback images", int(feedback.sum()), ""),
        ("feedback images left out as they are like held-out ones", n_alike, ""),
    ]


def telling_pairs(rows: pd.DataFrame, pairs: Pairs, *, at_most: int) -> list[tuple[str, Pair]]:
    """Why and which: pairs across given splits first, then those whose labels differ, the most
    alike first; one a group.
    """
    given, label, group = (
        rows[name].to_numpy(dtype=object) for name in ("given_split", "label", "dup_group")
    )
    one, other = given[pairs.first], given[pairs.second]
    leak = (one != other) & (one != "") & (other != "")
    why = np.select([leak, label[pairs.first] != label[pairs.second]], [0, 1], 2)
    order = np.lexsort((pairs.second, pairs.first, -pairs.cosine, why))
    _, first_of_group = np.unique(group[pairs.first[order]].astype(str), return_index=True)
    chosen = order[np.sort(first_of_group)]
    shares = _fair(np.bincount(why[chosen], minlength=len(WHY)), at_most)
    kept = [i for reason, n in enumerate(shares) for i in chosen[why[chosen] == reason][:n]]
    return [
        (WHY[why[i]], (int(pairs.first[i]), int(pairs.second[i]), float(pairs.cosine[i])))
        for i in kept
    ]


def _fair(wanted: Int64[np.ndarray, " k"], at_most: int) -> Int64[np.ndarray, " k"]:
    """Places for each kind: one at a time in turn, so that no kind is crowded out."""
    given = np.zeros_like(wanted)
    while given.sum() < min(at_most, wanted.sum()):
        for i in np.flatnonzero(given < wanted)[: at_most - int(given.sum())]:
            given[i] += 1
    return given


def _untrained(rows: pd.DataFrame) -> tuple[int, str]:
    """Classes that no image of the training split has, and where their images are; what people
    dropped is no image of a class.
    """
    labelled = rows[(rows["label"] != "") & (rows["decision"] != "drop")]
    place = labelled["split"].replace("", "left out")
    place = place.mask(place.eq("train") & labelled["weight"].eq(0), "train with weight 0")
    places = pd.crosstab(labelled["label"], place)
    if "train" in places:
        places = places[places["train"] == 0].drop(columns="train")
    notes = [
        f"{label}: {', '.join(f'{n} {place}' for place, n in counts[counts > 0].items())}"
        for label, counts in places.iterrows()
    ]
    return len(notes), "; ".join(notes)


def _named(counts: pd.Series, *, few: bool = False) -> tuple[int, str]:
    named = [f"{name}: {n}" for name, n in counts.items()]
    return len(counts), "; ".join([*named, *[FEW] * (few and bool(named))])


def _shortcut(row: object) -> str:
    label, name, auc, accuracy, majority = (
        getattr(row, key) for key in ("label", "property", "auc", "accuracy", "majority")
    )
    return (
        f"{label} by {name} (AUC {auc:.2f}; right {100 * accuracy:.0f} %, by always saying "
        f"the likelier {100 * majority:.0f} %)"
    )


def _share(leaks: pd.Series, rows: pd.DataFrame) -> str:
    given = int((rows["given_split"] != "").sum())
    return f"{int(leaks.sum())} of {given} images with a given split" if given else ""
