"""A class that needs no look at the picture is named with a number; one that does is not."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.labels import folds
from pipeline.labels.correlates import correlates

N = 120


def table(**columns: object) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {"label": ["ant", "bee", "cow"] * (N // 3), "dup_group": [str(i) for i in range(N)]}
    )
    rows = rows.assign(
        width=300, height=200, n_bytes=1000, format="PNG", group="", metadata="{}", blur_score=9.0
    )
    rows = rows.assign(
        brightness_score=random.uniform(size=N), contrast_score=random.uniform(size=N)
    )
    return rows.assign(**columns)


BEES = np.array([name == "bee" for name in table()["label"]])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        (
            "brightness",
            {
                "brightness_score": np.where(BEES, 0.8, 0.3)
                + np.random.default_rng(1).uniform(0, 0.1, N)
            },
        ),
        ("size", {"width": np.where(BEES, 640, 300), "height": np.where(BEES, 427, 200)}),
        ("aspect", {"width": np.where(BEES, 200, 300), "height": np.where(BEES, 300, 200)}),
        ("format", {"format": np.where(BEES, "JPEG", "PNG")}),
        (
            "camera",
            {"metadata": [json.dumps({"camera": "X100" if bee else "EOS"}) for bee in BEES]},
        ),
        (
            "exposure, of a CSV file",
            {
                "metadata": [
                    json.dumps({"exposure, of a CSV file": f"{bee + i / N}"})
                    for i, bee in enumerate(BEES)
                ]
            },
        ),
        (
            "beyond single precision",
            {
                "metadata": [
                    json.dumps({"beyond single precision": 1e300 if bee else 0.0}) for bee in BEES
                ]
            },
        ),
    ],
)
def test_a_class_told_by_one_property_alone_is_named(name: str, columns: dict[str, object]) -> None:
    found = correlates(table(**columns), ignore=[], seed=0)
    told = found[(found["property"] == name) & (found["label"] == "bee")].iloc[0]
    assert told["auc"] > 0.95 and told["accuracy"] > 0.95
    assert told["majority"] == pytest.approx(2 / 3)
    others = found[~found["property"].isin([name, "aspect"])]
    assert (others["auc"] < 0.75).all()


def test_what_is_ignored_or_never_differs_or_names_single_images_is_no_property() -> None:
    told = [
        json.dumps({"p": float(bee), "file": f"{i}.png", "same": "x"}) for i, bee in enumerate(BEES)
    ]
    assert set(correlates(table(metadata=told), ignore=["p"], seed=0)["property"]) == {
        "brightness",
        "contrast",
    }


def test_a_group_is_never_learned_by_heart() -> None:
    """Ten cameras, each of one class by chance: with a whole camera held out nothing is known of
    it.
    """
    rows = table(label=["ant", "bee"] * (N // 2)).sort_values("label", ignore_index=True)
    rows["group"] = [f"camera {i // 6}" for i in range(N)]
    found = correlates(
        rows.assign(
            dup_group=rows["group"], group=np.random.default_rng(0).permutation(rows["group"])
        ),
        ignore=[],
        seed=0,
    )
    assert (found["auc"] < 0.75).all()


def test_of_two_classes_the_smaller_stands_for_both_and_tiny_ones_are_left_out() -> None:
    rows = table(label=["ant"] * 80 + ["bee"] * 37 + ["cow"] * 3)
    assert set(correlates(rows, ignore=[], seed=0)["label"]) == {"bee"}
    assert correlates(rows[:80], ignore=[], seed=0).empty
    assert correlates(rows[:0], ignore=[], seed=0).empty


def test_of_many_images_a_share_is_enough_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(width=np.where(BEES, 640, 300), height=np.where(BEES, 427, 200))
    whole = correlates(rows, ignore=[], seed=0)
    monkeypatch.setattr(folds, "LEARN", N // 3)
    some = correlates(rows, ignore=[], seed=0)
    pd.testing.assert_frame_equal(
        some.query("property == 'size' and label == 'bee'"),
        whole.query("property == 'size' and label == 'bee'"),
    )
    assert not some["auc"].equals(whole["auc"])  # what chance made of the brightness
