"""The evidence from the test images, in one file: evidence.json.

It holds every figure with its interval, the number of images behind it, its method and its meaning.
The report renders it; whoever judges the model reads it.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import intervals, metrics, slices

FILE = "evidence.json"
WITH_INTERVALS = ("accuracy", "f1_macro", "ece")
MEANINGS = {
    "accuracy": "the share of images whose likeliest class is their label",
    "f1_macro": "mean F1 of the classes: small classes count as much as large ones",
    "balanced_accuracy": "mean recall of the classes",
    "log_loss": "mean of -log(probability of the label); 0 is perfect",
    "brier": "mean squared distance between probabilities and the label, 0 to 2; 0 is perfect",
    "ece": "mean distance of confidence and accuracy over 15 bins; 0 is perfect",
    "top3_accuracy": "the share of images whose label is among the three likeliest classes",
    "roc_auc": "how well each class is ranked above the others, on average; 0.5 is chance",
}


class Figure(BaseModel):
    """One number from n images; `low` and `high` bound it where an interval was computed."""

    model_config = ConfigDict(frozen=True)

    value: float
    n: int
    method: str
    meaning: str
    low: float | None = None
    high: float | None = None


class Evidence(BaseModel):
    """The figures of one model on one test set, and what it takes to train that model again."""

    model_config = ConfigDict(frozen=True)

    model: str
    dataset: str
    classes: list[str]
    n_test: int
    level: float
    figures: dict[str, Figure]
    robustness: dict[str, Figure] = {}
    caveats: list[str]
    seed: int
    git_commit: str
    data_hash: str
    versions: dict[str, str]
    config_yaml: str


def figures(
    labels: metrics.Labels,
    probs: metrics.Probs,
    trusted: Bool[np.ndarray, " n"],
    bootstrap: Bootstrap,
    seed: int,
) -> dict[str, Figure]:
    """Every figure of `metrics.summary`, with its interval where there is one.

    Where some labels are `trusted`, also the accuracy on those images.
    """
    bounds = intervals.bootstrap(
        labels, probs, metrics=WITH_INTERVALS, **bootstrap.model_dump(), seed=seed
    )
    resampled = (
        f"percentile bootstrap over images, {bootstrap.n_resamples} resamples, seed {seed}; "
        f"{bootstrap.level:.0%} interval"
    )
    all_figures = {
        name: Figure(
            value=value,
            n=len(labels),
            method=resampled if name in bounds else "point estimate",
            meaning=MEANINGS[name],
            low=bounds[name][0] if name in bounds else None,
            high=bounds[name][1] if name in bounds else None,
        )
        for name, value in metrics.summary(labels, probs).items()
    }
    return all_figures | _without_suspects(labels, probs, trusted)


def _without_suspects(
    labels: metrics.Labels, probs: metrics.Probs, trusted: Bool[np.ndarray, " n"]
) -> dict[str, Figure]:
    correct = (probs.argmax(1) == labels)[trusted]
    if not len(correct):
        return {}
    low, high = slices.wilson(int(correct.sum()), len(correct))
    return {
        "accuracy_without_suspects": Figure(
            value=float(correct.mean()),
            n=len(correct),
            method=f"Wilson interval, {slices.LEVEL:.0%}",
            meaning="accuracy on the images whose labels label-check does not doubt; too "
            "optimistic where hard images were doubted",
            low=low,
            high=high,
        )
    }


def flat(figures: dict[str, Figure]) -> dict[str, float]:
    """The numbers as DVC and MLflow compare them: test/NAME, test/NAME_low, test/NAME_high."""
    sides = {
        f"test/{name}_{side}": value
        for name, figure in figures.items()
        if name in WITH_INTERVALS
        for side, value in (("low", figure.low), ("high", figure.high))
        if value is not None
    }
    return {**{f"test/{name}": figure.value for name, figure in figures.items()}, **sides}


def write(evidence: Evidence, folder: Path) -> None:
    """evidence.json in the folder. Raises ValueError for a figure that is no number."""
    for name, figure in (evidence.figures | evidence.robustness).items():
        if not math.isfinite(figure.value):
            raise ValueError(f"{name} is {figure.value}")
    (folder / FILE).write_text(evidence.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Evidence:
    """The evidence that `write` left in the folder."""
    return Evidence.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
