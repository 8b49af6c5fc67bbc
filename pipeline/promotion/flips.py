"""What two versions answer differently to the same images, and what changed in the data between them."""

import html
import json
from base64 import b64encode
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.pixels import sheets
from pipeline.storage import table

CACHE = Path(".dvc/cache/files/md5")
PICTURES = 24  # of each way
PICTURE_PX = 160
WAYS = {
    "gained": "only version {other} is right",
    "lost": "only version {one} is right",
    "both wrong": "both are wrong, in different ways",
}


def flips(rows: pd.DataFrame, one: np.ndarray, other: np.ndarray) -> pd.DataFrame:
    """Columns row, name, label, one, other, way; the images to which the answers differ.

    rows: the table of the test images; one, other: names of classes, one per row.
    """
    labels = rows["label"].to_numpy(dtype=object)
    ways = np.select(
        [(other == labels) & (one != other), (one == labels) & (one != other), one != other],
        [*WAYS],
        "",
    )
    found = pd.DataFrame(
        {
            "row": np.arange(len(rows)),
            "name": rows["name"].to_numpy(dtype=object),
            "label": labels,
            "one": one,
            "other": other,
            "way": ways,
        }
    )
    return found[found["way"] != ""].reset_index(drop=True)


def in_words(flipped: pd.DataFrame, n: int, titles: Mapping[str, str]) -> list[str]:
    """A line for each way, with the first names. titles: the versions, as `one` and `other`."""
    lines = []
    for way, text in WAYS.items():
        some = flipped[flipped["way"] == way]
        if len(some):
            names = ", ".join(some["name"].head(3))
            more = f" and {len(some) - 3} more" if len(some) > 3 else ""
            lines.append(f"{len(some)} of {n}: {text.format(**titles)} ({names}{more})")
    return lines


def page(flipped: pd.DataFrame, images: np.ndarray, titles: Mapping[str, str]) -> str:
    """HTML: the first pictures of each way, with what each version answers."""
    parts = []
    for way, text in WAYS.items():
        some = flipped[flipped["way"] == way]
        if some.empty:
            continue
        shown = "".join(
            _figure(row, images, titles) for row in some.head(PICTURES).to_dict("records")
        )
        title = f"{text.format(**titles)}: {len(some)}"
        parts.append(f"<h2>{html.escape(title)}</h2><div>{shown}</div>")
    return "\n".join(parts)


def labelled(version_tags: Mapping[str, str]) -> pd.DataFrame | None:
    """Columns id, label, split of the images a version was made from; None where they are not here.

    They are read from DVC's cache, by the hash of label-check's output in the version's tags.
    """
    listing = _cached(version_tags.get("data.label-check", ""))
    if listing is None:
        return None
    files = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}
    file = _cached(files.get(table.FILE, ""))
    return None if file is None else pd.read_parquet(file, columns=["id", "label", "split"])


def changes(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """What came, went and was relabelled among the images, in sentences. Columns id, label, split."""
    both = before.merge(after, on="id", suffixes=("_before", "_after"))
    known = both["label_before"].ne("") & both["label_after"].ne("")
    relabelled = both[known & both["label_before"].ne(both["label_after"])]
    counts = {
        "images came": ~after["id"].isin(before["id"]),
        "images went": ~before["id"].isin(after["id"]),
        "labels changed": both["id"].isin(relabelled["id"]),
        "images got a label": both["label_before"].eq("") & both["label_after"].ne(""),
        "images lost theirs": both["label_before"].ne("") & both["label_after"].eq(""),
    }
    sentence = ", ".join(
        f"{int(some.sum()):,} {what}" for what, some in counts.items() if some.any()
    )
    lines = [f"data since then: {sentence or 'the same images and labels'}"]
    if len(relabelled):
        kinds = (relabelled["label_before"] + " to " + relabelled["label_after"]).value_counts()
        lines.append("changed labels: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items()))
    return lines


def explained(before: float, on_the_same: float, after: float, learned: int) -> list[str]:
    """How much of the difference in accuracy the model explains, and how much the test images.

    before: of the old version on its own test images; on_the_same: of the old version on today's;
    after: of the new version on today's. learned: today's test images that the old one learned from.
    """
    lines = [
        f"accuracy went from {before:.3f} to {after:.3f}: {after - on_the_same:+.3f} by the model, and "
        f"{on_the_same - before:+.3f} by other test images or labels (the old version has "
        f"{on_the_same:.3f} on today's)"
    ]
    if learned:
        lines.append(
            f"the old version learned from {learned} of today's test images, which flatters it there"
        )
    return lines


def learned_from(before: pd.DataFrame, test: pd.DataFrame) -> int:
    """How many test images were among those that the other version was made from."""
    seen = before.loc[before["split"].isin(["train", "val"]), "id"]
    return int(test["id"].isin(seen).sum())


def _figure(row: Mapping[Hashable, Any], images: np.ndarray, titles: Mapping[str, str]) -> str:
    picture = sheets.thumbnail(np.asarray(images[row["row"]]), side_px=PICTURE_PX)
    source = f"data:image/webp;base64,{b64encode(picture).decode()}"
    lines = [
        f"labelled {row['label']}",
        *(f"version {titles[side]}: {row[side]}" for side in ("one", "other")),
        str(row["name"]),
    ]
    caption = "<br>".join(html.escape(line) for line in lines)
    style = f"display:inline-block;margin:0 1em 1em 0;width:{PICTURE_PX}px;overflow-wrap:anywhere"
    alt = html.escape(str(row["name"]))
    return f'<figure style="{style}"><img src="{source}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'


def _cached(md5: str) -> Path | None:
    file = CACHE / md5[:2] / md5[2:]
    return file if md5 and file.is_file() else None
