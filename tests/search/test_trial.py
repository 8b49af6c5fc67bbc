"""A trial is a function of its arguments: it can be sent anywhere, and says there what it says
here.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import HOG, SMALL_CNN, candidate, draw, samples

from pipeline.compute import parallel
from pipeline.config.schema import Candidate
from pipeline.search.trial import Budget, Data, Outcome, metrics, subset, trial
from pipeline.storage import store
from pipeline.training import augmentation
from pipeline.training.samples import Samples

LABELS_16 = [0, 1] * 8
FLIPS = augmentation.from_nodes([{"_target_": "albumentations.HorizontalFlip"}])
MLP = candidate(HOG, frozen=True, average_views=True, head={"kind": "mlp", "hidden": 8})
KINDS = {
    "in steps": MLP,
    "at once": candidate(HOG, frozen=True, head={"kind": "svm", "C": 0.1}),
    "network": candidate(SMALL_CNN, epochs=2),
}


def data(folder: Path | None = None) -> Data:
    """Training images, mapped from a file where a folder is given, and others to be judged by."""
    train = samples(LABELS_16)
    if folder:
        array = store.open_array(folder / "images.npy", train.arrays[0].shape, np.uint8)
        array[:] = train.arrays[0]
        array.flush()
        mapped = store.read_array(folder / "images.npy")
        train = Samples((mapped,), train.place, train.targets, train.labels)
    return Data(train, samples([0, 1, 1], images=draw([0, 1, 1], seed=1)), "flip", FLIPS)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process computes with as many threads as this one, and loads images itself."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_has_the_same_outcome_in_another_process(kind: str, tmp_path: Path) -> None:
    arguments = KINDS[kind], data(tmp_path), Budget(0.5), 3
    here, there = trial(*arguments), parallel.apart(trial, *arguments)
    assert here == there
    assert here.end == "complete" and here.val_logits is not None
    assert here.size_mb == there.size_mb > 0


def test_data_on_disk_are_sent_as_the_place_where_they_lie(tmp_path: Path) -> None:
    assert len(pickle.dumps(data(tmp_path))) < len(pickle.dumps(data()))


def changed(outcome: Outcome, **values: Any) -> Outcome:
    return Outcome(**{**vars(outcome), **values})


def test_outcomes_differ_in_what_came_of_them_and_not_in_what_they_cost() -> None:
    one = Outcome("complete", "", [{"epoch": 0.0}], np.zeros((2, 2), np.float32), 1.0)
    assert one == changed(one, train_seconds=9.0, latency_ms=3.0)
    assert one != changed(one, history=[])
    assert one != changed(one, val_logits=None)
    assert one != changed(one, val_logits=np.ones((2, 2), np.float32))
    assert one != changed(one, end="stopped")


def test_a_report_may_end_a_trial_and_says_why() -> None:
    heard: list[float] = []

    def report(epoch: dict[str, float]) -> str:
        heard.append(epoch["epoch"])
        return "enough" if len(heard) == 2 else ""

    outcome = trial(MLP, data(), Budget(), 0, report)
    assert (outcome.end, outcome.why, outcome.val_logits) == ("stopped", "enough", None)
    assert heard == [0.0, 1.0] == [epoch["epoch"] for epoch in outcome.history]


def test_a_trial_that_diverges_says_so() -> None:
    wild: Candidate = candidate(HOG, frozen=True, lr=1e30, head={"kind": "mlp", "hidden": 8})
    outcome = trial(wild, data(), Budget(), 0)
    assert outcome.end == "diverged" and "lower fit.lr" in outcome.why


def test_a_trial_says_what_the_last_epoch_said_and_what_the_network_costs() -> None:
    outcome = trial(MLP, data(), Budget(latency_runs=2), 0)
    last = {key: outcome.history[-1][key] for key in metrics(outcome, data())}
    assert metrics(outcome, data()) == pytest.approx(last)
    assert outcome.latency_ms > 0 and outcome.train_seconds > 0
    assert np.isnan(trial(MLP, data(), Budget(), 0).latency_ms)


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(LABELS, st.floats(0.01, 1), st.integers(0, 9))
def test_a_part_has_its_share_of_every_class_and_at_least_one_image(
    labels: list[int], fraction: float, seed: int
) -> None:
    array = np.array(labels)
    part = subset(array, fraction, seed)
    shares = {k: max(1, round(fraction * labels.count(k))) for k in set(labels)}
    assert {k: int((array[part] == k).sum()) for k in shares} == shares
    assert (np.diff(part) > 0).all()


@given(LABELS, st.integers(0, 9))
def test_the_whole_is_everything_in_order(labels: list[int], seed: int) -> None:
    assert subset(np.array(labels), 1.0, seed).tolist() == list(range(len(labels)))


def test_the_part_follows_the_seed() -> None:
    labels = np.repeat([0, 1], 50)
    assert subset(labels, 0.3, 1).tolist() == subset(labels, 0.3, 1).tolist()
    assert subset(labels, 0.3, 1).tolist() != subset(labels, 0.3, 2).tolist()
