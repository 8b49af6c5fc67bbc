"""What the report makes of the table's columns."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import slices


def table(**columns: object) -> pd.DataFrame:
    """A table with the columns that every one has."""
    rows = pd.DataFrame(columns)
    plain = {"soft_label": "", "metadata": "{}", "format": "PNG", "width": 9, "height": 9}
    rows = rows.assign(**{name: value for name, value in plain.items() if name not in rows})
    labels = np.where(np.arange(len(rows)) % 2 == 0, "cat", "dog")
    return rows.assign(label=rows.get("label", labels))


def test_slices_are_listed_worst_first_with_wilson_intervals():
    rows = pd.DataFrame(
        {"dark": [True, True, False, False], "group": pd.Categorical(["a", "b", "b", ""])}
    )
    table = slices.slices(rows, np.array([True, False, True, True]), min_n=2)
    expected = pd.DataFrame(
        {
            "slice": ["dark = yes", "group = b", "dark = no"],
            "n": [2, 2, 2],
            "accuracy": [0.5, 0.5, 1.0],
            "low": [0.0945312, 0.0945312, 2 / (2 + 1.959964**2)],
            "high": [0.9054688, 0.9054688, 1.0],
            "elsewhere": [1.0, 1.0, 0.5],
            "p": [1.0, 1.0, 1.0],
            "weaker": [False, False, False],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-6)


def test_slices_without_any_row_keep_their_columns():
    table = slices.slices(pd.DataFrame({"camera": [None, ""]}), np.array([True, True]), min_n=1)
    assert list(table.columns) == slices.COLUMNS
    assert table.empty


def test_holm_agrees_with_a_case_worked_by_hand():
    """0.01 * 4, 0.02 * 3, then the largest so far where a later product is smaller."""
    corrected = slices.holm(np.array([0.04, 0.01, 0.03, 0.02]))
    assert corrected == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_a_model_that_is_equally_good_on_all_has_no_weaker_slice_95_times_of_100():
    random, alarms, runs = np.random.default_rng(0), 0, 100
    for _ in range(runs):
        rows = pd.DataFrame(
            {name: random.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1]) for name in "pqr"}
        )
        found = slices.slices(rows, random.random(300) < 0.85, min_n=20)
        alarms += found["weaker"].any()
    assert alarms / runs < 0.05


def test_a_slice_that_is_weaker_for_sure_is_marked_and_only_that():
    random = np.random.default_rng(1)
    night, camera = random.random(400) < 0.2, random.choice(["a", "b"], 400)
    correct = random.random(400) < np.where(night, 0.5, 0.95)
    found = slices.slices(pd.DataFrame({"night": night, "camera": camera}), correct, min_n=20)
    assert found[found["weaker"]]["slice"].tolist() == ["night = yes"]


def test_two_properties_that_are_bad_only_together_are_named_together():
    random = np.random.default_rng(2)
    night, camera = random.random(600) < 0.5, random.choice(["a", "b"], 600)
    correct = random.random(600) < np.where(night & (camera == "a"), 0.4, 0.97)
    found = slices.slices(pd.DataFrame({"night": night, "camera": camera}), correct, min_n=20)
    assert found.iloc[0]["slice"] == "night = yes, camera = a"
    assert found.iloc[0]["weaker"]


def test_slices_too_small_to_judge_are_named_as_such():
    rows = pd.DataFrame({"camera": ["a"] * 30 + ["b"] * 3})
    assert slices.too_small(rows, min_n=20) == ["camera = b (3)"]
    assert slices.slices(rows, np.ones(33, bool), min_n=20)["slice"].tolist() == ["camera = a"]


def test_a_column_from_which_the_label_follows_is_no_slice():
    """The solar cells' probability of a defect, which their labels are made from."""
    probability = [0.0, 1 / 3, 2 / 3, 1.0] * 10
    metadata = [
        json.dumps({"probability": p, "cell_type": "ab"[i // 20]})
        for i, p in enumerate(probability)
    ]
    labels = ["defective" if p > 0.5 else "functional" for p in probability]
    rows = table(metadata=metadata, label=labels)
    assert slices.label_columns(rows) == ["probability"]
    assert [*slices.columns(rows)] == ["cell_type"]


def test_measured_properties_are_cut_into_thirds_and_uncertain_labels_are_a_slice():
    soft = ['{"cat": 0.6, "dog": 0.4}' if i % 3 == 0 else "" for i in range(60)]
    rows = table(
        brightness_score=np.arange(60.0),
        width=np.arange(60) % 6 + 1,
        soft_label=soft,
        dup_group=[f"g{max(i, 1)}" for i in range(60)],
    )
    columns = slices.columns(rows)
    assert columns["brightness (thirds)"].value_counts().to_dict() == {
        "low": 20,
        "middle": 20,
        "high": 20,
    }
    assert columns["certain label"].sum() == 40
    assert columns["near-duplicate"].sum() == 2
    assert "size (thirds)" in columns and "contrast (thirds)" not in columns


def test_numbers_of_a_column_with_gaps_stay_apart():
    """JSON whole numbers beside gaps arrive as floating-point ones: 2.02e+03 was both years, and
    one of them was lost.
    """
    rows = pd.DataFrame(
        {"year": [2019.0, 2020.0, np.nan, 2020.0], "load": [0.33333, 0.33331, 0.5, np.nan]}
    )
    table = slices.slices(rows, np.array([True, False, True, True]), min_n=1)
    assert dict(zip(table["slice"], table["n"], strict=True)) == {
        "year = 2019": 1,
        "year = 2020": 2,
        "load = 0.333": 2,
        "load = 0.5": 1,
    }


def test_what_names_single_images_or_all_of_them_is_no_slice() -> None:
    metadata = [{"file": f"{i}.png", "site": "north", "camera": i % 12} for i in range(24)]
    rows = table(
        metadata=[json.dumps(one) for one in metadata],
        format="PNG",
        dark=False,
        label=["cat"] * 12 + ["dog"] * 12,
    )
    assert [*slices.columns(rows)] == ["camera"]


@pytest.mark.filterwarnings("error")
def test_metadata_called_like_a_column_of_the_table_has_slices_of_its_own() -> None:
    """A listing may well say of its images which are dark, or what format they had."""
    metadata = [
        {"dark": "night", "format": "raw"},
        {"dark": "day", "format": "raw"},
        {"dark": "day", "format": "jpeg"},
    ]
    rows = table(
        metadata=[json.dumps(one) for one in metadata],
        format=["PNG", "PNG", "JPEG"],
        dark=[False, False, True],
        label=["cat", "dog", "cat"],
    )
    found = slices.slices(slices.columns(rows), np.array([True, True, False]), min_n=2)
    assert set(found["slice"]) == {
        "dark (metadata) = day",
        "format (metadata) = raw",
        "format = PNG",
        "dark = no",
    }
