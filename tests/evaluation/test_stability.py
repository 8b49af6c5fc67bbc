"""Small changes are small, parts show what they say, and flips are counted."""

import numpy as np
import pytest

from pipeline.evaluation import alterations, stability
from pipeline.evaluation.figures import Figure
from pipeline.evaluation.proportions import wilson

RANDOM = np.random.default_rng(0)
SMOOTH = np.clip(
    np.add.outer(np.arange(64), 2 * np.arange(64))[..., None] + [0, 20, 40], 0, 255
).astype(np.uint8)


@pytest.mark.parametrize("name", [*alterations.NATURAL, *alterations.PARTS])
def test_an_altered_image_keeps_its_size_and_kind_and_the_same_seed_gives_the_same(name) -> None:
    alter = {**alterations.NATURAL, **alterations.PARTS}[name]
    one, same = (alter(SMOOTH, np.random.default_rng(3)) for _ in range(2))
    assert (one.shape, one.dtype) == (SMOOTH.shape, np.uint8)
    assert (one == same).all()
    assert (one != SMOOTH).any()


@pytest.mark.parametrize("name", alterations.NATURAL)
def test_a_natural_change_is_small(name: str) -> None:
    changed = alterations.NATURAL[name](SMOOTH, np.random.default_rng(0))
    assert np.abs(changed.astype(float) - SMOOTH).mean() < 12


def test_a_shift_moves_every_pixel_by_two() -> None:
    shifted = alterations.shift_2px(SMOOTH, np.random.default_rng(0))
    inside = [
        (shifted[8:-8, 8:-8] == np.roll(SMOOTH, (y, x), (0, 1))[8:-8, 8:-8]).all()
        for y in (-2, 2)
        for x in (-2, 2)
    ]
    assert sum(inside) == 1


def test_border_and_centre_show_what_the_other_hides() -> None:
    border, centre = (
        alter(SMOOTH, RANDOM) for alter in (alterations.border_alone, alterations.centre_alone)
    )
    kept = (border == SMOOTH).all(-1).astype(int) + (centre == SMOOTH).all(-1)
    assert (kept >= 1).all()
    assert 0.45 < (centre == SMOOTH).all(-1).mean() < 0.6
    assert (border[20:44, 20:44] == border[32, 32]).all()


def test_shuffled_patches_keep_every_pixel() -> None:
    shuffled = alterations.shuffled_patches(SMOOTH, RANDOM)
    assert (np.sort(shuffled.ravel()) == np.sort(SMOOTH.ravel())).all()


def test_a_sample_has_each_class_by_its_share() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    chosen = alterations.sample(labels, 50, seed=1)
    assert len(np.unique(chosen)) == 50
    assert np.abs(np.bincount(labels[chosen]) - [30, 15, 5]).max() <= 1
    assert len(alterations.sample(labels[:7], 50, seed=1)) == 7


def test_flips_count_other_answers_whether_right_or_wrong() -> None:
    labels, plain = np.array([0, 0, 1, 1]), np.eye(2)[[0, 1, 1, 1]]
    table = stability.table(labels, plain, {"shift_2px": np.eye(2)[[1, 0, 1, 1]]})
    assert table["flips"].tolist() == [0, 0.5]
    assert table["accuracy"].tolist() == [0.75, 0.75]
    assert tuple(table.loc[1, ["flips_low", "flips_high"]]) == wilson(2, 4)
    figure = stability.flips(table)["stability/flips_shift_2px"]
    assert (figure.value, figure.n) == (0.5, 4)


def test_the_context_names_the_accuracy_of_each_part_and_of_the_whole() -> None:
    table = stability.table(np.array([0, 1]), np.eye(2), {"border_alone": np.eye(2)[[0, 0]]})
    figures = stability.context(table)
    assert {name: each.value for name, each in figures.items()} == {
        "context/whole": 1.0,
        "context/border_alone": 0.5,
    }


def part(value: float, n: int = 100) -> Figure:
    low, high = wilson(round(value * n), n)
    return Figure(value=value, n=n, method="m", meaning="x", low=low, high=high)


@pytest.mark.parametrize(
    ("border", "whole", "expected"),
    [(0.9, 0.92, True), (0.86, 0.92, True), (0.7, 0.92, False), (0.5, 0.5, False)],
)
def test_a_part_suffices_where_it_keeps_most_of_what_is_known_beyond_guessing(
    border: float, whole: float, expected: bool
) -> None:
    assert stability.suffices(part(border), part(whole), guessing=0.5) is expected


def test_a_border_that_is_no_better_than_guessing_is_rarely_called_sufficient() -> None:
    random = np.random.default_rng(0)
    alarms = [
        stability.suffices(part(random.binomial(100, 0.5) / 100), part(0.9), guessing=0.5)
        for _ in range(1000)
    ]
    assert np.mean(alarms) < 0.01
