"""label-check: data/ingest + data/decisions -> data/label-check.

table.parquet  the table + given_label (before any decision), dup_group, split, decision, suspect,
               less_suspect, suspect_score, chance_wrong, suggested_label, outlier, outlier_score, quality scores and problems
embedding.npy  float16 (n, d), row i is row i of the table
neighbours.npy int32 (n, k), rows of the most alike, the nearest first
The lists for people, with pictures: see labels/lists.
"""

from pathlib import Path

import numpy as np

from pipeline.config import Config
from pipeline.features import cache
from pipeline.labels import (
    audit,
    correlates,
    doubts,
    duplicates,
    grouping,
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
    """Doubt labels, look at images, apply people's decisions, deal the images into splits.

    Raises FieldmarkError where given splits share more than label_check.max_leakage of their
    images.
    """
    settings = cfg.label_check
    decided = people.read(decisions)
    # The network takes most memory, so what grows with the images comes after it.
    scans = scan.looks(ingest, size_px=settings.size_px, blur_faces=cfg.blur_faces)
    squares = scan.Squares(ingest, size_px=settings.size_px, blur_faces=cfg.blur_faces)
    embedding = cache.write_features(
        cfg.embedding.extractor, squares, out / "embedding.npy", scans["key"], seed=cfg.seed
    )
    given = table.read(ingest)
    rows = people.apply(given, decided).assign(given_label=given["label"])
    rows = quality.judged(rows, scans["scores"], settings.quality.model_dump())
    pairs = duplicates.near_duplicates(
        np.ascontiguousarray(scans["hash"]), embedding, **settings.duplicates.model_dump()
    )
    feedback = rows["metadata"].map(table.from_feedback)
    rows, together = grouping.grouped(rows, pairs, feedback)
    near = neighbours.nearest(embedding, k=settings.neighbours)
    rows = outliers.judged(rows, embedding, near, settings.outliers)
    rows = doubts.doubt(rows, embedding, settings.errors, cfg.seed)
    rows, leaks = splits.dealt(rows, together, feedback, settings, seed=cfg.seed)
    if settings.drop_suspects:
        rows = doubts.drop(rows, embedding, settings.errors, cfg.seed)
    rows = table.write(rows, out)
    np.save(out / "neighbours.npy", near)
    shortcuts = correlates.correlates(
        rows[rows["split"] != ""], ignore=settings.correlates.ignore, seed=cfg.seed
    )
    context = summary.Context(pairs, shortcuts, leaks, feedback, people.unmatched(rows, decided))
    findings = summary.findings(rows, context, settings)
    audited = audit.of_table(rows, embedding, cfg, **settings.audit.model_dump())
    lists.write(rows, pairs, squares, out)
    lists.write_findings(out, findings=findings, correlates=shortcuts, audit=audited)
    return summary.figures(findings, audited, splits.n_leaking(rows, leaks))
