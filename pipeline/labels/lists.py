"""What label-check finds, written as lists for people, with pictures of the first cases.

suspects.csv   the doubtful labels, most doubtful first: id, name, label, suggested_label,
               suspect_score; list: "suspect" or, after those, "less_suspect"; expected_wrong: how many
               of the labels down to this one are expected to be wrong
outliers.csv   the images unlike all others, the strangest first: id, name, label, outlier_score
pairs.csv      the near-duplicates that show most: why, name, other, label, other_label, cosine
suspects.npy, outliers.npy, pairs.npy
               uint8 (n, size_px, size_px, 3): pictures of the first suspects and outliers, and of
               both sides of pairs (n, 2, ...), for the report; suspects.png shows the suspects
near_duplicates.csv
               pairs: name, other, label, other_label, cosine, id, other_id
classes.csv    images of each class, in all and by split
correlates.csv how well one property alone tells a class: property, label, auc, accuracy, majority
audit.csv      how well planted label errors are found; see labels/audit
findings.csv   how often each kind of finding occurs: finding, n, note
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.labels import scan, summary
from pipeline.labels.duplicates import Pairs
from pipeline.pixels import sheets
from pipeline.storage import csvs

# How many of each kind have a picture.
SUSPECTS = 24
PAIRS = 12
OUTLIERS = 6


def write(rows: pd.DataFrame, pairs: Pairs, squares: scan.Squares, out: Path) -> None:
    """suspects, outliers, near-duplicates and classes, as the stage's docstring says. rows: the
    whole table of label-check.
    """
    _write_suspects(rows, squares, out)
    _write_outliers(rows, squares, out)
    _write_pairs(rows, pairs, squares, out)
    counts = pd.crosstab(rows["label"], rows["split"].replace("", "left out"))
    csvs.write(counts.assign(all=counts.sum(axis=1)).reset_index(), out / "classes.csv")


def write_findings(out: Path, **frames: pd.DataFrame) -> None:
    """The frames as <name>.csv; classes that no model can learn are named on the screen, too, where
    someone may still put that right.
    """
    for name, frame in frames.items():
        csvs.write(frame, out / f"{name}.csv")
    untrained = frames["findings"].set_index("finding").loc[summary.UNTRAINED]
    if untrained["n"]:
        print(f"{summary.UNTRAINED}: {untrained['note']}", flush=True)


def _write_suspects(rows: pd.DataFrame, squares: scan.Squares, out: Path) -> None:
    named = rows[rows["suspect"] | rows["less_suspect"]].sort_values(
        ["suspect", "suspect_score", "id"], ascending=[False, False, True]
    )
    named = named.assign(
        list=np.where(named["suspect"], "suspect", "less_suspect"),
        expected_wrong=named["chance_wrong"].cumsum().round(1),
    )
    columns = ["id", "name", "label", "suggested_label", "suspect_score", "list", "expected_wrong"]
    csvs.write(named[columns], out / "suspects.csv")
    first = named[named["suspect"]].head(SUSPECTS)
    pictures = squares.stack(first.index.to_numpy())
    np.save(out / "suspects.npy", pictures)
    captions = [
        f"{label}? {suggested}"
        for label, suggested in zip(first["label"], first["suggested_label"], strict=True)
    ]
    if captions:
        (out / "suspects.png").write_bytes(
            sheets.sheet(list(pictures), captions, columns=6, cell_px=160)
        )


def _write_outliers(rows: pd.DataFrame, squares: scan.Squares, out: Path) -> None:
    strange = rows[rows["outlier"]].sort_values(["outlier_score", "id"], ascending=[False, True])
    csvs.write(strange[["id", "name", "label", "outlier_score"]], out / "outliers.csv")
    np.save(out / "outliers.npy", squares.stack(strange.head(OUTLIERS).index.to_numpy()))


def _write_pairs(rows: pd.DataFrame, pairs: Pairs, squares: scan.Squares, out: Path) -> None:
    id, name, label = (rows[column].to_numpy() for column in ("id", "name", "label"))
    columns = ["name", "other", "label", "other_label", "cosine"]
    i, j = pairs.first, pairs.second
    alike = dict(
        zip(
            columns, (name[i], name[j], label[i], label[j], pairs.cosine.astype(float)), strict=True
        )
    )
    both = pd.DataFrame({**alike, "id": id[i], "other_id": id[j]})
    csvs.write(both, out / "near_duplicates.csv")
    pairs_shown = summary.telling_pairs(rows, pairs, at_most=PAIRS)
    lines = [
        (why, name[i], name[j], label[i], label[j], cosine) for why, (i, j, cosine) in pairs_shown
    ]
    csvs.write(pd.DataFrame(lines, columns=["why", *columns]), out / "pairs.csv")
    sides = np.array([(i, j) for _, (i, j, _) in pairs_shown], np.int64).reshape(-1, 2)
    pictures = squares.stack(sides.ravel())
    np.save(out / "pairs.npy", pictures.reshape(*sides.shape, *pictures.shape[1:]))
