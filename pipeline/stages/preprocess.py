"""preprocess: data/ingest + data/label-check -> data/preprocess.

dev/   images.npy     uint8 (n, size_px, size_px, 3), RGB; row i is row i of table.parquet; train
       and val
       table.parquet  the columns of label-check
       classes.json   class names, in the order of the network's outputs
       stats.json     per-channel mean and standard deviation of the train rows, on the 0 to 255
                      scale
test/  images.npy, table.parquet
Pixels only: whatever else a file carried (place, camera, time) ends here.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.config import Config
from pipeline.pixels import images
from pipeline.storage import resumable, store, table

PARTS = {"dev": ["train", "val"], "test": ["test"]}


def run(
    cfg: Config, *, ingest: Path, label_check_table: Path, out: Path, scratch: Path
) -> dict[str, float]:
    """Square every image, and keep the test rows in a room of their own.

    Raises FieldmarkError for less than two classes, in all or to train on, and where a split is
    empty.
    """
    checked = label_check_table.parent
    rows = table.read(checked, ["id", "label", "weight", "split"])
    classes = sorted(rows.loc[rows["split"] != "", "label"].unique())
    _check(rows, classes)
    for part, splits in PARTS.items():
        table.write_where(checked, "split", splits, out / part)
    _write_squares(cfg, ingest, rows, scratch)
    for part in PARTS:
        resumable.take(scratch, part, out / part / "images.npy")
    (out / "dev" / "classes.json").write_text(
        json.dumps(classes, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    dev = rows.loc[rows["split"].isin(PARTS["dev"]), "split"]
    stats = _stats(store.read_array(out / "dev" / "images.npy"), np.flatnonzero(dev == "train"))
    (out / "dev" / "stats.json").write_text(json.dumps(stats) + "\n", encoding="utf-8")
    counts = rows["split"].value_counts()
    return {f"n_{split}": float(counts.get(split, 0)) for split in ("train", "val", "test")}


def _check(rows: pd.DataFrame, classes: list[str]) -> None:
    if len(classes) < 2:
        raise FieldmarkError(
            f"{len(classes)} labelled classes, and at least two are needed; label some with "
            f"`fieldmark review`"
        )
    if empty := [split for split in ("train", "val", "test") if split not in set(rows["split"])]:
        raise FieldmarkError(
            f"no image is in {' or '.join(empty)}: see label_check.fractions, and the splits "
            f"that came with the images"
        )
    weights = table.weights(rows)
    learned = set(
        rows.loc[(rows["split"] == "train") & (True if weights is None else weights > 0), "label"]
    )
    if len(learned) < 2:
        raise FieldmarkError(
            f"of {len(classes)} classes {len(learned)} can be learned "
            f"({', '.join(learned) or 'none'}), and at least two are needed: "
            "see the splits and weights that came with the images"
        )


def _write_squares(cfg: Config, ingest: Path, rows: pd.DataFrame, scratch: Path) -> None:
    """An array a part, in scratch, where a killed run goes on."""
    size = cfg.preprocess.size_px
    parts = rows.loc[rows["split"] != "", "split"].map(
        {split: part for part, splits in PARTS.items() for split in splits}
    )
    sizes = parts.value_counts()
    done, arrays = resumable.begin(
        scratch, {part: ((int(sizes[part]), size, size, 3), np.uint8) for part in PARTS}
    )
    settings = cfg.preprocess.model_dump() | {"blur_faces": cfg.blur_faces}

    def square(data: bytes) -> np.ndarray:
        return images.square(images.decode(data, max_pixels=None), **settings)

    made = parallel.in_order(square, islice(_files(ingest, rows), done, None))
    shown = tqdm(made, "preprocess", len(parts), initial=done, unit="image", mininterval=1)
    places = zip(parts.iloc[done:], parts.groupby(parts).cumcount().iloc[done:], strict=True)
    for n, ((part, i), pixels) in enumerate(zip(places, shown, strict=True), done + 1):
        arrays[part][i] = pixels
        if n % resumable.EVERY == 0:
            resumable.mark(scratch, n, arrays)
    resumable.mark(scratch, len(parts), arrays)


def _files(ingest: Path, rows: pd.DataFrame) -> Iterator[bytes]:
    """Those of the rows that are in a split."""
    for (packed, data), id, split in zip(
        store.read_images(ingest), rows["id"], rows["split"], strict=True
    ):
        if packed != id:
            raise ValueError(
                f"the table of label-check has {id} where {ingest} has {packed}; `dvc repro` "
                f"makes both anew"
            )
        if split:
            yield data


def _stats(array: np.ndarray, train: np.ndarray) -> dict[str, list[float]]:
    """Streamed in float64; the sums of 8-bit values and their squares stay exact."""
    n, total, squares = 0, np.zeros(3), np.zeros(3)
    for done, i in enumerate(train):
        pixels = array[i].reshape(-1, 3).astype(np.float64)
        n, total, squares = (
            n + len(pixels),
            total + pixels.sum(0),
            squares + (pixels * pixels).sum(0),
        )
        if done % resumable.EVERY == 0:
            store.release(array)
    mean = total / n
    return {
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(squares / n - mean * mean, 0)).tolist(),
    }
