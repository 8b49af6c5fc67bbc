"""Sets of classes hold the right one as often as they promise: by simulation and by reference."""

import numpy as np
import pytest

from pipeline.evaluation import conformal
from pipeline.evaluation.proportions import wilson

CLASSES = ["defective", "functional"]


def drawn(random: np.random.Generator, n: int, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a model that is too sure, and worst on its rare class."""
    labels = random.choice(k, size=n, p=np.array([0.15, 0.35, 0.5])[:k])
    logits = (
        random.normal(size=(n, k)) * 1.5 + np.eye(k)[labels] * np.array([1, 2, 3])[labels, None]
    )
    return labels, np.exp(2 * logits) / np.exp(2 * logits).sum(1, keepdims=True)


def covered(by_class: bool, n: int, runs: int) -> tuple[float, np.ndarray]:
    """The mean coverage over repetitions, before empty sets get a class: in all and by class."""
    random, hits, shares = np.random.default_rng(0), [], []
    for _ in range(runs):
        labels, probs = drawn(random, n)
        sets = conformal.calibrated(labels, probs, level=0.9, by_class=by_class)
        new, there = drawn(random, 400)
        hit = (there >= np.array(sets.least_probability))[np.arange(400), new]
        hits.append(hit.mean())
        shares.append([hit[new == c].mean() for c in range(3)])
    return float(np.mean(hits)), np.mean(shares, axis=0)


@pytest.mark.parametrize("n", [60, 400])
def test_nominal_90_percent_covers_90_percent_in_each_class_over_many_repetitions(n: int) -> None:
    together, apart = covered(True, n, 400)
    assert 0.885 <= together <= 0.925 if n == 60 else 0.885 <= together <= 0.915
    assert (apart >= 0.885).all()


@pytest.mark.parametrize("n", [99, 400])
def test_without_classes_it_covers_90_percent_over_all_and_less_of_the_hardest(n: int) -> None:
    together, apart = covered(False, n, 400)
    assert 0.885 <= together <= 0.915
    assert apart.min() < 0.85


@pytest.mark.parametrize("n", [9, 10, 19, 20, 99, 100, 392])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_the_rank_is_the_one_that_exactly_covers_the_level(n: int, level: float) -> None:
    """Held against an independent reference: among n + 1 exchangeable images each is as likely to
    be the new one, so the share of them that the others' threshold covers is counted. It must reach
    the level, and one rank less must not.
    """
    own = np.random.default_rng(n).permutation(n + 1) / n
    reached = np.mean(
        [own[i] >= conformal.least_probability(np.delete(own, i), level) for i in range(n + 1)]
    )
    assert level - 1e-9 <= reached < level + 1 / (n + 1) or reached == 1.0


def test_the_threshold_is_that_of_numpys_quantile_with_the_corrected_level() -> None:
    """The textbook form (Angelopoulos and Bates 2023, section 1): the higher of two at
    ceil((n + 1)(1 - alpha)) / n, by the inverted distribution, not by `higher`, which overshoots.
    """
    own = np.random.default_rng(1).random(392)
    corrected = np.ceil(393 * 0.9) / 392
    score = np.quantile(1 - own, corrected, method="inverted_cdf")
    assert conformal.least_probability(own, 0.9) == pytest.approx(1 - score)


def test_too_few_images_of_a_class_put_it_into_every_set() -> None:
    labels, probs = np.array([0] * 8 + [1] * 50), np.full((58, 2), 0.5)
    sets = conformal.calibrated(labels, probs, level=0.9, by_class=True)
    assert (sets.least_probability, sets.n) == ([0.0, 0.5], [8, 50])


def test_an_empty_set_becomes_the_likeliest_class() -> None:
    inside = conformal.members(np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]), [0.6, 0.4, 0.3])
    assert inside.tolist() == [[True, False, False], [True, False, False]]


def test_coverage_counts_labels_in_sets_over_all_and_in_each_class() -> None:
    sets = conformal.Sets(level=0.9, by_class=True, least_probability=[0.4, 0.6], n=[20, 30])
    labels = np.array([0, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.5, 0.5]])
    table = conformal.coverage(labels, probs, sets, CLASSES).set_index("class")
    assert table["coverage"].to_dict() == {
        conformal.ALL: 0.5,
        "defective": 0.5,
        "functional": 0.5,
    }
    assert table.loc["functional", "mean_size"] == 1.5
    assert tuple(table.loc[conformal.ALL, ["low", "high"]]) == wilson(2, 4)
    assert table.loc[conformal.ALL, "n_calibration"] == 50


def test_a_class_without_test_images_has_no_coverage() -> None:
    sets = conformal.Sets(level=0.9, by_class=True, least_probability=[0.4, 0.6], n=[20, 30])
    table = conformal.coverage(np.array([0]), np.array([[0.9, 0.1]]), sets, CLASSES)
    assert np.isnan(table.set_index("class").loc["functional", "coverage"])


def test_digits_as_classes_are_read_as_text_from_what_tune_recorded(tmp_path) -> None:
    rows = ["id,label,p_007,p_7", *["a,007,0.8,0.2"] * 20, *["b,7,0.4,0.6"] * 20]
    (tmp_path / "validation.csv").write_text("\n".join(rows) + "\n")
    sets = conformal.from_validation(tmp_path, ["007", "7"], level=0.9, by_class=True)
    assert sets.least_probability == [0.8, 0.6]
