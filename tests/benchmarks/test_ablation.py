"""What each line of conf/fit gives and costs: accuracy, macro F1 and processor seconds with it, beside
those without it.

    dvc repro augment
    FIELDMARK_ABLATED=small_cnn pytest -s -n0 -m benchmark tests/benchmarks/test_ablation.py

It runs on the images in data/preprocess, split as in test_learning_curves.py. A difference is that of two
trainings with the same seed, on the same images.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_learning_curves import AUGMENT, PREPROCESS, SPLITS, halves, whole

from pipeline import config
from pipeline.config.schema import Candidate
from pipeline.search import trial
from pipeline.search.trial import Budget, Data
from pipeline.training import augmentation
from pipeline.training.epochs import validation

CHANGES: tuple[dict[str, Any], ...] = (
    {"label_smoothing": 0.1},
    {"class_weights": "balanced"},
    {"sampling": "balanced"},
    {"ema_decay": 0.99},
    {"gradient_clip": 1.0},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    {"start_px": 48},
    {"channels_last": True},
    {"patience": 3},
)
NAMES = os.environ.get("FIELDMARK_ABLATED", "small_cnn").split(",")


def fitted(candidate: Candidate, data: Data, split: int) -> tuple[float, float, float]:
    """Accuracy and macro F1 of the judging images, and the seconds of processor time."""
    start = time.process_time()
    outcome = trial.tried(candidate, data, Budget(), split)
    seconds = time.process_time() - start
    assert outcome.val_logits is not None, outcome.why
    figures = validation(outcome.val_logits, data.val.labels)
    return figures["val/accuracy"], figures["val/f1_macro"], seconds


@pytest.mark.benchmark
@pytest.mark.parametrize("name", NAMES)
def test_lines_of_fit(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not (PREPROCESS / "dev").is_dir():
        pytest.skip("run `dvc repro augment` first")
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")  # so that all processor time is this process's
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path))
    plain = config.load("candidates").candidates[name]
    _, images = whole()
    policy, symmetry = augmentation.read(AUGMENT)
    splits = []
    for split in range(SPLITS):
        learned, judging = halves(images, split)
        splits.append(Data(images.take(learned), images.take(judging), symmetry, policy))
        trial.tried(plain, splits[-1], Budget(epochs=0.1), split)  # what a backbone sees is kept
    base = np.array([fitted(plain, data, i) for i, data in enumerate(splits)])
    print(f"\n{name}, {SPLITS} splits: accuracy, macro F1, seconds {base.mean(0).round(4)}")
    print("| line of conf/fit | accuracy | macro F1 | processor time |\n|---|---|---|---|")
    for change in CHANGES:
        turned = plain.model_copy(update={"fit": plain.fit.model_copy(update=change)})
        values = np.array([fitted(turned, data, i) for i, data in enumerate(splits)])
        (key, value), gains = next(iter(change.items())), values - base
        assert np.isfinite(values).all()
        print(
            f"| {key}: {str(value).lower()} | {spread(gains[:, 0])} | {spread(gains[:, 1])} | "
            f"{np.mean(values[:, 2] / base[:, 2]):.2f} times |",
            flush=True,
        )


def spread(gains: np.ndarray) -> str:
    """The mean of the differences, and their standard deviation over the splits."""
    return f"{gains.mean():+.3f} ± {gains.std(ddof=1) if len(gains) > 1 else 0:.3f}"
