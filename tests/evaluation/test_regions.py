"""What a map names, the boxes that images come with, and what the verdict says of both."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation import region_rules, regions
from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figure
from pipeline.evaluation.regions import COLUMNS
from pipeline.pixels import squares

PLAIN = {"denoise": 0.0, "clahe": 0.0, "normalise_brightness": False}


def test_the_region_is_what_hangs_together_with_the_strongest_cell() -> None:
    effect = np.zeros((6, 6), np.float32)
    effect[1:3, 2] = [2.0, 1.2]
    effect[1, 3] = 0.8  # too weak
    effect[4, 0] = 1.9  # elsewhere
    assert regions.box(effect, 60) == (10, 20, 30, 30)
    assert regions.box(np.zeros((6, 6), np.float32), 60) is None
    assert regions.box(np.ones((6, 6), np.float32), 60) is None  # the whole photo


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(120, 200), (210, 90), (100, 100)])
def test_a_given_box_lies_where_the_square_shows_the_thing(
    fit: str, height: int, width: int
) -> None:
    """Pixels of the original, through the same fit as the photo itself."""
    image = np.zeros((height, width, 3), np.uint8)
    x, y, w, h = 20, 70, 60, 25
    image[y : y + h, x : x + w] = 255
    square = squares.square(image, size_px=64, fit=fit, **PLAIN)
    rows, columns = np.nonzero(square[..., 0] > 127)
    seen = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    metadata = json.dumps({"x": x, "y": str(y), "w": w, "h": h})  # a CSV may have them as text
    table = pd.DataFrame({"metadata": [metadata], "width": width, "height": height})
    np.testing.assert_allclose(regions.given_boxes(table, fit, 64)[0], seen, atol=1.1)


def test_what_is_no_box_or_was_cut_off_is_none() -> None:
    cells = [{"x": 1, "y": 1, "w": 0, "h": 5}, {}, {"x": "?", "y": 1, "w": 4, "h": 5}]
    cells.append({"x": 0, "y": 10, "w": 20, "h": 50})  # at the left, which the crop takes away
    rows = pd.DataFrame({"metadata": map(json.dumps, cells), "width": 200, "height": 100})
    assert np.isnan(regions.given_boxes(rows, "crop", 64)).all()


def test_the_strongest_cell_has_to_meet_the_box() -> None:
    effect = np.zeros((5, 5), np.float32)
    effect[2, 2] = 1.0  # the centre of 50 pixels
    at = np.array([[20.0, 20, 30, 30], [29.0, 29, 40, 40], [40.0, 40, 50, 50], [np.nan] * 4])
    hits = [regions.points_within(effect, box, 50) for box in at]
    assert [hit for hit, _ in hits[:3]] == [1.0, 1.0, 0.0] and np.isnan(hits[3]).all()
    assert hits[0][1] == 1 / 25  # by chance


def test_the_pointing_game_is_played_on_right_answers_alone() -> None:
    """The mistakes were not drawn at random."""
    table = pd.DataFrame(np.nan, range(4), COLUMNS).assign(correlation=0.1)
    table["label"], table["predicted"] = list("aabb"), list("abbb")
    table["in_box"], table["in_box_by_chance"] = [1.0, 1.0, 0.0, np.nan], 0.2
    found = regions.figures(table)
    assert (found["regions/in_box"].value, found["regions/in_box"].n) == (0.5, 2)
    assert "regions/deletion" not in found  # no map names a box


def figure(value: float, low: float, high: float, n: int = 12) -> Figure:
    return Figure(value=value, n=n, method="m", meaning="m", low=low, high=high)


SOUND = {
    "regions/shuffled": figure(0.2, 0.0, 0.4),
    "regions/deletion": figure(0.92, 0.65, 0.99),
    "regions/in_box_by_chance": figure(0.1, 0.1, 0.1),
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"shuffled": figure(0.93, 0.9, 0.96)}, "hardly change when the network's weights"),
        ({"shuffled": figure(0.6, 0.3, 0.8)}, ""),  # chance may explain it
        (
            {"deletion": figure(0.5, 0.25, 0.75)},
            "at 50\u202f% of the places tried in 12 photos",
        ),
        ({"in_box": figure(0.5, 0.25, 0.75)}, "in 6 of 12 right answers the strongest part"),
        ({"in_box": figure(0.92, 0.65, 0.99)}, ""),
    ],
)
def test_the_verdict_says_when_maps_say_nothing_and_when_they_miss_the_thing(
    changed: dict[str, Figure], said: str
) -> None:
    figures = SOUND | {f"regions/{name}": each for name, each in changed.items()}
    sentence = region_rules.where_it_looked(figures, Facts.model_construct())
    assert said in sentence.words if sentence else not said
    assert (sentence is None) == (not said)
