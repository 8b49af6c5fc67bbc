import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

from pipeline.exported import signature
from pipeline.training import density


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, d)) @ random.normal(size=(d, d)) + 3).astype(np.float32)


def said(made: density.Density, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    score, sketch = made(torch.from_numpy(features))
    return score.numpy(), sketch.numpy()


def test_with_all_but_one_component_it_is_the_mahalanobis_distance() -> None:
    x = normal(400, 6)
    score, _ = said(density.fit(x, components=5, sketch=16, seed=0), x)
    inverse = np.linalg.inv(np.cov(x.astype(np.float64).T))
    expected = [mahalanobis(row, x.mean(0), inverse) ** 2 / 6 for row in x]
    np.testing.assert_allclose(score, expected, rtol=0.02)


@given(st.integers(2, 30), st.integers(2, 40), st.integers(1, 64))
def test_training_images_are_not_strange_and_their_sketch_has_unit_variance(
    n: int, d: int, components: int
) -> None:
    x = normal(n, d)
    score, sketch = said(density.fit(x, components=components, sketch=16, seed=0), x)
    assert sketch.shape == (n, signature.SKETCH)
    assert np.isfinite(score).all() and score.mean() <= 1.01
    used = sketch.std(0, ddof=1)[: max(1, min(components, n // 4, d - 1))]
    np.testing.assert_allclose(used, 1, rtol=0.05)


def test_what_leaves_the_span_of_the_training_images_is_strange() -> None:
    flat = normal(200, 3) @ np.eye(3, 20, dtype=np.float32)
    made = density.fit(flat + normal(200, 20, seed=1) * 0.01, components=3, sketch=16, seed=0)
    beside = flat[:5].copy()
    beside[:, 19] += 50
    assert said(made, beside)[0].min() > 20 * said(made, flat)[0].max()


def test_features_that_never_vary_give_finite_numbers() -> None:
    x = np.ones((10, 8), np.float32)
    assert np.isfinite(said(density.fit(x, components=4, sketch=16, seed=0), x + 1)[0]).all()


def test_one_image_has_no_density() -> None:
    with pytest.raises(ValueError, match="at least two images"):
        density.fit(np.ones((1, 4), np.float32), components=2, sketch=16, seed=0)
