"""label-check: data/ingest + data/decisions -> data/label-check.

table.parquet  the table + given_label (before any decision), dup_group, split, decision, suspect, suspect_score,
               suggested_label, quality scores and problems
suspects.csv   the doubtful labels, most doubtful first: id, name, label, suggested_label, suspect_score
suspects.npy   uint8 (n, size_px, size_px, 3): pictures of the first of them, for the report; suspects.png shows them
near_duplicates.csv  pairs: name, other, label, other_label, cosine, id, other_id
embedding.npy  float16 (n, d), row i is row i of the table; neighbours.npy  int32 (n, k), rows of the most alike, the nearest first
classes.csv    images a class, in all and by split
findings.csv   how often each kind of finding occurs: finding, n
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import config, images, sheets, store, table
from pipeline.config import Config
from pipeline.features import cache
from pipeline.labels import decisions as people
from pipeline.labels import duplicates, errors, neighbours, quality, splits

SHOWN = 24


def run(cfg: Config, *, ingest: Path, decisions: Path, out: Path) -> dict[str, float]:
    """Doubt every label and look at every image, apply what people decided, and deal the images into splits."""
    settings = cfg.label_check
    decided = people.read(decisions)
    given = table.read(ingest)
    rows = people.apply(given, decided).assign(given_label=given["label"])
    squares = store.open_array(out / "squares.npy", (len(rows), settings.size_px, settings.size_px, 3), np.uint8)
    rows, hashes = _measure(rows, ingest, squares, settings.quality.model_dump())
    seen = cache.features(config.build(cfg.embedding.features).eval(), squares, symmetry="none")[:, 0].astype(np.float32)
    pairs = duplicates.near_duplicates(hashes, seen, **settings.duplicates.model_dump())
    rows = rows.assign(dup_group=duplicates.groups(len(rows), pairs, rows["group"].tolist(), rows["id"].tolist()))
    rows = _doubt(rows, seen, cfg)
    left_out = (rows["decision"] == "drop") | (rows["label"] == "")
    rows = rows.assign(split="")
    leaks = splits.leaks(rows[~left_out])
    rows.loc[~left_out, "split"] = splits.deal(rows[~left_out], fractions=settings.fractions.model_dump(), seed=cfg.seed)
    if settings.drop_suspects:
        rows.loc[rows["suspect"] & (rows["split"] != "test"), "split"] = ""
    rows = table.write(rows, out)
    found = _findings(rows, pairs, list(settings.quality.model_dump()))
    found |= {"groups moved as they were given to several splits": leaks, "decisions on images not in the data": people.unmatched(rows, decided)}
    np.save(out / "embedding.npy", seen.astype(np.float16))
    np.save(out / "neighbours.npy", neighbours.nearest(seen, k=settings.neighbours))
    _report(rows, pairs, squares, found, out)
    (out / "squares.npy").unlink()
    return {f"n_{key.replace(' ', '_').replace('-', '_')}": float(n) for key, n in found.items()}


def _measure(
    rows: pd.DataFrame, ingest: Path, squares: np.ndarray, limits: dict[str, float]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Fill the squares; quality scores and problems as columns, and the perceptual hashes."""
    look = partial(_look, size_px=squares.shape[1])
    looked: list[tuple[np.ndarray, dict[str, float]]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(rows), desc="quality", unit="image", mininterval=1) as progress:
        for chunk in store.chunks(store.read_images(ingest, batch=64), 256):
            for square, fingerprint, scores in pool.map(look, [data for _, data in chunk]):
                squares[len(looked)] = square
                looked.append((fingerprint, scores))
                progress.update()
    scored = pd.DataFrame([scores for _, scores in looked], index=rows.index)
    wrong = quality.problems(pd.concat([scored, rows[["width", "height"]]], axis=1), **limits)
    return pd.concat([rows, scored.add_suffix("_score"), wrong], axis=1), np.stack([fingerprint for fingerprint, _ in looked])


