"""preprocess: data/ingest + data/label-check -> data/preprocess.

dev/   images.npy     uint8 (n, size_px, size_px, 3), RGB; row i is row i of table.parquet; train and val
       table.parquet  the columns of label-check
       classes.json   class names, in the order of the network's outputs
       stats.json     per-channel mean and standard deviation of the train rows, on the 0 to 255 scale
test/  images.npy, table.parquet
Pixels only: whatever else a file carried (place, camera, time) ends here.
"""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import images, parallel, resumable, store, table
from pipeline.config import Config
from pipeline.errors import FieldmarkError

PARTS = {"dev": ["train", "val"], "test": ["test"]}


def run(cfg: Config, *, ingest: Path, label_check_table: Path, out: Path, scratch: Path) -> dict[str, float]:
    """Square every image, and keep the test rows in a room of their own.

    Raises FieldmarkError for less than two classes, in all or to train on, and where a split is empty.
    """
    rows = table.read(label_check_table.parent)
    classes = sorted(rows.loc[rows["split"] != "", "label"].unique())
    _check(rows, classes)
    parts = {part: table.write(rows[rows["split"].isin(splits)], out / part) for part, splits in PARTS.items()}
    _write_squares(cfg, ingest, parts, scratch)
    for part in PARTS:
        resumable.take(scratch, part, out / part / "images.npy")
    (out / "dev" / "classes.json").write_text(json.dumps(classes, ensure_ascii=False) + "\n")
    stats = _stats(store.read_array(out / "dev" / "images.npy"), np.flatnonzero(parts["dev"]["split"] == "train"))
    (out / "dev" / "stats.json").write_text(json.dumps(stats) + "\n")
    counts = rows["split"].value_counts()
    return {f"n_{split}": float(counts.get(split, 0)) for split in ("train", "val", "test")}


def _check(rows: pd.DataFrame, classes: list[str]) -> None:
    if len(classes) < 2:
        raise FieldmarkError(f"{len(classes)} labelled classes, and at least two are needed; label some with `fieldmark review`")
    if empty := [split for split in ("train", "val", "test") if split not in set(rows["split"])]:
        raise FieldmarkError(f"no image is in {' or '.join(empty)}: see label_check.fractions, and the splits that came with the images")
    weights = table.weights(rows)
    learned = set(rows.loc[(rows["split"] == "train") & (True if weights is None else weights > 0), "label"])
    if len(learned) < 2:
        raise FieldmarkError(
            f"of {len(classes)} classes {len(learned)} can be learned ({', '.join(learned) or 'none'}), and at least two are needed: "
            "see the splits and weights that came with the images"
        )


def _write_squares(cfg: Config, ingest: Path, parts: dict[str, pd.DataFrame], scratch: Path) -> None:
    """An array a part, in scratch, where a killed run goes on."""
    size = cfg.preprocess.size_px
    done, arrays = resumable.begin(scratch, {part: ((len(rows), size, size, 3), np.uint8) for part, rows in parts.items()})
    place = {id: (part, i) for part, rows in parts.items() for i, id in enumerate(rows["id"])}
    settings = cfg.preprocess.model_dump() | {"blur_faces": cfg.blur_faces}

    def square(image: tuple[str, bytes]) -> tuple[str, np.ndarray]:
        return image[0], images.square(images.decode(image[1], max_pixels=None), **settings)

    wanted = islice(((id, data) for id, data in store.read_images(ingest, batch=64) if id in place), done, None)
    made = parallel.in_order(square, wanted)
    for n, (id, pixels) in enumerate(tqdm(made, "preprocess", len(place), initial=done, unit="image", mininterval=1), done + 1):
        part, i = place[id]
        arrays[part][i] = pixels
        if n % resumable.EVERY == 0:
            resumable.mark(scratch, n, arrays)
    resumable.mark(scratch, len(place), arrays)


def _stats(array: np.ndarray, train: np.ndarray) -> dict[str, list[float]]:
    """Streamed in float64; the sums of 8-bit values and their squares stay exact."""
    n, total, squares = 0, np.zeros(3), np.zeros(3)
    for i in train:
        pixels = array[i].reshape(-1, 3).astype(np.float64)
        n, total, squares = n + len(pixels), total + pixels.sum(0), squares + (pixels * pixels).sum(0)
        if i % resumable.EVERY == 0:
            store.release(array)
    mean = total / n
    return {"mean": mean.tolist(), "std": np.sqrt(np.maximum(squares / n - mean * mean, 0)).tolist()}
