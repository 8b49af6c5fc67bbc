"""What ingest takes in: the first of equal images, as rows of the table, and whether they suffice."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pandas as pd

from pipeline import FieldmarkError
from pipeline.sources import Remark, Skipped, preview, quarantine
from pipeline.sources.ledger import Verified
from pipeline.sources.names import alike, printable
from pipeline.sources.quarantine import Quarantine
from pipeline.storage import table


def unique(
    entries: Iterable[Verified | Skipped | Remark], left_out: Quarantine
) -> Iterator[Verified]:
    """What to pack: the first of equal images; what was met is on disk, in a database that is gone
    at the end.
    """
    with closing(sqlite3.connect("")) as met:
        met.execute("CREATE TABLE met (id TEXT PRIMARY KEY, name TEXT, label TEXT) WITHOUT ROWID")
        for entry in entries:
            if isinstance(entry, Skipped):
                left_out.add(entry)
            elif isinstance(entry, Remark):
                print(f"ingest: {entry.text}")
            elif first := met.execute(
                "SELECT name, label FROM met WHERE id = ?", [entry.id]
            ).fetchone():
                left_out.add(quarantine.duplicate(entry.item, *first))
            else:
                met.execute(
                    "INSERT INTO met VALUES (?, ?, ?)",
                    [entry.id, entry.item.name, entry.item.label],
                )
                yield entry


def row(image: Verified) -> dict[str, Any]:
    """The row of the table; the columns are table.INGEST_COLUMNS."""
    item, probe = image.item, image.probe
    noted = {"n_frames": probe.n_frames} if probe.n_frames > 1 else {}
    carried = {
        "has_gps": probe.has_gps,
        "has_metadata": probe.has_metadata,
        "camera": printable(probe.camera),
    }
    return {
        "id": image.id,
        "name": item.name,
        "label": item.label,
        "soft_label": _json(item.soft_label) if item.soft_label else "",
        "group": item.group,
        "stratum": item.stratum,
        "given_split": item.given_split,
        "width": probe.width,
        "height": probe.height,
        "format": probe.format,
        "n_bytes": image.n_bytes,
        "weight": item.weight,
        "metadata": _json(
            {**{key: value for key, value in carried.items() if value}, **item.metadata, **noted}
        ),
    }


def figures(rows: pd.DataFrame, left_out: Quarantine) -> dict[str, float]:
    """How much was taken in. rows: label and metadata of all.

    Prints classes whose names differ in case or spaces alone. Raises FieldmarkError where fewer
    than two classes remain, and no image without a label that may become one.
    """
    own = ~rows["metadata"].map(table.from_feedback).astype(bool)
    labels = set(rows.loc[own, "label"])
    if "" not in labels:  # people may still name what has no label
        _check_enough(labels, int(own.sum()), left_out)
    n_feedback = int((~own).sum())
    doubles = alike(labels - {""})
    print(*preview.one_or_several(doubles), sep="\n", end="\n" * bool(doubles), flush=True)
    carried = {
        f"n_with_{kind}": float(rows["metadata"].str.contains(f'"has_{kind}": true').sum())
        for kind in ("gps", "metadata")
    }
    return {
        **({"n_alike_classes": float(sum(map(len, doubles)))} if doubles else {}),
        # without any feedback, nothing here tells of it
        **({"n_feedback": float(n_feedback)} if n_feedback else {}),
        "n_images": float(len(rows)),
        "n_classes": float(len(labels - {""})),
        "n_quarantined": float(left_out.n),
        "n_exact_duplicates": float(left_out.n_duplicates),
        **carried,
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _check_enough(classes: set[str], n_images: int, left_out: Quarantine) -> None:
    if len(classes) >= 2:
        return
    examples = "".join(f"\n  {entry.name}: {entry.reason}" for entry in left_out.first)
    others = f"; {left_out.n} were left out, among them:{examples}" if left_out.n else ""
    content = (
        f"{n_images} readable images in {len(classes)} classes "
        f"({', '.join(sorted(classes)) or 'none'})"
    )
    raise FieldmarkError(
        f"the source holds {content}, and at least two classes are needed: add images, one "
        f"folder for each "
        f"class, or choose another source with `ingest.use` and `images` in params.yaml{others}"
    )
