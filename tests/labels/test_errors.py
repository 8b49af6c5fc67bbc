"""Label errors: flipped labels are found, what cannot be judged is not suspected."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float32, Int64

from pipeline.labels import errors, folds, suspects
from pipeline.labels.errors import Labelling, out_of_fold

Data = tuple[Float32[np.ndarray, "n d"], Int64[np.ndarray, " n"]]


def clusters(n: int, classes: int) -> Data:
    """Classes far apart in feature space, n images in turn."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    centres = 4 * rng.standard_normal((classes, 12))
    return (centres[labels] + rng.standard_normal((n, 12))).astype(np.float32), labels.astype(
        np.int64
    )


def single(labels: Int64[np.ndarray, " n"], **more: Any) -> Labelling:
    """Each image is a group of its own."""
    return Labelling(labels, [str(i) for i in range(len(labels))], **more)


def test_flipped_labels_are_found_and_their_true_class_is_suggested() -> None:
    features, true = clusters(240, 3)
    labels = true.copy()
    flipped = np.arange(0, 240, 16)
    labels[flipped] = (labels[flipped] + 1) % 3
    probs = out_of_fold(features, single(labels), folds=5, C=0.01, seed=0)
    found = suspects.named(single(labels), probs, max_fraction=0.2)
    assert np.flatnonzero(found["suspect"]).tolist() == flipped.tolist()
    assert found["suggested"].tolist() == true.tolist()


def test_the_cap_keeps_the_most_doubtful() -> None:
    features, labels = clusters(200, 2)
    labels[::10] = 1 - labels[::10]
    probs = out_of_fold(features, single(labels), folds=5, C=0.01, seed=0)
    free = suspects.named(single(labels), probs, max_fraction=1.0)
    capped = suspects.named(single(labels), probs, max_fraction=0.02)
    assert capped["suspect"].sum() == 4
    left_out = free["suspect"] & ~capped["suspect"]
    assert (
        free.loc[capped["suspect"], "suspect_score"].min()
        >= free.loc[left_out, "suspect_score"].max()
    )


def test_an_image_is_never_judged_by_its_own_group() -> None:
    """Pure noise with every image twice: who has seen the twin knows the label, who has not can
    only guess.
    """
    rng = np.random.default_rng(0)
    features = rng.standard_normal((100, 200)).astype(np.float32).repeat(2, axis=0)
    labels = rng.integers(0, 2, 100).repeat(2)
    twins = [str(i // 2) for i in range(200)]
    honest = out_of_fold(features, Labelling(labels, twins), folds=5, C=1.0, seed=0)
    leaking = out_of_fold(features, single(labels), folds=5, C=1.0, seed=0)
    rows = np.arange(200)
    assert honest[rows, labels].mean() < 0.6
    assert leaking[rows, labels].mean() > 0.8


def test_the_same_seed_gives_the_same_probabilities() -> None:
    features, labels = clusters(60, 3)
    first, second = (
        out_of_fold(features, single(labels), folds=4, C=1.0, seed=3) for _ in range(2)
    )
    assert (first == second).all()


def test_a_class_of_one_group_is_left_in_peace() -> None:
    features, labels = clusters(62, 2)
    labels[60:] = 2
    said = Labelling(labels, [*map(str, range(60)), "twins", "twins"])
    probs = out_of_fold(features, said, folds=5, C=0.1, seed=0)
    assert probs[60:].tolist() == [[1 / 3] * 3] * 2
    assert (probs[:60, 2] == 0).all()
    found = suspects.named(single(labels), probs, max_fraction=1.0)
    assert not found["suspect"].any()
    assert found["suggested"].tolist() == labels.tolist()


@pytest.mark.parametrize(("n", "classes"), [(0, 1), (1, 1), (9, 1), (2, 2)])
def test_where_nothing_can_be_learned_nobody_is_suspect(n: int, classes: int) -> None:
    features, labels = clusters(n, classes)
    probs = out_of_fold(features, single(labels), folds=5, C=1.0, seed=0)
    found = suspects.named(single(labels), probs, max_fraction=1.0)
    assert len(found) == n
    assert not found["suspect"].any()


@given(
    drawn=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8)), min_size=1, max_size=30),
    folds=st.integers(2, 5),
    max_fraction=st.floats(0, 1),
)
@settings(max_examples=25)
def test_any_classes_and_groups_give_probabilities_and_a_bounded_number_of_suspects(
    drawn: list[tuple[int, int]], folds: int, max_fraction: float
) -> None:
    labels = np.array([label for label, _ in drawn], dtype=np.int64)
    features = np.random.default_rng(0).standard_normal((len(drawn), 3)).astype(np.float32)
    probs = out_of_fold(
        features, Labelling(labels, [str(group) for _, group in drawn]), folds=folds, C=0.1, seed=0
    )
    found = suspects.named(single(labels), probs, max_fraction=max_fraction)
    assert np.allclose(probs.sum(axis=1), 1)
    assert found["suspect_score"].between(0, 1).all()
    assert found["suspect"].sum() <= max_fraction * len(labels)


