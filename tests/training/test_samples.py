import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toys import draw, samples

from pipeline.storage import store, table
from pipeline.training import augmentation
from pipeline.training import samples as stored
from pipeline.training.samples import FeatureRows, ImageRows


def write(folder: Path, labels: list[str], splits: list[str], **columns: list[Any]) -> np.ndarray:
    n = len(labels)
    blank = {name: ["" if kind == "str" else 1] * n for name, kind in table.INGEST_COLUMNS.items()}
    table.write(
        pd.DataFrame(
            {**blank, "id": [str(i) for i in range(n)], "label": labels, "split": splits, **columns}
        ),
        folder,
    )
    images = draw([0] * n, px=8)
    array = store.open_array(folder / "images.npy", images.shape, np.uint8)
    array[:] = images
    array.flush()
    return images


def test_one_split_is_loaded_with_its_own_images(tmp_path: Path) -> None:
    images = write(tmp_path, ["bee", "ant", "ant", "bee"], ["train", "val", "train", "train"])
    train = stored.load(tmp_path, ["ant", "bee"], split="train")
    np.testing.assert_array_equal(np.stack(list(train)), images[[0, 2, 3]])
    assert train.labels.tolist() == [1, 0, 1]
    assert train.targets.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_a_folder_without_rows_adds_nothing(tmp_path: Path) -> None:
    images = write(tmp_path / "some", ["ant"], ["train"])
    write(tmp_path / "none", [], [])
    both = stored.load(tmp_path / "some", ["ant", "bee"]) + stored.load(
        tmp_path / "none", ["ant", "bee"]
    )
    np.testing.assert_array_equal(np.stack(list(both)), images)


def test_images_stay_on_disk(tmp_path: Path) -> None:
    write(tmp_path, ["ant", "bee"], ["train", "train"])
    assert isinstance(stored.load(tmp_path, ["ant", "bee"]).arrays[0], np.memmap)


def test_taken_and_joined_samples_keep_image_and_label_together() -> None:
    first, second = samples([0, 1, 0]), samples([1, 1], images=draw([1, 1], seed=5))
    joined = (first + second).take(np.array([4, 0, 3]))
    np.testing.assert_array_equal(joined[0], second[1])
    np.testing.assert_array_equal(joined[1], first[0])
    np.testing.assert_array_equal(joined[2], second[0])
    assert joined.labels.tolist() == [1, 0, 1] == joined.targets.argmax(1).tolist()
    assert len(joined) == 3


def test_three_folders_join() -> None:
    parts = [samples([k], images=draw([k], seed=k)) for k in (0, 1, 0)]
    joined = parts[0] + parts[1] + parts[2]
    np.testing.assert_array_equal(np.stack(list(joined)), np.stack([part[0] for part in parts]))


def test_views_and_near_duplicates_have_the_number_of_their_group(tmp_path: Path) -> None:
    one, two = ["train"] * 3, ["train"] * 2
    write(tmp_path / "a", ["bee", "ant", "ant"], one, dup_group=["x", "y", "x"])
    write(tmp_path / "b", ["ant", "bee"], two, dup_group=["z", "y"])
    write(tmp_path / "c", ["ant"], ["train"])
    a, b, c = (stored.load(tmp_path / name, ["ant", "bee"]) for name in "abc")
    both = (a + b).take(np.array([0, 1, 2, 4]))
    assert both.groups is not None
    assert (both.groups[0], both.groups[1]) == (both.groups[2], both.groups[3])
    assert both.groups[0] != both.groups[1]
    assert (a + c).groups is None


def test_a_weight_stays_with_its_image_and_is_1_where_a_folder_has_none(tmp_path: Path) -> None:
    write(tmp_path / "a", ["bee", "ant", "ant"], ["train", "val", "train"], weight=[0.5, 3.0, 2.0])
    write(tmp_path / "b", ["ant"], ["train"])
    train, extra = (
        stored.load(tmp_path / "a", ["ant", "bee"], split="train"),
        stored.load(tmp_path / "b", ["ant", "bee"]),
    )
    assert extra.weights is None
    both = (extra + train).take(np.array([2, 0, 1]))
    assert both.weights is not None and both.weights.tolist() == [2, 1, 0.5]
    assert [both.labels[2], *ImageRows(both, None)[(2, 0)][2:]] == [1, 1, 0.5]


@pytest.mark.parametrize("i", [2, -1])
def test_a_position_outside_is_an_error(i: int) -> None:
    with pytest.raises(IndexError):
        _ = samples([0, 1])[i]


def test_a_batch_of_features_is_fetched_with_its_targets() -> None:
    features = np.arange(12, dtype=np.float16).reshape(4, 3)
    x, targets, labels = FeatureRows(features, np.eye(4, dtype=np.float32), np.arange(4))[
        [(3, 0), (1, 7)]
    ]
    assert x.dtype == torch.float32
    assert (x.tolist(), labels.tolist()) == ([[9, 10, 11], [3, 4, 5]], [3, 1])
    assert targets.argmax(1).tolist() == [3, 1]


def test_features_that_are_mapped_from_disk_stay_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.ones((4, 3), np.float16))
    rows = FeatureRows(
        store.read_array(tmp_path / "features.npy"), np.eye(4, dtype=np.float32), np.arange(4)
    )
    rows[[(0, 0)]][0].mul_(2)
    assert rows[[(0, 0)]][0].tolist() == [[1, 1, 1]]


def test_an_image_is_seen_under_the_policy_with_the_seed_of_its_key() -> None:
    some = samples([0, 1])
    turn = augmentation.from_nodes([{"_target_": "albumentations.D4", "p": 1.0}])
    image, target, label = ImageRows(some, turn)[(1, 123)]
    np.testing.assert_array_equal(image, turn(some[1], 123))
    assert (target.tolist(), label) == ([0, 1], 1)


def test_without_a_policy_the_image_is_seen_as_it_is() -> None:
    some = samples([0, 1])
    image, _, _ = ImageRows(some, None)[(1, 5)]
    image[:] = 0
    np.testing.assert_array_equal(some[1], draw([0, 1])[1])
    assert some[1].any()


def test_another_process_is_told_where_images_are_and_not_what_is_in_them(tmp_path: Path) -> None:
    write(tmp_path, ["ant", "bee"] * 50, ["train"] * 100)
    train = stored.load(tmp_path, ["ant", "bee"], split="train").take(np.array([3, 1])) + samples(
        [0], images=draw([1], px=8)
    )
    sent = pickle.dumps(train)
    assert len(sent) < train.arrays[0].nbytes / 5
    np.testing.assert_array_equal(np.stack(list(pickle.loads(sent))), np.stack(list(train)))


def test_a_part_of_a_file_stays_that_part_in_another_process(tmp_path: Path) -> None:
    write(tmp_path, ["ant", "bee"] * 2, ["train"] * 4)
    part = samples([0, 1], images=store.read_array(tmp_path / "images.npy")[2:])
    np.testing.assert_array_equal(
        np.stack(list(pickle.loads(pickle.dumps(part)))), np.stack(list(part))
    )
