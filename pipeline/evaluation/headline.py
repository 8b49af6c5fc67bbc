"""The figures that a model is known by: accuracy, F1, calibration and so on, with intervals."""

import numpy as np

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import intervals, metrics
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.proportions import wilson

RESAMPLED = [
    *("f1_macro", "f1_weighted", "mcc", "balanced_accuracy"),
    *("log_loss", "brier", "ece", "roc_auc"),
]
COUNTED = ("accuracy", "top3_accuracy")  # shares of images, which Wilson's interval suits
MEANINGS = {
    "accuracy": "the share of images whose likeliest class is their label",
    "f1_macro": "mean F1 of the classes: small classes count as much as large ones",
    "f1_weighted": "mean F1 of the classes, each weighted by its images",
    "balanced_accuracy": "mean recall of the classes",
    "mcc": "Matthews' correlation of answers and labels; 0 is guessing, 1 is perfect",
    "log_loss": "mean of -log(probability of the label); 0 is perfect",
    "brier": "mean squared distance between probabilities and the label, 0 to 2; 0 is perfect",
    "ece": "mean distance of confidence and accuracy over 15 bins; 0 is perfect",
    "top3_accuracy": "the share of images whose label is among the three likeliest classes",
    "roc_auc": "how well each class is ranked above the others, on average; 0.5 is chance",
    "largest_class": "what always answering the most frequent class would reach",
}


def figures(
    labels: metrics.Labels,
    probs: metrics.Probs,
    bootstrap: Bootstrap,
    seed: int,
) -> Figures:
    """Every figure of `metrics.summary` with its interval, and what guessing would reach."""
    summary = metrics.summary(labels, probs)
    resampled = [name for name in RESAMPLED if name in summary]
    bounds = intervals.bootstrap(
        labels, probs, metrics=resampled, **bootstrap.model_dump(), seed=seed
    )
    how = (
        f"percentile bootstrap over images, {bootstrap.n_resamples} resamples, seed {seed}; "
        f"{bootstrap.level:.0%} interval"
    )
    n, level = len(labels), bootstrap.level
    counted = {name: round(summary[name] * n) for name in COUNTED if name in summary}
    bounds |= {name: wilson(right, n, level) for name, right in counted.items()}
    all_figures = {
        name: Figure(
            value=value,
            n=n,
            method=how if name in resampled else f"Wilson interval, {level:.0%}",
            meaning=MEANINGS[name],
            low=bounds[name][0],
            high=bounds[name][1],
        )
        for name, value in summary.items()
    }
    return all_figures | _guessing(labels)


def _guessing(labels: metrics.Labels) -> Figures:
    share = float(np.bincount(labels).max() / len(labels))
    meaning = MEANINGS["largest_class"]
    return {"largest_class": Figure(value=share, n=len(labels), method="counted", meaning=meaning)}
