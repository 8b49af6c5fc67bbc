"""Proposals: groups are pure where classes lie apart, nothing is proposed twice, and a person needs
far fewer actions.
"""

import numpy as np
import pytest

from pipeline.review import proposals


@pytest.fixture(scope="module")
def blobs() -> tuple[proposals.Map, list[str]]:
    """Four classes, each of three heaps of twenty images."""
    random = np.random.default_rng(0)
    centres = 4 * random.normal(size=(12, 20))
    seen = np.repeat(centres, 20, axis=0) + 0.5 * random.normal(size=(240, 20))
    return proposals.survey(seen.astype(np.float16)), [f"c{i // 60}" for i in range(240)]


def test_a_group_is_of_one_cluster_and_no_image_is_in_two(
    blobs: tuple[proposals.Map, list[str]],
) -> None:
    where, _ = blobs
    found = proposals.groups(where, range(240), [], None, n=99)
    rows = [row for group in found for row in group]
    assert len(rows) == len(set(rows))
    assert all(len(set(where.cluster[group])) == 1 for group in found)
    assert max(map(len, found)) <= proposals.GROUP


def test_the_first_groups_reach_every_class(blobs: tuple[proposals.Map, list[str]]) -> None:
    where, labels = blobs
    first = proposals.groups(where, range(240), [], None, n=12)
    assert {labels[group[0]] for group in first} == set(labels)


def test_one_by_one_starts_with_one_of_each_cluster(blobs: tuple[proposals.Map, list[str]]) -> None:
    where, _ = blobs
    order = proposals.one_by_one(where, range(240), None)
    assert sorted(order) == list(range(240))
    assert len(set(where.cluster[order[:12]])) == 12


def test_with_a_model_the_most_uncertain_comes_first(
    blobs: tuple[proposals.Map, list[str]],
) -> None:
    where, labels = blobs
    known = list(range(0, 240, 10))
    guessed = proposals.guess(where, known, [labels[row] for row in known])
    assert guessed is not None
    rest = [row for row in range(240) if row not in known]
    first = proposals.one_by_one(where, rest, guessed)[0]
    assert guessed.probability[first] == min(guessed.probability[row] for row in rest)
    assert np.mean([guessed.label[row] == labels[row] for row in rest]) > 0.95


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a"]])
def test_one_class_makes_no_model(
    blobs: tuple[proposals.Map, list[str]], labels: list[str]
) -> None:
    assert proposals.guess(blobs[0], range(len(labels)), labels) is None
    assert proposals.growth(blobs[0], range(len(labels)), labels) == []


def test_growth_is_measured_at_four_sizes(blobs: tuple[proposals.Map, list[str]]) -> None:
    where, labels = blobs
    rows = np.random.default_rng(1).permutation(240)[:80].tolist()
    found = proposals.growth(where, rows, [labels[row] for row in rows])
    assert [n for n, _ in found] == [20, 40, 60, 80]
    assert all(0 <= accuracy <= 1 for _, accuracy in found)


def test_look_alikes_do_not_judge_each_other(blobs: tuple[proposals.Map, list[str]]) -> None:
    """Heaps of one class lie anywhere here, so that only copies of what is known could be
    recognised.
    """
    where, labels = blobs
    assert proposals.growth(where, range(240), labels)[-1][1] < 0.8


def test_expected_growth_follows_a_power_law() -> None:
    measured = [(n, 1 - n**-0.5) for n in (25, 50, 75, 100)]
    np.testing.assert_allclose(
        proposals.expected(measured), [(n, 1 - n**-0.5) for n in (100, 150, 200)]
    )
    assert proposals.expected([(10, 1.0), (20, 1.0), (30, 0.9)]) == []


def test_expected_growth_never_falls() -> None:
    assert (
        proposals.expected([(10, 0.9), (20, 0.8), (30, 0.7)])[0][1]
        == proposals.expected([(10, 0.9), (20, 0.8), (30, 0.7)])[-1][1]
    )
