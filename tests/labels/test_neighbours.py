"""The nearest are those that a search of all pairs finds."""

import numpy as np
import pytest

from pipeline.labels.neighbours import nearest


@pytest.mark.parametrize("at_once", [3, 512])
def test_the_nearest_are_those_of_the_whole_matrix(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labels.neighbours.QUERIES_AT_ONCE", at_once)
    seen = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    unit = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(40)
    np.testing.assert_array_equal(nearest(7 * seen, k=4), np.argsort(-cosine, axis=1)[:, :4])


@pytest.mark.parametrize(("n", "expected"), [(0, (0, 0)), (1, (1, 0)), (3, (3, 2))])
def test_few_images_have_few_neighbours(n: int, expected: tuple[int, int]) -> None:
    assert nearest(np.ones((n, 2), np.float32), k=8).shape == expected


def test_an_image_is_not_its_own_neighbour_and_ties_go_by_row() -> None:
    assert nearest(np.ones((3, 2), np.float32), k=2).tolist() == [[1, 2], [0, 2], [0, 1]]
