"""Bootstrap intervals hold the truth as often as they say, over many test sets."""

import numpy as np

from pipeline.evaluation import intervals
from pipeline.evaluation.statistics import statistic

METRICS = ("f1_macro", "f1_weighted", "balanced_accuracy", "mcc", "log_loss", "brier")
N_IMAGES, N_SETS, N_RESAMPLES, N_TRUTH = 300, 600, 400, 200_000


def answers(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of three classes, one of them rare, and what a fair model says of them."""
    labels = random.choice(3, size=n, p=[0.5, 0.35, 0.15])
    logits = random.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1.6
    probs = np.exp(logits)
    return labels, probs / probs.sum(1, keepdims=True)


def test_95_percent_intervals_hold_the_truth_95_percent_of_the_time() -> None:
    random = np.random.default_rng(0)
    labels, probs = answers(N_TRUTH, random)
    once = np.ones((1, N_TRUTH))
    truth = {name: float(statistic(name, labels, probs)(once)[0]) for name in METRICS}
    held = np.zeros((N_SETS, len(METRICS)))
    for i in range(N_SETS):
        labels, probs = answers(N_IMAGES, random)
        bounds = intervals.bootstrap(
            labels, probs, metrics=METRICS, n_resamples=N_RESAMPLES, level=0.95, seed=i
        )
        held[i] = [bounds[name][0] <= truth[name] <= bounds[name][1] for name in METRICS]
    assert 0.935 <= held.mean() <= 0.965, dict(zip(METRICS, held.mean(0), strict=True))
    assert held.mean(0).min() > 0.9
