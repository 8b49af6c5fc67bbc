"""Project folders after label-check, made by hand, for the review page."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi.testclient import TestClient
from packing import write_images
from PIL import Image

from pipeline.labels import neighbours
from pipeline.review.app import create_app
from pipeline.storage import table

HOSTILE = "<img src=x onerror=alert(1)>"
REVIEW, TOKEN = "http://127.0.0.1:8421", "a-token-of-43-letters"
WITH_TOKEN = {"authorization": f"Bearer {TOKEN}"}
LABELS = ["cat"] * 5 + ["dog"] * 4 + [HOSTILE] + [""] * 2
SUSPECTS = {0: ("dog", 0.7), 3: ("dog", 0.9), 7: ("cat", 0.8)}


def square(shade: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 90, 200 - shade)).save(target, "PNG")
    return target.getvalue()


def write_project(
    folder: Path,
    labels: list[str],
    pictures: list[bytes],
    suspects: dict[int, tuple[str, float]],
    embedding: np.ndarray | None = None,
) -> Path:
    ids = [hashlib.sha256(data).hexdigest() for data in pictures]
    write_images(folder / "data" / "ingest", zip(ids, pictures, strict=True))
    n = len(ids)
    rows = pd.DataFrame(
        {
            "id": ids,
            "name": [f"{label or 'none'}/{i}'\"&.png" for i, label in enumerate(labels)],
            "label": labels,
        }
    )
    rows = rows.assign(
        soft_label="",
        group="",
        stratum="",
        given_split="",
        width=40,
        height=30,
        format="PNG",
        n_bytes=100,
        weight=1.0,
        metadata="{}",
    )
    table.write(rows, folder / "data" / "ingest")
    rows = rows.assign(given_label=rows["label"], decision="", split="train", dup_group=rows["id"])
    rows["suspect"] = [i in suspects for i in range(n)]
    rows["less_suspect"] = False
    rows["chance_wrong"] = [0.75 if i in suspects else 0.25 for i in range(n)]
    rows["suspect_score"] = [suspects.get(i, ("", 0.1))[1] for i in range(n)]
    rows["suggested_label"] = [suspects.get(i, (label,))[0] for i, label in enumerate(labels)]
    for name in ("dark", "bright", "blur", "low_information"):
        rows = rows.assign(**{f"{name}_score": np.arange(n, dtype=float), name: False})
    rows = rows.assign(
        odd_size=False,
        odd_aspect=False,
        outlier=[i in (6, 8) for i in range(n)],
        outlier_score=np.arange(n, dtype=float),
    )
    rows.loc[[1, 2], "blur"] = True  # the second is the sharper one
    found = folder / "data" / "label-check"
    table.write(rows, found)
    seen = (
        np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
        if embedding is None
        else embedding.astype(np.float32)
    )
    np.save(found / "embedding.npy", seen.astype(np.float16))
    np.save(found / "neighbours.npy", neighbours.nearest(seen, k=4))
    pairs = [
        ("", "", labels[4], labels[5], 0.99, ids[4], ids[5]),
        ("", "", labels[1], labels[2], 0.99, ids[1], ids[2]),
    ]
    columns = ["name", "other", "label", "other_label", "cosine", "id", "other_id"]
    pd.DataFrame(pairs, columns=columns).to_csv(found / "near_duplicates.csv", index=False)
    return folder


def twelve(folder: Path) -> Path:
    """Twelve squares, of which three are doubted and two have no label."""
    return write_project(folder, LABELS, [square(10 * i) for i in range(len(LABELS))], SUSPECTS)


def browser_of(folder: Path, by: str) -> TestClient:
    """The HTTP interface as a page in that person's browser reaches it."""
    return TestClient(
        create_app(folder, by, TOKEN),
        base_url=REVIEW,
        headers={"origin": REVIEW, **WITH_TOKEN},
    )
