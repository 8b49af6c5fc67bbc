"""What label-check found, for people: how often each kind of finding occurs, and the pairs of
images that show most.
"""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

from pipeline.config.schema import Classes
from pipeline.labels.duplicates import Pairs

WHY = "given to different splits", "labels differ", "near-duplicates"

UNTRAINED = "classes without a training image"  # no model can ever say them

Pair = tuple[int, int, float]  # two rows and the cosine of their embeddings


def findings(
    rows: pd.DataFrame,
    pairs: Pairs,
    told: pd.DataFrame,
    leaks: pd.Series,
    *,
    problems: Sequence[str],
    unmatched: int,
    classes: Classes,
    feedback: pd.Series,
) -> pd.DataFrame:
    """A row a kind of finding: finding, n, note. told: the rows of `correlates` that are named;
    leaks: see `splits.leaking`.
    """
    label = rows["label"].to_numpy(dtype=object)
    carried = Counter(key for text in rows["metadata"] for key in json.loads(text))
    counts = rows.loc[rows["split"] != "", "label"].value_counts().sort_index()
    found: list[tuple[str, int, str]] = [
        ("suspect labels", int(rows["suspect"].sum()), ""),
        ("near-duplicate pairs", len(pairs.first), ""),
        (
            "near-duplicate pairs with different labels",
            int((label[pairs.first] != label[pairs.second]).sum()),
            "",
        ),
        *((name.replace("_", " "), int(rows[name].sum()), "") for name in problems),
        ("outliers", int(rows["outlier"].sum()), ""),
        (UNTRAINED, *_untrained(rows)),
        ("classes with few images", *_named(counts[counts < classes.min_images])),
        (
            "classes far smaller than the largest",
            *_named(counts[counts * classes.max_imbalance < counts.max()]),
        ),
        (
            "classes told apart by one property alone",
            len(told),
            "; ".join(_shortcut(row) for row in told.itertuples()),
        ),
        ("decisions applied", int((rows["decision"] != "").sum()), ""),
        ("labels changed by decisions", int((rows["label"] != rows["given_label"]).sum()), ""),
        ("conflicting decisions", int((rows["decision"] == "conflict").sum()), ""),
        ("decisions on images not in the data", unmatched, ""),
        ("images without a label", int((label == "").sum()), ""),
        (
            "groups moved as they were given to several splits",
            int(rows.loc[leaks, "dup_group"].nunique()),
            _share(leaks, rows),
        ),
        ("images that carried a place (GPS)", carried["has_gps"], "left behind in data/ingest"),
        (
            "images that carried other metadata",
            carried["has_metadata"],
            "left behind in data/ingest, but for the camera's model",
        ),
    ]
    if feedback.any():
        n_alike = int(
            (feedback & (rows["split"] == "") & (rows["decision"] != "drop") & (label != "")).sum()
        )
        found += [
            ("feedback images", int(feedback.sum()), ""),
            ("feedback images left out as they are like held-out ones", n_alike, ""),
        ]
    return pd.DataFrame(found, columns=["finding", "n", "note"])


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
        f"{label}: {', '.join(f'{n} {place}' for place, n in found[found > 0].items())}"
        for label, found in places.iterrows()
    ]
    return len(notes), "; ".join(notes)


def _named(counts: pd.Series) -> tuple[int, str]:
    return len(counts), "; ".join(f"{name}: {n}" for name, n in counts.items())


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
