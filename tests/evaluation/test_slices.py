"""What the report makes of the table's columns."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import slices


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
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-6)


def test_slices_without_any_row_keep_their_columns():
    table = slices.slices(pd.DataFrame({"camera": [None, ""]}), np.array([True, True]), min_n=1)
    assert list(table.columns) == ["slice", "n", "accuracy", "low", "high"]
    assert table.empty


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
    rows = pd.DataFrame(
        {"metadata": [json.dumps(one) for one in metadata], "format": "PNG", "dark": False}
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
    rows = pd.DataFrame(
        {
            "metadata": [json.dumps(one) for one in metadata],
            "format": ["PNG", "PNG", "JPEG"],
            "dark": [False, False, True],
        }
    )
    table = slices.slices(slices.columns(rows), np.array([True, True, False]), min_n=2)
    assert set(table["slice"]) == {
        "dark (metadata) = day",
        "format (metadata) = raw",
        "format = PNG",
        "dark = no",
    }
