"""label-check: data/ingest + data/decisions -> data/label-check.

Images that came as feedback are never held out: see splits.add.

table.parquet  the table + given_label (before any decision), dup_group, split, decision, suspect,
               suspect_score,
               suggested_label, outlier, outlier_score, quality scores and problems
suspects.csv   the doubtful labels, most doubtful first: id, name, label, suggested_label,
               suspect_score
outliers.csv   the images unlike all others, the strangest first: id, name, label, outlier_score
pairs.csv      the near-duplicates that show most: why, name, other, label, other_label, cosine
suspects.npy, outliers.npy, pairs.npy  uint8 (n, size_px, size_px, 3): pictures of the first
                                       suspects and outliers, and of
               both sides of pairs (n, 2, ...), for the report; suspects.png shows the suspects
near_duplicates.csv  pairs: name, other, label, other_label, cosine, id, other_id
embedding.npy  float16 (n, d), row i is row i of the table; neighbours.npy  int32 (n, k), rows of
               the most alike, the nearest first
classes.csv    images a class, in all and by split
correlates.csv how well one property alone tells a class: property, label, auc, accuracy, majority
audit.csv      how well planted label errors are found; see labels/audit.py
findings.csv   how often each kind of finding occurs: finding, n, note
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.features import cache
from pipeline.labels import (
    audit,
    correlates,
    duplicates,
    errors,
    lists,
    neighbours,
    outliers,
    quality,
    scan,
    splits,
    summary,
)
from pipeline.labels import decisions as people
from pipeline.storage import table


def run(cfg: Config, *, ingest: Path, decisions: Path, out: Path) -> dict[str, float]:
    """Doubt every label and look at every image, apply what people decided, and deal the images
    into splits.

    Raises FieldmarkError where given splits share more than label_check.max_leakage of their
    images.
    """
    settings = cfg.label_check
    decided = people.read(decisions)
    # First of all: nothing takes as much memory as the network, so what grows with the images comes
    # after it.
    looked = scan.looks(ingest, size_px=settings.size_px, blur_faces=cfg.blur_faces)
    squares = scan.Squares(ingest, size_px=settings.size_px, blur_faces=cfg.blur_faces)
    seen = cache.write_features(
        cfg.embedding.extractor, squares, out / "embedding.npy", looked["key"], seed=cfg.seed
    )
    given = table.read(ingest)
    rows = people.apply(given, decided).assign(given_label=given["label"])
    rows = _judged(rows, looked["scores"], settings.quality.model_dump())
    pairs = duplicates.near_duplicates(
        np.ascontiguousarray(looked["hash"]), seen, **settings.duplicates.model_dump()
    )
    feedback = rows["metadata"].map(table.from_feedback)
    rows, together = _grouped(rows, pairs, feedback)
    near = neighbours.nearest(seen, k=settings.neighbours)
    far = outliers.distances(seen, near)
    rows = rows.assign(
        outlier_score=far, outlier=outliers.outliers(far, **settings.outliers.model_dump())
    )
    rows, leaks = splits.dealt(_doubt(rows, seen, cfg), together, feedback, settings, seed=cfg.seed)
    rows = table.write(rows, out)
    np.save(out / "neighbours.npy", near)
    shortcuts = correlates.correlates(
        rows[rows["split"] != ""], ignore=settings.correlates.ignore, seed=cfg.seed
    )
    found = summary.findings(
        rows,
        pairs,
        shortcuts[shortcuts["auc"] >= settings.correlates.min_auc],
        leaks,
        problems=list(settings.quality.model_dump()),
        unmatched=people.unmatched(rows, decided),
        classes=settings.classes,
        feedback=feedback,
    )
    how = settings.audit.model_dump()
    audited = audit.of_table(rows, seen, cfg, **how)
    lists.write(rows, pairs, squares, out)
    lists.write_findings(out, findings=found, correlates=shortcuts, audit=audited)
    counts = {
        f"n_{_key(name)}": float(n) for name, n in zip(found["finding"], found["n"], strict=True)
    }
    good = {
        f"audit/average_precision_{one['kind']}_{100 * one['fraction']:.0f}": one[
            "average_precision"
        ]
        for one in audited.to_dict("records")
    }
    return {**counts, **good, "leaks": float(rows.loc[leaks, "dup_group"].nunique())}


def _key(finding: str) -> str:
    return re.sub(r"\W+", "_", finding).strip("_")


def _judged(rows: pd.DataFrame, scores: np.ndarray, limits: dict[str, float]) -> pd.DataFrame:
    """The rows with quality scores and problems as columns."""
    scored = pd.DataFrame(scores, columns=quality.FIGURES, index=rows.index)
    wrong = quality.problems(pd.concat([scored, rows[["width", "height"]]], axis=1), **limits)
    return pd.concat([rows, scored.add_suffix("_score"), wrong], axis=1)


def _grouped(
    rows: pd.DataFrame, pairs: duplicates.Pairs, feedback: pd.Series
) -> tuple[pd.DataFrame, pd.Series]:
    """Rows with dup_group, and what is tied to what when feedback images count, too.

    They must not move any other image to another split, so dup_group is made without them, and they
    join one.
    """
    came = feedback.to_numpy(bool)
    without = ~(came[pairs.first] | came[pairs.second])
    own = duplicates.Pairs(pairs.first[without], pairs.second[without], pairs.cosine[without])
    ids, given = rows["id"].tolist(), rows["group"].tolist()
    together, alone = (
        pd.Series(duplicates.groups(len(rows), some, given, ids), rows.index)
        for some in (pairs, own)
    )
    joined = together.map(alone[~feedback].groupby(together[~feedback]).min()).fillna(together)
    return rows.assign(dup_group=alone.where(~feedback, joined).astype(str)), together


def _doubt(rows: pd.DataFrame, seen: np.ndarray, cfg: Config) -> pd.DataFrame:
    """Suspect labels by confident learning; what a person kept or changed is no longer doubted."""
    labelled, limits = rows["label"] != "", cfg.label_check.errors
    names, said = errors.labelling(rows[labelled])
    probs = errors.out_of_fold(
        seen, said, folds=limits.folds, C=limits.C, seed=cfg.seed, rows=np.flatnonzero(labelled)
    )
    found = errors.suspects(said, probs, max_fraction=limits.max_fraction)
    rows = rows.assign(suspect=False, suspect_score=0.0, suggested_label="")
    rows.loc[labelled, "suspect"] = found["suspect"].to_numpy() & ~rows.loc[
        labelled, "decision"
    ].isin(["keep", "relabel"])
    rows.loc[labelled, "suspect_score"] = found["suspect_score"].to_numpy()
    rows.loc[labelled, "suggested_label"] = [names[i] for i in found["suggested"]]
    return rows
