"""augment: data/preprocess/dev -> data/augment.

policy.json  {"symmetry": ..., "policy": ...}, the second as Albumentations serialises it
extra/       images.npy uint8 (n, size_px, size_px, 3), table.parquet (the origin's columns, split
             train, `origin`)
sheet.png    a few training images, each under the policy several times
"""

import json
from pathlib import Path

import numpy as np

from pipeline.config import Config
from pipeline.pixels import sheets
from pipeline.storage import store, table
from pipeline.training import augmentation

SHOWN, TIMES = 6, 7


def run(cfg: Config, *, preprocess_dev: Path, out: Path) -> dict[str, float]:
    """Try the policy on real images before anything is trained with it; store extra views where
    configured.
    """
    rows = table.read(preprocess_dev)
    images = store.read_array(preprocess_dev / "images.npy")
    policy = augmentation.from_nodes(cfg.augment.policy)
    saved = {"symmetry": cfg.augment.symmetry, "policy": json.loads(policy.to_json())}
    (out / "policy.json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    train = np.flatnonzero(rows["split"] == "train")
    origins = augmentation.extra_views(
        rows["label"].to_numpy()[train], cfg.augment.balance_to, cfg.augment.extra_per_image
    )
    origins = train[origins]
    extra = rows.iloc[origins].assign(origin=rows["id"].to_numpy()[origins])
    table.write(extra, out / "extra")
    array = store.open_array(
        out / "extra" / "images.npy", (len(origins), *images.shape[1:]), np.uint8
    )
    for i, origin in enumerate(origins):
        array[i] = policy(images[origin], seed=cfg.seed + i)
    examples = train[np.linspace(0, len(train) - 1, min(SHOWN, len(train))).astype(int)]
    views = [
        v
        for i in examples
        for v in [images[i], *(policy(images[i], seed=cfg.seed + k) for k in range(TIMES))]
    ]
    captions = [c for i in examples for c in [f"{rows['label'].iloc[i]} (original)", *[""] * TIMES]]
    (out / "sheet.png").write_bytes(sheets.sheet(views, captions, columns=1 + TIMES, cell_px=128))
    return {"n_extra": float(len(origins))}
