"""What lies far from all others is an outlier; a sparse but ordinary image is not."""

import numpy as np
import pytest

from pipeline.labels.neighbours import nearest
from pipeline.labels.outliers import distances, outliers


def cloud(n: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return (np.array([3.0, 0, 0, 0, 0, 0]) + 0.3 * random.normal(size=(n, 6))).astype(np.float32)


def test_the_one_on_the_other_side_is_an_outlier() -> None:
    seen = cloud(200)
    seen[17] = [-3, 0.1, 0, 0, 0, 0]
    far = distances(seen, nearest(seen, k=4))
    assert far.argmax() == 17
    assert np.flatnonzero(outliers(far, deviations=4.0)).tolist() == [17]


def test_the_distance_is_the_mean_cosine_distance_to_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.labels.outliers.AT_ONCE", 7)
    seen = cloud(20)
    unit = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    cosine = np.sort(unit @ unit.T - 3 * np.eye(20), axis=1)[:, -4:]
    np.testing.assert_allclose(
        distances(seen, nearest(seen, k=4)), 1 - cosine.mean(axis=1), atol=1e-6
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_of_few_or_equal_images_none_is_an_outlier(n: int) -> None:
    seen = np.ones((n, 3), np.float32)
    assert not outliers(distances(seen, nearest(seen, k=4)), deviations=1.0).any()
