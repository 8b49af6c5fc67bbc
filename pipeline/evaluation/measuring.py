"""Everything that is computed from a model's answers to the test images: figures, and tables.

Axes: n images, k classes, m images of a sample.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int64

from pipeline.config.schema import Bootstrap, Evaluate
from pipeline.evaluation import (
    alterations,
    calibration,
    conformal,
    headline,
    intervals,
    metrics,
    ranking,
    slices,
    smoothing,
    stability,
)
from pipeline.evaluation.conformal import Sets
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.metrics import Labels, Probs
from pipeline.evaluation.proportions import wilson

Tables = dict[str, pd.DataFrame]


class Answers(NamedTuple):
    """A model's answers to the test images.

    rows: their table. sample: the positions of those that were altered; altered: the probabilities
    (m, k) of these by the name of the alteration.
    """

    rows: pd.DataFrame
    labels: Labels
    probs: Probs
    classes: list[str]
    temperature: float
    sample: Int64[np.ndarray, " m"]
    altered: Mapping[str, Probs]
    images: Sequence[np.ndarray] = ()


def measured(answers: Answers, sets: Sets, settings: Evaluate, seed: int) -> tuple[Figures, Tables]:
    """All figures and tables. The tables: per_class, ranking, slices, sets, calibration,
    stability, context.
    """
    rows, labels, probs, classes = answers[:4]
    bootstrap, min_n = settings.bootstrap, settings.min_slice
    correct = probs.argmax(axis=1) == labels
    some, plain = labels[answers.sample], probs[answers.sample]
    natural, parts = (
        {name: answers.altered[name] for name in names}
        for names in (alterations.NATURAL, alterations.PARTS)
    )
    known = headline.figures(labels, probs, bootstrap, seed)
    tables = {
        "per_class": per_class(labels, probs, classes, bootstrap, seed),
        "ranking": ranking.table(labels, probs, classes, bootstrap.level),
        "slices": slices.slices(slices.columns(rows), correct, min_n=min_n),
        "sets": conformal.coverage(labels, probs, sets, classes),
        "calibration": calibration.before_and_after(
            known, labels, probs, answers.temperature, bootstrap, seed
        ),
        "stability": stability.table(some, plain, natural),
        "context": stability.table(some, plain, parts),
    }
    figures = {
        **known,
        **worst_recall(tables["per_class"], min_n),
        **calibration.figures(labels, probs, bootstrap, seed),
        **conformal.figures(tables["sets"], sets),
        **smoothing.figures(rows, labels, probs, settings.smooth_seconds),
        **stability.flips(tables["stability"]),
        **stability.context(tables["context"]),
    }
    return figures, tables


def per_class(
    labels: Labels, probs: Probs, classes: list[str], bootstrap: Bootstrap, seed: int
) -> pd.DataFrame:
    """metrics.per_class, with the intervals precision_low, precision_high and so on.

    Of shares of images that of Wilson, of F1 the bootstrap.
    """
    table, predicted = metrics.per_class(labels, probs, classes), probs.argmax(axis=1)
    hits = np.bincount(labels[predicted == labels], minlength=len(classes))
    totals = {
        "precision": np.bincount(predicted, minlength=len(classes)),
        "recall": np.bincount(labels, minlength=len(classes)),
    }
    bounds = {
        name: [wilson(int(h), int(n), bootstrap.level) for h, n in zip(hits, total, strict=True)]
        for name, total in totals.items()
    }
    bounds["f1"] = intervals.f1_by_class(labels, probs, **bootstrap.model_dump(), seed=seed)
    for name, ends in bounds.items():
        table[f"{name}_low"], table[f"{name}_high"] = zip(*ends, strict=True)
    return table


def worst_recall(table: pd.DataFrame, min_n: int) -> Figures:
    """The lowest recall of a class with enough images to judge; none where no class has."""
    judged = table[table["n"] >= min_n].sort_values("recall", kind="stable")
    if judged.empty:
        return {}
    worst = judged.iloc[0]
    return {
        "worst_recall": Figure(
            value=float(worst["recall"]),
            n=int(worst["n"]),
            method="Wilson interval",
            meaning=f"the share of images of “{worst['class']}” that it recognises, its worst class",
            low=float(worst["recall_low"]),
            high=float(worst["recall_high"]),
        )
    }
