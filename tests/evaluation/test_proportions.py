"""The interval of a share covers the truth as often as it says."""

import numpy as np
import pytest

from pipeline.evaluation.proportions import wilson


@pytest.mark.parametrize(("n", "truth"), [(656, 0.9), (200, 0.97), (100, 0.75), (40, 0.6)])
def test_95_percent_intervals_of_an_accuracy_cover_it_95_percent_of_the_time(
    n: int, truth: float
) -> None:
    right = np.random.default_rng(n).binomial(n, truth, 20_000)
    ends = {r: wilson(int(r), n) for r in np.unique(right)}
    covered = np.mean([ends[r][0] <= truth <= ends[r][1] for r in right])
    assert 0.935 <= covered <= 0.965


def test_without_a_case_anything_is_possible() -> None:
    assert wilson(0, 0) == (0, 1)


def test_a_perfect_model_on_few_images_is_not_sure_to_be_perfect() -> None:
    low, high = wilson(20, 20)
    assert high == 1 and 0.8 < low < 0.9
