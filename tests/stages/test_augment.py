from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toys import draw

from pipeline.config import Config, schema
from pipeline.stages import augment
from pipeline.storage import store, table
from pipeline.training import augmentation

LABELS = ["ant"] * 6 + ["bee"] * 2 + ["ant", "bee", "bee"]
SPLITS = ["train"] * 8 + ["val"] * 3
TURN = {"_target_": "albumentations.D4", "p": 1.0}


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    n = len(LABELS)
    blank = {name: ["" if kind == "str" else 1] * n for name, kind in table.INGEST_COLUMNS.items()}
    rows = pd.DataFrame(
        {**blank, "id": [f"i{i}" for i in range(n)], "label": LABELS, "split": SPLITS}
    )
    table.write(rows, tmp_path / "dev")
    array = store.open_array(tmp_path / "dev" / "images.npy", (n, 16, 16, 3), np.uint8)
    array[:] = draw([0] * n)
    array.flush()
    return tmp_path / "dev"


def run(dev: Path, out: Path, seed: int = 0, **changes: Any) -> dict[str, float]:
    settings = {
        "symmetry": "flip",
        "balance_to": 0.0,
        "extra_per_image": 0,
        "policy": [TURN],
        **changes,
    }
    out.mkdir()
    return augment.run(
        Config(seed=seed, augment=schema.Augment.model_validate(settings)),
        preprocess_dev=dev,
        out=out,
    )


def test_extra_views_come_from_training_images_alone(dev: Path, tmp_path: Path) -> None:
    metrics = run(dev, tmp_path / "out", balance_to=1.0, extra_per_image=2)
    extra, images = (
        table.read(tmp_path / "out" / "extra"),
        store.read_array(tmp_path / "out" / "extra" / "images.npy"),
    )
    assert set(extra["split"]) == {"train"}
    assert set(extra["origin"]) == {f"i{i}" for i in range(8)}
    assert metrics == {"n_extra": len(extra)} and len(images) == len(extra)


def test_rare_classes_are_filled_up(dev: Path, tmp_path: Path) -> None:
    run(dev, tmp_path / "out", balance_to=1.0)
    assert table.read(tmp_path / "out" / "extra")["label"].tolist() == ["bee"] * 4


def test_a_row_is_its_image(dev: Path, tmp_path: Path) -> None:
    run(dev, tmp_path / "out", extra_per_image=1)
    extra, views = (
        table.read(tmp_path / "out" / "extra"),
        store.read_array(tmp_path / "out" / "extra" / "images.npy"),
    )
    originals = store.read_array(dev / "images.npy")
    for origin, found in zip(extra["origin"], views, strict=True):
        pixels = originals[int(origin[1:])].reshape(-1, 3)
        assert sorted(map(tuple, found.reshape(-1, 3))) == sorted(
            map(tuple, pixels)
        )  # turned, and nothing else


def test_the_policy_is_handed_on_as_it_was_configured(dev: Path, tmp_path: Path) -> None:
    run(dev, tmp_path / "out")
    policy, symmetry = augmentation.read(tmp_path / "out")
    image = draw([1])[0]
    assert symmetry == "flip"
    np.testing.assert_array_equal(policy(image, 5), augmentation.from_nodes([TURN])(image, 5))


def test_the_same_seed_gives_the_same_bytes(dev: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(dev, tmp_path / name, seed=seed, extra_per_image=1)
    written = {
        name: {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in "abc"
    }
    assert written["a"] == written["b"]
    assert set(written["a"]) == {
        "policy.json",
        "sheet.png",
        "extra/images.npy",
        "extra/table.parquet",
    }
    assert written["a"]["extra/images.npy"] != written["c"]["extra/images.npy"]


def test_without_a_policy_there_is_nothing_extra_and_still_a_sheet(
    dev: Path, tmp_path: Path
) -> None:
    assert run(dev, tmp_path / "out", policy=[]) == {"n_extra": 0}
    assert store.read_array(tmp_path / "out" / "extra" / "images.npy").shape == (0, 16, 16, 3)
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 100
