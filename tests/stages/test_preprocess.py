import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from packing import write_images
from PIL import Image
from toys import draw

from pipeline import FieldmarkError
from pipeline.config import Config, schema
from pipeline.pixels import images
from pipeline.stages import preprocess
from pipeline.storage import store, table

SPLITS = ["train", "test", "val", "", "train", "test", "train"]
LABELS = ["bee", "ant", "ant", "fly", "bee", "bee", "ant"]
SETTINGS: dict[str, Any] = {
    "size_px": 12,
    "fit": "crop",
    "denoise": 0.0,
    "clahe": 0.0,
    "normalise_brightness": False,
}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    return file.getvalue()


FILES = [png(pixels) for pixels in draw([0, 1, 2, 3, 0, 1, 2], px=20)]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folders ingest/ and label-check/."""
    n = len(SPLITS)
    blank = {name: ["" if kind == "str" else 1] * n for name, kind in table.INGEST_COLUMNS.items()}
    rows = pd.DataFrame(
        {**blank, "id": [f"i{i}" for i in range(n)], "label": LABELS, "split": SPLITS}
    )
    write_images(
        tmp_path / "ingest", [(f"i{i}", file) for i, file in enumerate(FILES)], shard_bytes=1000
    )
    table.write(rows, tmp_path / "label-check")
    return tmp_path


def run(made: Path, **changes: Any) -> dict[str, float]:
    cfg = Config(
        blur_faces=False, preprocess=schema.Preprocess.model_validate({**SETTINGS, **changes})
    )
    return preprocess.run(
        cfg,
        ingest=made / "ingest",
        label_check_table=made / "label-check" / "table.parquet",
        out=made / "out",
        scratch=made / "scratch",
    )


def test_test_images_lie_in_a_room_of_their_own(made: Path) -> None:
    metrics = run(made)
    dev, test = (table.read(made / "out" / part) for part in ("dev", "test"))
    assert set(dev["id"]) == {"i0", "i2", "i4", "i6"} and set(dev["split"]) == {"train", "val"}
    assert set(test["id"]) == {"i1", "i5"} and set(test["split"]) == {"test"}
    assert metrics == {"n_train": 3, "n_val": 1, "n_test": 2}


@pytest.mark.parametrize(
    "changes",
    [{}, {"fit": "pad", "size_px": 30}, {"clahe": 2.0, "normalise_brightness": True}],
    ids=str,
)
@pytest.mark.parametrize("part", ["dev", "test"])
def test_row_i_is_image_i_as_serving_would_see_it(
    made: Path, part: str, changes: dict[str, Any]
) -> None:
    run(made, **changes)
    settings = {**SETTINGS, **changes}
    found = store.read_array(made / "out" / part / "images.npy")
    ids = table.read(made / "out" / part)["id"]
    served = [
        images.square(images.decode(FILES[int(id[1:])], max_pixels=10**6), **settings) for id in ids
    ]
    np.testing.assert_array_equal(found, served)


def test_a_table_of_other_images_is_refused(made: Path) -> None:
    """Or else every image would get the label of another."""
    table.write(table.read(made / "label-check").iloc[::-1], made / "label-check")
    with pytest.raises(
        ValueError, match=r"has i6 where .*ingest has i0; `dvc repro` makes both anew"
    ):
        run(made)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split_is_said_before_anything_is_trained(made: Path, split: str) -> None:
    rows = table.read(made / "label-check")
    table.write(rows.assign(split=rows["split"].replace(split, "")), made / "label-check")
    with pytest.raises(FieldmarkError, match=f"no image is in {split}: see label_check.fractions"):
        run(made)


@pytest.mark.parametrize(
    "change",
    [
        {"split": ["train", "test", "val", "", "train", "test", ""]},
        {"weight": [1.0, 1, 1, 1, 1, 1, 0]},
    ],
    ids=str,
)
def test_a_single_class_to_train_on_is_said_before_anything_is_trained(
    made: Path, change: dict[str, Any]
) -> None:
    """A linear SVM would stop model-search with a traceback."""
    rows = table.read(made / "label-check")
    table.write(rows.assign(**change), made / "label-check")
    with pytest.raises(FieldmarkError, match=r"of 2 classes 1 can be learned \(bee\)"):
        run(made)


def test_what_was_left_out_is_nowhere(made: Path) -> None:
    run(made)
    everything = pd.concat([table.read(made / "out" / part) for part in ("dev", "test")])
    assert "i3" not in set(everything["id"])
    assert json.loads((made / "out" / "dev" / "classes.json").read_text()) == ["ant", "bee"]


def test_statistics_are_those_of_the_training_images_alone(made: Path) -> None:
    run(made)
    rows = table.read(made / "out" / "dev")
    train = store.read_array(made / "out" / "dev" / "images.npy")[
        (rows["split"] == "train").to_numpy()
    ]
    stats = json.loads((made / "out" / "dev" / "stats.json").read_text())
    np.testing.assert_allclose(stats["mean"], train.mean((0, 1, 2)))
    np.testing.assert_allclose(stats["std"], train.std((0, 1, 2)))


def test_neither_place_nor_anything_else_of_a_file_goes_on(made: Path) -> None:
    run(made)
    written = {
        str(path.relative_to(made / "out")) for path in (made / "out").rglob("*") if path.is_file()
    }
    parts = {
        f"{part}/{name}" for part in ("dev", "test") for name in ("images.npy", "table.parquet")
    }
    assert written == {*parts, "dev/classes.json", "dev/stats.json"}


def test_the_same_images_give_the_same_bytes(made: Path) -> None:
    run(made)
    first = {path: path.read_bytes() for path in (made / "out").rglob("*") if path.is_file()}
    run(made)
    assert first == {
        path: path.read_bytes() for path in (made / "out").rglob("*") if path.is_file()
    }
