"""ingest: the source named in conf + data/feedback -> data/ingest.

images-*.parquet   id, bytes: every readable image, untouched, once
table.parquet      a row an image, in the order of the source; the columns of table.INGEST_COLUMNS
quarantine.csv     name, reason: whatever was left out, in the order met
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import FieldmarkError
from pipeline.config import Config, build
from pipeline.sources import Remark, Skipped, ledger, obstacles, preview, quarantine
from pipeline.sources import feedback as accepted
from pipeline.sources.ledger import Verified
from pipeline.sources.names import alike, printable
from pipeline.sources.quarantine import Quarantine
from pipeline.sources.verify import max_bytes, max_pixels, verified
from pipeline.storage import table


def run(cfg: Config, *, images: Path | str, feedback: Path, out: Path) -> dict[str, float]:
    """Pack every readable image once, and list what was left out, with the reason; what an earlier
    run has read is known.

    Raises FieldmarkError where fewer than two classes remain, and no image without a label that may
    become one.
    """
    out.mkdir(parents=True, exist_ok=True)
    limit, size = max_pixels(cfg.ingest), max_bytes(cfg.ingest)
    own_images = build(cfg.ingest.source, "ingest", images=images, max_bytes=size)
    source = chain(own_images, accepted.read(feedback, size))
    with (
        ledger.opened(limit, size) as memory,
        quarantine.opened(out / "quarantine.csv") as left_out,
    ):
        table.write_each(
            map(_row, memory.pack(out, _unique(verified(source, limit, memory), left_out))), out
        )
    rows = table.read(out, ["label", "metadata"])
    own = ~rows["metadata"].map(table.from_feedback).astype(bool)
    labels = set(rows.loc[own, "label"])
    if "" not in labels:  # people may still name what has no label
        _check_enough(labels, int(own.sum()), left_out)
    n_feedback = int((~own).sum())
    doubles = alike(labels - {""})
    print(*preview.one_or_several(doubles), sep="\n", end="\n" * bool(doubles), flush=True)
    return {
        **({"n_alike_classes": float(sum(map(len, doubles)))} if doubles else {}),
        **(
            {"n_feedback": float(n_feedback)} if n_feedback else {}
        ),  # without any, nothing here tells of it
        "n_images": float(len(rows)),
        "n_classes": float(len(labels - {""})),
        "n_quarantined": float(left_out.n),
        "n_exact_duplicates": float(left_out.n_duplicates),
        "n_with_gps": float(rows["metadata"].str.contains('"has_gps": true', regex=False).sum()),
        "n_with_metadata": float(
            rows["metadata"].str.contains('"has_metadata": true', regex=False).sum()
        ),
    }


def check(cfg: Config, *, images: Path | str) -> str:
    """What `run` would take in, leave out and why, for people; of many images only a sample is
    decoded.
    """
    source = build(cfg.ingest.source, "ingest", images=images, max_bytes=max_bytes(cfg.ingest))
    account = preview.describe(source, max_pixels(cfg.ingest))
    return "\n".join([account, *obstacles.describe(images)])


def _unique(
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


def _row(image: Verified) -> dict[str, Any]:
    item, found = image.item, image.probe
    noted = {"n_frames": found.n_frames} if found.n_frames > 1 else {}
    carried = {
        "has_gps": found.has_gps,
        "has_metadata": found.has_metadata,
        "camera": printable(found.camera),
    }
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
        "metadata": _json(
            {**{key: value for key, value in carried.items() if value}, **item.metadata, **noted}
        ),
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _check_enough(classes: set[str], n_images: int, left_out: Quarantine) -> None:
    if len(classes) >= 2:
        return
    examples = "".join(f"\n  {entry.name}: {entry.reason}" for entry in left_out.first)
    others = f"; {left_out.n} were left out, among them:{examples}" if left_out.n else ""
    found = (
        f"{n_images} readable images in {len(classes)} classes "
        f"({', '.join(sorted(classes)) or 'none'})"
    )
    raise FieldmarkError(
        f"the source holds {found}, and at least two classes are needed: add images, one "
        f"folder for each "
        f"class, or choose another source with `ingest.use` and `images` in params.yaml{others}"
    )
