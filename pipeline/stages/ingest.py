"""ingest: the source named in conf + data/feedback -> data/ingest.

images-*.parquet   id, bytes: every readable image, untouched, once
table.parquet      a row an image, in the order of the source; the columns of table.INGEST_COLUMNS, and weight where some differ
quarantine.csv     name, reason: whatever was left out, in the order met
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import table
from pipeline.config import Config, build
from pipeline.errors import FieldmarkError
from pipeline.sources import Item, Skipped, known, preview
from pipeline.sources import feedback as accepted
from pipeline.sources.known import Verified
from pipeline.sources.layout import printable
from pipeline.sources.verify import max_pixels, verified

DUPLICATE = "exact duplicate of "


def run(cfg: Config, *, images: Path | str, feedback: Path, out: Path) -> dict[str, float]:
    """Pack every readable image once, and list what was left out, with the reason; what an earlier run has read is known.

    Raises FieldmarkError where fewer than two classes remain, and no image without a label that may become one.
    """
    rows: dict[str, dict[str, Any]] = {}
    quarantine: list[Skipped] = []
    source = chain(build(cfg.ingest.source, images=images), accepted.read(feedback))
    limit = max_pixels(cfg.ingest)
    with known.opened(limit) as memory:
        memory.pack(out, _unique(verified(source, limit, memory), rows, quarantine))
    pd.DataFrame(quarantine, columns=["name", "reason"]).to_csv(out / "quarantine.csv", index=False)
    own = [row for row in rows.values() if not table.from_feedback(row["metadata"])]
    labels = {row["label"] for row in own}
    classes = labels - {""}
    if "" not in labels:  # people may still name what has no label
        _check_enough(classes, len(own), quarantine)
    found = pd.DataFrame([*rows.values()])
    table.write(found if (found["weight"] != 1).any() else found.drop(columns="weight"), out)
    n_feedback = len(rows) - len(own)
    return {
        **({"n_feedback": float(n_feedback)} if n_feedback else {}),  # without any, nothing here tells of it
        "n_images": float(len(rows)),
        "n_classes": float(len(classes)),
        "n_quarantined": float(len(quarantine)),
        "n_exact_duplicates": float(sum(entry.reason.startswith(DUPLICATE) for entry in quarantine)),
        "n_with_gps": float(sum('"has_gps": true' in row["metadata"] for row in rows.values())),
        "n_with_metadata": float(sum('"has_metadata": true' in row["metadata"] for row in rows.values())),
    }


def check(cfg: Config, *, images: Path | str) -> str:
    """What `run` would take in, leave out and why, for people; of many images only a sample is decoded."""
    return preview.describe(build(cfg.ingest.source, images=images), max_pixels(cfg.ingest))


def _unique(
    entries: Iterable[Verified | Skipped], rows: dict[str, dict[str, Any]], quarantine: list[Skipped]
) -> Iterator[Verified]:
    """What to pack, while `rows` (by id) and `quarantine` fill: the bytes are never all in memory."""
    for entry in entries:
        if isinstance(entry, Skipped):
            quarantine.append(entry)
        elif entry.id in rows:
            quarantine.append(_duplicate(entry.item, rows[entry.id]))
        else:
            rows[entry.id] = _row(entry)
            yield entry


def _duplicate(item: Item, first: dict[str, Any]) -> Skipped:
    reason = f"{DUPLICATE}{first['name']}"
    if item.label != first["label"]:
        reason += f", which is labelled {first['label'] or 'nothing'}; here {item.label or 'nothing'}"
    return Skipped(item.name, reason)


def _row(image: Verified) -> dict[str, Any]:
    item, found = image.item, image.probe
    noted = {"n_frames": found.n_frames} if found.n_frames > 1 else {}
    carried = {"has_gps": found.has_gps, "has_metadata": found.has_metadata, "camera": printable(found.camera)}
    return {
        "id": image.id,
        "name": item.name,
        "label": item.label,
        "soft_label": _json(item.soft_label) if item.soft_label else "",
        "group": item.group,
        "stratum": item.stratum,
        "given_split": item.given_split,
        "width": found.width,
        "height": found.height,
        "format": found.format,
        "n_bytes": image.n_bytes,
        "weight": item.weight,
        "metadata": _json({**{key: value for key, value in carried.items() if value}, **item.metadata, **noted}),
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _check_enough(classes: set[str], n_images: int, quarantine: list[Skipped]) -> None:
    if len(classes) >= 2:
        return
    examples = "".join(f"\n  {entry.name}: {entry.reason}" for entry in quarantine[:5])
    left_out = f"; {len(quarantine)} were left out, among them:{examples}" if quarantine else ""
    found = f"{n_images} readable images in {len(classes)} classes ({', '.join(sorted(classes)) or 'none'})"
    raise FieldmarkError(
        f"the source holds {found}, and at least two classes are needed: add images, one folder for each "
        f"class, or choose another source with `ingest.use` and `images` in params.yaml{left_out}"
    )
