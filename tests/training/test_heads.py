"""Heads that are fitted by a solver, and extractors that learn before they describe."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn
from toys import HOG, UNCHANGED, candidate, draw, samples

from pipeline.config import targets
from pipeline.training import heads, logistic, solve
from pipeline.training.fit import Fitted, fit
from pipeline.training.samples import Samples
from pipeline.training.solve import Described

RANDOM = np.random.default_rng(0)
CLOUDS = (RANDOM.normal(size=(60, 1, 4)) + np.arange(60)[:, None, None] % 3).astype(np.float16)
LABELS = [i % 3 for i in range(60)]


def solved(train: Described, **how: Any) -> tuple[nn.Sequential, dict[str, float]]:
    """A head of the kind logistic, and what it notes."""
    settings = {"kind": "logistic", **how.pop("head", {})}
    made = candidate(HOG, frozen=True, head=settings, **how)
    head = heads.build(made.head, train.features.shape[2], train.samples.targets.shape[1]).eval()
    heads.standardise(head, train.features)
    return head, logistic.logistic(head, made, train, seed=0)


def described(features: np.ndarray = CLOUDS, labels: list[int] = LABELS, **how: Any) -> Described:
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return Described(features, samples(labels, how.pop("k", 3), images, **how))


def scikit_learns(train: Described, C: float, **how: Any) -> np.ndarray:
    views = train.features.shape[1]
    plain = train.features[:, 0].astype(np.float64)
    rows = train.features.reshape(-1, train.features.shape[2])
    x = (rows - plain.mean(0)) / plain.std(0)
    weights = train.samples.weights
    model = LogisticRegression(C=C, max_iter=5000, tol=1e-8, **how)
    counted = None if weights is None else np.repeat(weights, views)
    model.fit(x, np.repeat(train.samples.labels, views), sample_weight=counted)
    probs: np.ndarray = model.predict_proba(x)
    return probs


def probs(head: nn.Sequential, train: Described) -> np.ndarray:
    rows = torch.from_numpy(train.features.reshape(-1, train.features.shape[2])).float()
    with torch.inference_mode():
        return torch.softmax(head(rows), 1).numpy()


@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0] * 20], ids=["plain", "weighted"])
def test_the_logistic_head_is_scikit_learns(C: float, weights: list[float] | None) -> None:
    train = described(weights=weights)
    head, notes = solved(train, head={"strengths": [C]})
    assert notes == {"head/C": C, "head/averaged": 1.0}
    np.testing.assert_allclose(probs(head, train), scikit_learns(train, C), atol=2e-3)


def test_each_view_of_an_image_is_a_row() -> None:
    train = described(np.concatenate([CLOUDS, CLOUDS[:, :, ::-1]], axis=1))
    head, _ = solved(train, head={"strengths": [0.1]})
    np.testing.assert_allclose(probs(head, train), scikit_learns(train, 0.1), atol=2e-3)


def test_balanced_classes_are_those_of_scikit_learn() -> None:
    train = described(CLOUDS[:40], [0] * 4 + [1] * 12 + [2] * 24)
    head, _ = solved(train, head={"strengths": [0.1]}, class_weights="balanced")
    wanted = scikit_learns(train, 0.1, class_weight="balanced")
    np.testing.assert_allclose(probs(head, train), wanted, atol=2e-3)


def test_graded_targets_are_learned() -> None:
    alike = np.ones((8, 1, 2), np.float16)
    shares = np.tile(np.array([[0.3, 0.7]], np.float32), (8, 1))
    train = described(alike, [1] * 8, k=2, targets=shares)
    head, _ = solved(train, head={"strengths": [1.0]})
    np.testing.assert_allclose(probs(head, train), shares, atol=1e-3)


def test_a_class_without_an_image_is_never_the_answer_of_a_logistic_head() -> None:
    train = described(labels=[0, 2] * 30, k=4)
    assert probs(solved(train)[0], train)[:, [1, 3]].max() < 1e-3


@pytest.mark.parametrize("order", [[0.0001, 100.0], [100.0, 0.0001]])
def test_the_strength_is_the_one_that_says_most_about_unseen_images(order: list[float]) -> None:
    """Noise is best not believed; clean classes are."""
    noise = RANDOM.normal(size=(60, 1, 30)).astype(np.float16)
    clean = np.repeat(np.eye(3, dtype=np.float16)[LABELS][:, None], 1, axis=1)
    best = [solved(described(x), head={"strengths": order})[1]["head/C"] for x in (noise, clean)]
    assert best == [0.0001, 100.0]


def test_copies_of_an_image_share_a_fold_where_it_is_known_that_they_are() -> None:
    """Or else what was learned by heart would look like knowledge."""
    noise = np.repeat(RANDOM.normal(size=(15, 1, 40)), 4, axis=0).astype(np.float16)
    labels = np.repeat(np.arange(15) % 3, 4).tolist()
    train = described(noise, labels)
    groups = np.repeat(np.arange(15), 4).astype(np.uint64)
    known = Described(noise, replace(train.samples, groups=groups))
    both = [
        solved(each, head={"strengths": [0.0001, 10.0]})[1]["head/C"] for each in (train, known)
    ]
    assert both == [10.0, 0.0001]


@pytest.mark.parametrize("labels", [[0, 1], [0] * 6, [0, 0, 0, 1]], ids=str)
def test_so_few_images_that_none_can_be_held_out_take_the_middle_strength_or_do_without(
    labels: list[int],
) -> None:
    train = described(CLOUDS[: len(labels)], labels, k=2)
    assert solved(train)[1]["head/C"] in candidate(HOG, frozen=True).head.strengths


@pytest.mark.parametrize("kind", ["svm", "svm_rbf", "logistic"])
def test_a_head_that_is_solved_for_needs_a_frozen_extractor(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"head.kind {kind} needs frozen: true"):
        candidate(HOG, head={"kind": kind})


def test_a_logistic_candidate_is_trained_and_says_which_strength_it_took() -> None:
    labels = [0, 1] * 8
    made = candidate(HOG, frozen=True, average_views=True, head={"kind": "logistic"})
    val = samples(labels, images=draw(labels, seed=1))
    fitted = fit(made, samples(labels), val, symmetry="none", policy=UNCHANGED, seed=0)
    (only,) = fitted.history
    assert only["val/accuracy"] == 1.0 and only["head/C"] in made.head.strengths
    assert made.title == "HOG + logistic regression"


class Whitened(nn.Module):
    """Mean colours, less what it learned to be the mean of the training images."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def learn(self, images: Sequence[np.ndarray], seed: int) -> None:
        Whitened.calls += 1
        colours = np.stack([image.mean((0, 1)) for image in images])
        self.mean = torch.from_numpy(colours.mean(0)).float()

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2)) - self.get_buffer("mean")


