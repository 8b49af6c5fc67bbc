"""How many photos a class are enough: the candidates of params.yaml, each trained on growing parts.

    dvc repro augment
    FIELDMARK_CURVES=lite0,hog pytest -s -n0 -m benchmark tests/benchmarks/test_learning_curves.py

It runs on the images in data/preprocess. Each split is a new draw: a quarter of the images, of every class
the same share, near-duplicates together, judges; of the rest so many images of every class are learned
from. "all" is the whole rest. Nothing is chosen by the judging images.
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from pipeline import config
from pipeline.config.schema import Candidate
from pipeline.search import extrapolation, trial
from pipeline.search.trial import Budget, Data
from pipeline.training import augmentation, samples
from pipeline.training.epochs import validation
from pipeline.training.samples import Samples

PREPROCESS, AUGMENT = Path("data/preprocess"), Path("data/augment")
SIZES = (10, 20, 25, 50, 100)
SPLITS = int(os.environ.get("FIELDMARK_SPLITS", "5"))


def whole() -> tuple[list[str], Samples]:
    classes, train, val = samples.train_and_val(PREPROCESS / "dev", AUGMENT)
    own = train.take(np.flatnonzero(train.place[:, 0] == 0))  # no view that augment stored
    return classes, own + val + samples.load(PREPROCESS / "test", classes)


def halves(images: Samples, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from, in a random order, and positions that judge."""
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=split)
    learned, judging = next(folds.split(images.place, images.labels, images.groups))
    return np.random.default_rng(split).permutation(learned), judging


def part(images: Samples, learned: np.ndarray, n: int | None) -> Samples:
    """The first n of every class, or all."""
    labels = images.labels[learned]
    some = [learned[labels == k][:n] for k in np.unique(labels)]
    return images.take(np.sort(np.concatenate(some)))


def accuracy(candidate: Candidate, data: Data, split: int) -> tuple[float, float]:
    """Of the judging images, and the seconds of processor time that the training took."""
    start = time.process_time()
    outcome = trial.tried(candidate, data, Budget(), split)
    seconds = time.process_time() - start
    assert outcome.val_logits is not None, outcome.why
    return validation(outcome.val_logits, data.val.labels)["val/accuracy"], seconds


def names() -> list[str]:
    asked = os.environ.get("FIELDMARK_CURVES", "")
    return asked.split(",") if asked else list(config.load("candidates").candidates)


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")  # scikit-learn's own, on few images
@pytest.mark.parametrize("name", names())
def test_accuracy_by_photos_per_class(name: str) -> None:
    if not (PREPROCESS / "dev").is_dir():
        pytest.skip("run `dvc repro augment` first")
    candidate = config.load("candidates").candidates[name]
    classes, images = whole()
    policy, symmetry = augmentation.read(AUGMENT)
    smallest = int(np.bincount(images.labels[halves(images, 0)[0]]).min())
    sizes: list[int | None] = [*(n for n in SIZES if n <= smallest), None]
    values = np.full((len(sizes), SPLITS), np.nan)
    for split in range(SPLITS):
        learned, judging = halves(images, split)
        for i, n in enumerate(sizes):
            data = Data(part(images, learned, n), images.take(judging), symmetry, policy)
            values[i, split], seconds = accuracy(candidate, data, split)
            print(
                f"{name}, {n or 'all'} a class, split {split}: {values[i, split]:.4f}, {seconds:.0f} s"
            )
    cells = [f"{v.mean():.3f} ± {v.std(ddof=1) if len(v) > 1 else 0:.3f}" for v in values]
    print(f"| {' | '.join(str(n or 'all') for n in sizes)} |\n| {name} | {' | '.join(cells)} |")
    held_against_its_second_half(name, values[:-1], [n for n in sizes if n])
    assert values[-1].mean() > np.bincount(images.labels).max() / len(images)


def held_against_its_second_half(name: str, values: np.ndarray, sizes: list[int]) -> None:
    """What the first half of the curve forecasts for the second, beside what was measured."""
    if len(sizes) < 4:
        return
    first, later = sizes[:-1], sizes[-1:]
    curve = [row[:, None].repeat(300, axis=1) for row in values[:-1]]
    drawn = extrapolation.forecast(np.array(first, float), curve, np.array(later, float), 0)
    low, high = np.quantile(drawn[0], [0.025, 0.975])
    print(
        f"{name}: from {first} the curve forecasts {drawn[0, 0]:.3f} ({low:.3f} to {high:.3f}) "
        f"at {later[0]}; measured {values[-1].mean():.3f}"
    )
