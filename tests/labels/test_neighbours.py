"""The nearest are those that a search of all pairs finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels import neighbours
from pipeline.labels.neighbours import nearest


@pytest.mark.parametrize("at_once", [3, 512])
def test_the_nearest_are_those_of_the_whole_matrix(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def heaps(n: int, d: int, seed: int) -> np.ndarray:
    """Embeddings as a network gives them: heaps of like images, in half precision."""
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(1 + n // 20, d))[random.integers(0, 1 + n // 20, n)]
        + 0.4 * random.normal(size=(n, d))
    ).astype(np.float16)


@given(n=st.integers(300, 500), d=st.integers(2, 80), seed=st.integers(0, 99), k=st.integers(1, 8))
@settings(max_examples=10)
def test_an_index_whose_every_cell_is_looked_into_finds_what_all_pairs_do(
    n: int, d: int, seed: int, k: int
) -> None:
    seen = heaps(n, d, seed)
    with pytest.MonkeyPatch.context() as patch:
        exact = nearest(seen, k=k)
        patch.setattr(neighbours, "EXACT", 10)
        patch.setattr(neighbours, "PROBES", n)
        patch.setattr(neighbours, "CANDIDATES", (n - 1) // k)
        indexed = nearest(seen, k=k)
    unit = neighbours.unit(seen).astype(np.float64)
    alike = [np.einsum("nd,nkd->nk", unit, unit[rows]) for rows in (exact, indexed)]
    np.testing.assert_allclose(*alike, atol=1e-6)  # of equally like ones either may come first
    assert all(len(set(row)) == k and i not in row for i, row in enumerate(indexed.tolist()))


def test_the_index_as_it_is_set_misses_few_and_gives_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = heaps(3000, 64, 0)
    exact = nearest(seen, k=8)
    monkeypatch.setattr(neighbours, "EXACT", 10)
    indexed = nearest(seen, k=8)
    assert (
        np.mean(
            [
                len(set(a) & set(b)) / 8
                for a, b in zip(exact.tolist(), indexed.tolist(), strict=True)
            ]
        )
        > 0.95
    )
    np.testing.assert_array_equal(nearest(seen, k=8), indexed)