def _look(data: bytes, *, size_px: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    pixels = images.decode(data, max_pixels=None)  # ingest kept nothing too large
    square = images.square(
        pixels, size_px=size_px, fit="stretch", denoise=0.0, clahe=0.0, normalise_brightness=False
    )
    return square, duplicates.perceptual_hash(pixels), quality.scores(pixels)


def _doubt(rows: pd.DataFrame, seen: np.ndarray, cfg: Config) -> pd.DataFrame:
    """Suspect labels by confident learning; what a person kept or changed is no longer doubted."""
    names = sorted(set(rows["label"]) - {""})
    labelled = rows["label"] != ""
    labels = rows.loc[labelled, "label"].map({name: i for i, name in enumerate(names)}).to_numpy(np.int64)
    limits = cfg.label_check.errors
    probs = errors.out_of_fold(
        seen[labelled.to_numpy()], labels, rows.loc[labelled, "dup_group"].tolist(), folds=limits.folds, C=limits.C, seed=cfg.seed
    )
    found = errors.suspects(labels, probs, max_fraction=limits.max_fraction)
    rows = rows.assign(suspect=False, suspect_score=0.0, suggested_label="")
    rows.loc[labelled, "suspect"] = found["suspect"].to_numpy() & ~rows.loc[labelled, "decision"].isin(["keep", "relabel"])
    rows.loc[labelled, "suspect_score"] = found["suspect_score"].to_numpy()
    rows.loc[labelled, "suggested_label"] = [names[i] for i in found["suggested"]]
    return rows


def _findings(rows: pd.DataFrame, pairs: list[duplicates.Pair], problems: list[str]) -> dict[str, int]:
    label = rows["label"].to_numpy()
    bad = {name: int(rows[name].sum()) for name in problems}
    return {
        "suspect labels": int(rows["suspect"].sum()),
        "near-duplicate pairs": len(pairs),
        "near-duplicate pairs with different labels": sum(label[i] != label[j] for i, j, _ in pairs),
        **{name.replace("_", " "): n for name, n in bad.items()},
        "decisions applied": int((rows["decision"] != "").sum()),
        "labels changed by decisions": int((rows["label"] != rows["given_label"]).sum()),
        "conflicting decisions": int((rows["decision"] == "conflict").sum()),
        "images without a label": int((label == "").sum()),
    }


def _report(rows: pd.DataFrame, pairs: list[duplicates.Pair], squares: np.ndarray, found: dict[str, int], out: Path) -> None:
    doubted = rows[rows["suspect"]].sort_values(["suspect_score", "id"], ascending=[False, True])
    doubted[["id", "name", "label", "suggested_label", "suspect_score"]].to_csv(out / "suspects.csv", index=False)
    first = doubted.head(SHOWN)
    np.save(out / "suspects.npy", squares[first.index.to_numpy()])
    captions = [f"{label}? {suggested}" for label, suggested in zip(first["label"], first["suggested_label"], strict=True)]
    if captions:
        (out / "suspects.png").write_bytes(sheets.sheet(list(squares[first.index.to_numpy()]), captions, columns=6, cell_px=160))
    id, name, label = (rows[column].to_numpy() for column in ("id", "name", "label"))
    columns = ["name", "other", "label", "other_label", "cosine", "id", "other_id"]
    alike = [(name[i], name[j], label[i], label[j], cosine, id[i], id[j]) for i, j, cosine in pairs]
    pd.DataFrame(alike, columns=columns).to_csv(out / "near_duplicates.csv", index=False)
    counts = pd.crosstab(rows["label"], rows["split"].replace("", "left out"))
    counts.assign(all=counts.sum(axis=1)).reset_index().to_csv(out / "classes.csv", index=False)
    pd.DataFrame(found.items(), columns=["finding", "n"]).to_csv(out / "findings.csv", index=False)