def test_the_images_may_be_some_rows_of_the_features() -> None:
    features, labels = clusters(120, 3)
    rows = np.random.default_rng(0).permutation(120)[:60]
    direct = out_of_fold(features[rows], single(labels[rows]), folds=5, C=0.01, seed=0)
    np.testing.assert_array_equal(
        out_of_fold(features, single(labels[rows]), folds=5, C=0.01, seed=0, rows=rows), direct
    )


def test_weights_say_how_much_an_image_counts_whatever_their_scale() -> None:
    features, labels = clusters(90, 3)
    weights = np.where(labels == 2, 0.0, 1.0)
    probs = out_of_fold(features, single(labels, weights=weights), folds=3, C=0.01, seed=0)
    assert (
        probs[labels == 2] == 1 / 3
    ).all()  # a class that counts for nothing is neither learned nor judged
    assert (probs[labels < 2, 2] == 0).all()
    even, huge = (
        out_of_fold(features, single(labels, weights=np.full(90, w)), folds=3, C=0.01, seed=0)
        for w in (1.0, 1e308)
    )
    np.testing.assert_allclose(huge, even, atol=1e-9)
    np.testing.assert_allclose(
        even, out_of_fold(features, single(labels), folds=3, C=0.01, seed=0), atol=1e-6
    )


def test_a_graded_label_is_learned_and_doubted_as_what_it_is() -> None:
    features, labels = clusters(200, 2)
    shares = np.where(np.eye(2)[labels] == 1, 0.7, 0.3)
    certain, graded = (
        out_of_fold(features, single(labels, shares=said), folds=5, C=0.1, seed=0)
        for said in (None, shares)
    )
    own = np.arange(200), labels
    assert certain[own].mean() > 0.95 and graded[own].mean() == pytest.approx(0.7, abs=0.05)
    doubt = suspects.named(single(labels, shares=shares), graded, max_fraction=1.0)["suspect_score"]
    assert (
        doubt.mean()
        < 0.1
        < suspects.named(single(labels), graded, max_fraction=1.0)["suspect_score"].mean()
    )


def test_shares_of_one_class_alone_are_plain_labels() -> None:
    features, labels = clusters(90, 3)
    labels[::9] = (labels[::9] + 1) % 3
    certain, shared = (
        single(labels, weights=np.linspace(0.5, 2, 90), shares=said)
        for said in (None, np.eye(3)[labels])
    )
    plain, graded = (
        out_of_fold(features, said, folds=3, C=0.01, seed=0) for said in (certain, shared)
    )
    np.testing.assert_allclose(graded, plain, atol=1e-9)
    one, other = (suspects.named(said, plain, max_fraction=0.2) for said in (certain, shared))
    pd.testing.assert_frame_equal(one, other)


def test_of_many_graded_images_the_smallest_shares_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errors, "LEARN", 60)
    features, labels = clusters(120, 4)
    shares = 0.8 * np.eye(4)[labels] + 0.05
    probs = out_of_fold(features, single(labels, shares=shares), folds=4, C=0.1, seed=0)
    assert (probs.argmax(axis=1) == labels).all() and np.allclose(probs.sum(axis=1), 1)


def test_of_many_images_a_share_of_each_class_is_enough_to_learn_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = clusters(600, 3)
    labels[:4] = 3  # a class so rare that chance alone could leave it out
    features[:4] += 20
    whole = out_of_fold(features, single(labels), folds=4, C=0.01, seed=0)
    monkeypatch.setattr(folds, "LEARN", 150)
    monkeypatch.setattr(errors, "AT_ONCE", 40)
    some = folds.drawn(np.arange(600), labels, 0)
    assert len(some) == 150 and len(set(some)) == 150 and (np.diff(some) > 0).all()
    assert np.bincount(labels[some])[:3].min() >= 48 and np.bincount(labels[some])[3] >= 1
    drawn = out_of_fold(features, single(labels), folds=4, C=0.01, seed=0)
    assert (drawn.argmax(axis=1) == whole.argmax(axis=1))[4:].all()
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
