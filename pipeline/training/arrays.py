"""Square arrays on disk, as training/samples reads them: written row by row, from packed files."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.pixels import images
from pipeline.storage import resumable, store, table

PARTS = {"dev": ["train", "val"], "test": ["test"]}


def check(rows: pd.DataFrame, classes: list[str]) -> None:
    """Raise FieldmarkError for fewer than two classes, in all or to train on, and where a split is
    empty.
    """
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
    learnable = set(
        rows.loc[(rows["split"] == "train") & (True if weights is None else weights > 0), "label"]
    )
    if len(learnable) < 2:
        raise FieldmarkError(
            f"of {len(classes)} classes {len(learnable)} can be learned "
            f"({', '.join(learnable) or 'none'}), and at least two are needed: "
            "see the splits and weights that came with the images"
        )


def write_squares(
    ingest: Path, rows: pd.DataFrame, settings: Mapping[str, Any], out: Path, scratch: Path
) -> None:
    """PART/images.npy for each part, filled in scratch, where a killed run goes on.

    settings: the arguments of pixels.images.square.
    """
    size = int(settings["size_px"])
    parts = rows.loc[rows["split"] != "", "split"].map(
        {split: part for part, splits in PARTS.items() for split in splits}
    )
    sizes = parts.value_counts()
    done, arrays = resumable.begin(
        scratch, {part: ((int(sizes[part]), size, size, 3), np.uint8) for part in PARTS}
    )

    def square(data: bytes) -> np.ndarray:
        return images.square(images.decode(data, max_pixels=None), **settings)

    made = parallel.in_order(square, islice(_files(ingest, rows), done, None))
    progress = tqdm(made, "preprocess", len(parts), initial=done, unit="image", mininterval=1)
    places = zip(parts.iloc[done:], parts.groupby(parts).cumcount().iloc[done:], strict=True)
    for n, ((part, i), pixels) in enumerate(zip(places, progress, strict=True), done + 1):
        arrays[part][i] = pixels
        if n % resumable.EVERY == 0:
            resumable.mark(scratch, n, arrays)
    resumable.mark(scratch, len(parts), arrays)
    for part in PARTS:
        resumable.take(scratch, part, out / part / "images.npy")


def stats(array: np.ndarray, train: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel over some rows, on the 0 to 255 scale.

    Streamed in float64: the sums of 8-bit values and their squares stay exact.
    """
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