def whitened(train: Samples, val: Samples, monkeypatch: pytest.MonkeyPatch) -> Fitted:
    rule = targets.ALLOWED["candidate"]._replace(names=re.compile(f"{__name__}.Whitened"))
    monkeypatch.setitem(targets.ALLOWED, "candidate", rule)
    made = candidate({"_target_": f"{__name__}.Whitened"}, frozen=True, head={"kind": "svm"})
    return fit(made, train, val, symmetry="none", policy=UNCHANGED, seed=0)


def test_an_extractor_learns_from_training_images_alone_before_its_features_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, val = samples([0, 1] * 4), samples([0, 1, 1], images=draw([0, 1, 1], seed=1))
    Whitened.calls = 0
    fitted = whitened(train, val, monkeypatch)
    assert Whitened.calls == 1
    mean = np.stack(list(train)).mean((0, 1, 2))
    np.testing.assert_allclose(fitted.network.extractor.mean, mean, atol=1e-3)  # type: ignore[arg-type]
    plain = fitted.network.extractor(torch.from_numpy(np.stack(list(train))))
    np.testing.assert_allclose(fitted.network.head[0].mean, plain.mean(0), atol=0.05)  # type: ignore[arg-type]


def test_strengths_that_are_as_good_as_the_best_are_averaged_into_one_layer() -> None:
    train = described()
    head, notes = solved(train, head={"strengths": [0.05, 0.06, 0.07]})
    assert notes["head/averaged"] == 3.0
    each = [solved(train, head={"strengths": [C]})[0][-1].weight for C in (0.05, 0.06, 0.07)]
    torch.testing.assert_close(head[-1].weight, torch.stack(each).mean(0), atol=1e-5, rtol=1e-4)


def test_a_strength_that_is_clearly_worse_is_not_averaged() -> None:
    clean = np.eye(3, dtype=np.float16)[LABELS][:, None]
    notes = solved(described(clean), head={"strengths": [0.0001, 100.0]})[1]
    assert notes == {"head/C": 100.0, "head/averaged": 1.0}


def kernelled(train: Described, **head: Any) -> np.ndarray:
    """Logits of the kind svm_rbf."""
    made = candidate(HOG, frozen=True, head={"kind": "svm_rbf", **head})
    layers = heads.build(made.head, train.features.shape[2], train.samples.targets.shape[1]).eval()
    heads.standardise(layers, train.features)
    with torch.inference_mode():
        solve.svm_rbf(layers, made, train, seed=0)
        logits: np.ndarray = layers(torch.from_numpy(train.features[:, 0]).float()).numpy()
    return logits


@pytest.mark.parametrize("landmarks", [60, 100], ids=["as_many_as_images", "more_than_images"])
def test_with_all_images_as_landmarks_the_rbf_head_is_an_exact_kernel_machine(
    landmarks: int,
) -> None:
    """The intercept is penalised by one of the two, hence the tolerance."""
    rings = np.stack([np.cos(np.arange(60)), np.sin(np.arange(60))], 1) * ([[1.0], [3.0]] * 30)
    train = described(rings[:, None].astype(np.float32), [0, 1] * 30, k=2)
    logits = kernelled(train, C=10.0, gamma=2.0, landmarks=landmarks)
    x = (train.features[:, 0] - train.features.mean(0)) / train.features.std(0)
    exact = SVC(C=10.0, gamma=2.0 / 2).fit(x, train.samples.labels).decision_function(x)
    assert np.corrcoef(logits[:, 1] - logits[:, 0], exact)[0, 1] > 0.98
    assert (logits.argmax(1) == train.samples.labels).all(), "no plane tells rings apart"


def test_few_landmarks_are_near_to_all() -> None:
    train = described()
    logits = [kernelled(train, gamma=0.1, landmarks=m) for m in (30, 60)]
    assert np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1] > 0.97
