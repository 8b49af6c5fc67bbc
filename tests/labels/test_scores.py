"""How doubtful a label is."""

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores

from pipeline.labels import scores


def test_it_is_the_mean_of_self_confidence_and_normalised_margin() -> None:
    random = np.random.default_rng(0)
    probs, labels = random.dirichlet(np.ones(5), 40), random.integers(0, 5, 40)
    quality = [
        get_label_quality_scores(labels, probs, method=method)
        for method in ("self_confidence", "normalized_margin")
    ]
    np.testing.assert_allclose(scores.doubt(labels, probs), 1 - np.mean(quality, axis=0))


def test_of_two_classes_it_is_what_the_label_lacks_of_certainty() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert scores.doubt(np.array([0, 0]), probs) == pytest.approx([0.1, 0.8])


def test_one_strong_rival_is_more_doubtful_than_many_weak_ones() -> None:
    probs = np.array([[0.4, 0.6, 0.0, 0.0], [0.4, 0.2, 0.2, 0.2]])
    rival, weak = scores.doubt(np.array([0, 0]), probs)
    assert rival > weak
