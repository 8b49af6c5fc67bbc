"""preprocess: data/ingest + data/label-check -> data/preprocess.

dev/   images.npy     uint8 (n, size_px, size_px, 3), RGB; row i is row i of table.parquet; train
                      and val
       table.parquet  the columns of label-check
       classes.json   class names, in the order of the network's outputs
       stats.json     mean and standard deviation of each channel of the train rows, 0 to 255
test/  images.npy, table.parquet
Pixels only: whatever else a file carried (place, camera, time) ends here.
"""

import json
from pathlib import Path

import numpy as np

from pipeline.config import Config
from pipeline.storage import store, table
from pipeline.training import arrays
from pipeline.training.arrays import PARTS


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
    arrays.check(rows, classes)
    for part, splits in PARTS.items():
        table.write_where(checked, "split", splits, out / part)
    settings = cfg.preprocess.model_dump() | {"blur_faces": cfg.blur_faces}
    arrays.write_squares(ingest, rows, settings, out, scratch)
    dev = rows.loc[rows["split"].isin(PARTS["dev"]), "split"]
    train = np.flatnonzero(dev == "train")
    stats = arrays.stats(store.read_array(out / "dev" / "images.npy"), train)
    for name, content in {"classes": classes, "stats": stats}.items():
        text = json.dumps(content, ensure_ascii=False) + "\n"
        (out / "dev" / f"{name}.json").write_text(text, encoding="utf-8")
    counts = rows["split"].value_counts()
    return {f"n_{split}": float(counts.get(split, 0)) for split in ("train", "val", "test")}
