"""Whose labels decide which rows a model learns from."""

import numpy as np
import pandas as pd

from pipeline.config.schema import Errors
from pipeline.labels import doubts

LIMITS = Errors(folds=3, C=1.0, max_fraction=0.5)
N = 90


def table(flipped: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Two clear classes, a third of each in each split; some labels are the other class's."""
    random = np.random.default_rng(0)
    truth = np.arange(N) % 2
    features = (truth[:, None] * 4.0 + random.normal(size=(N, 5))).astype(np.float32)
    labels = np.where(flipped, 1 - truth, truth)
    rows = pd.DataFrame(
        {
            "label": np.array(["ant", "bee"])[labels],
            "soft_label": "",
            "weight": 1.0,
            "decision": "",
            "dup_group": [f"g{i}" for i in range(N)],
            "split": np.array(["train", "val", "test"])[np.arange(N) // 2 % 3],
        }
    )
    return rows, features


def left_out(flipped: np.ndarray) -> set[int]:
    rows, features = table(flipped)
    dropped = doubts.drop(rows, features, LIMITS, seed=0)
    return set(np.flatnonzero(dropped["split"] == ""))


def test_wrong_labels_of_train_and_val_are_left_out_and_those_of_test_never() -> None:
    flipped = np.isin(np.arange(N), [0, 2, 4])  # one row in each split
    rows, _ = table(flipped)
    wrong = {i for i in (0, 2, 4) if rows["split"][i] != "test"}
    assert wrong and left_out(flipped) == wrong


def test_no_label_of_a_test_image_decides_what_is_learned_from() -> None:
    rows, _ = table(np.zeros(N, bool))
    wrong = np.isin(np.arange(N), [0, 2])
    all_of_test = (rows["split"] == "test").to_numpy()
    assert left_out(wrong) == left_out(wrong | all_of_test)


def test_what_a_person_kept_stays() -> None:
    rows, features = table(np.isin(np.arange(N), [0]))
    assert rows["split"][0] == "train"
    rows.loc[0, "decision"] = "keep"
    assert doubts.drop(rows, features, LIMITS, seed=0)["split"][0] == "train"
