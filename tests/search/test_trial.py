"""A trial is a function of its arguments: it can be sent anywhere, and says there what it says
here.
"""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from toys import HOG, SMALL_CNN, TIMM, candidate, draw, samples

from pipeline.compute import parallel
from pipeline.config.schema import Candidate
from pipeline.search.trial import Budget, Data, Outcome, Report, metrics, subset, trial, tried
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


def told(outcome: Outcome) -> tuple[str, int, bool]:
    return outcome.end, len(outcome.history), outcome.remembered


def stop_at(epoch: float, heard: list[float] | None = None) -> Report:
    def report(numbers: dict[str, float]) -> str:
        if heard is not None:
            heard.append(numbers["epoch"])
        return "worse than others" if numbers["epoch"] >= epoch else ""

    return report


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_tried_is_remembered_to_the_digit(kind: str) -> None:
    arguments = KINDS[kind], data(), Budget(0.5, 1), 3
    first, again = tried(*arguments), tried(*arguments)
    assert (first.remembered, again.remembered) == (False, True)
    assert first == again == trial(*arguments)
    assert (first.train_seconds, first.latency_ms) == (again.train_seconds, again.latency_ms)


def test_a_diverged_trial_is_not_tried_again() -> None:
    wild = candidate(HOG, frozen=True, lr=1e30, head={"kind": "mlp", "hidden": 8})
    first, again = (tried(wild, data(), Budget(), 0) for _ in range(2))
    assert first == again and again.remembered


def test_neither_the_name_of_a_candidate_nor_what_tune_may_turn_is_another_trial() -> None:
    tried(MLP, data(), Budget(), 0)
    space = candidate(HOG, space={"fit.lr": {"low": 0.1, "high": 1.0}}).space
    other = MLP.model_copy(update={"name": "other", "space": space})
    assert tried(other, data(), Budget(), 0).remembered


LEARNED = samples(LABELS_16)
OTHERWISE: dict[str, Any] = {
    "setting": {"candidate": candidate(HOG, frozen=True, average_views=True, lr=0.03)},
    "budget": {"budget": Budget(0.5)},
    "seed": {"seed": 1},
    "symmetry": {"data": replace(data(), symmetry="none")},
    "policy": {"data": replace(data(), policy=augmentation.from_nodes([]))},
    "image": {"data": replace(data(), train=samples(LABELS_16, images=draw(LABELS_16, seed=2)))},
    "label": {"data": replace(data(), train=samples([1, *LABELS_16[1:]], images=draw(LABELS_16)))},
    "weight": {"data": replace(data(), train=samples(LABELS_16, weights=[2.0] + [1.0] * 15))},
    "group": {"data": replace(data(), train=replace(LEARNED, groups=np.arange(16).astype("u8")))},
    "validation image": {"data": replace(data(), val=samples([0, 1]))},
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_another_question_is_another_trial(what: str) -> None:
    asked = {"candidate": MLP, "data": data(), "budget": Budget(), "seed": 0}
    tried(**asked)
    assert not tried(**{**asked, **OTHERWISE[what]}).remembered


def test_another_file_of_weights_is_another_trial(tmp_path: Path) -> None:
    file, labels = tmp_path / "own.safetensors", [0, 1] * 2
    images = Data(samples(labels), samples(labels), "none", FLIPS)
    made = candidate({**TIMM, "weights": str(file)}, frozen=True, epochs=1)
    ends = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet").state_dict(), file)
        ends.append(tried(made, images, Budget(), 0).remembered)
    assert ends == [False, True, False]


def test_a_report_hears_a_remembered_trial_epoch_by_epoch_and_may_end_it() -> None:
    whole, heard = tried(MLP, data(), Budget(), 0), list[float]()
    stopped = tried(MLP, data(), Budget(), 0, stop_at(1, heard))
    assert told(stopped) == ("stopped", 2, True)
    assert heard == [0.0, 1.0] and stopped.history == whole.history[:2]
    assert told(tried(MLP, data(), Budget(), 0)) == ("complete", 3, True)


def test_a_trial_that_was_stopped_goes_on_where_nothing_stops_it_now() -> None:
    """As when other trials are its rivals. Optuna takes the value of an epoch only once."""
    heard: list[float] = []
    assert told(tried(MLP, data(), Budget(), 0, stop_at(1))) == ("stopped", 2, False)
    assert told(tried(MLP, data(), Budget(), 0, stop_at(0))) == ("stopped", 1, True)
    whole = tried(MLP, data(), Budget(), 0, stop_at(9, heard))
    assert told(whole) == ("complete", 3, False) and heard == [0.0, 1.0, 2.0]
    assert whole == trial(MLP, data(), Budget(), 0)


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
