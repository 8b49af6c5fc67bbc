"""How well the probability of a class ranks its images above all others: ROC and precision-recall.

There is one curve of each kind per class, that class against the rest. Of two classes the rarer one
stands for both, since precision is hardest where few images are right. Axes: n images, k classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import expit, logit, ndtri

from pipeline.evaluation.metrics import Labels, Probs, checked
from pipeline.evaluation.proportions import wilson

MOST_POINTS = 300  # of a curve; more could not be told apart on paper
COLUMNS = ["class", "n", "share", "roc_auc", "roc_auc_low", "roc_auc_high"]
COLUMNS += ["average_precision", "average_precision_low", "average_precision_high"]
Bounds = tuple[float, float]


def judged(labels: Labels, k: int) -> list[int]:
    """The classes that have curves: those with images and counterexamples."""
    counts = np.bincount(labels, minlength=k)
    present = [c for c in range(k) if 0 < counts[c] < len(labels)]
    return [int(np.argmin(counts))] if k == 2 and present else present


def table(labels: Labels, probs: Probs, classes: Sequence[str], level: float) -> pd.DataFrame:
    """COLUMNS, one row per class that is judged; share is the average precision of guessing.

    Intervals are closed formulas, so that many classes cost little: for the area under the ROC
    curve that of DeLong et al. (Biometrics 1988), for the average precision the logit interval of
    Boyd, Eng and Page (ECML 2013, section 3.2). A perfect ranking gets the Wilson interval of as
    many successes as the class has images.
    """
    from sklearn.metrics import average_precision_score  # which takes a second

    probs, rows = checked(labels, probs), []
    for c in judged(labels, probs.shape[1]):
        own, scores = labels == c, probs[:, c]
        n, precision = int(own.sum()), float(average_precision_score(own, scores))
        value, deviation = area(own, scores)
        bounds = logit_interval(value, deviation, min(n, len(own) - n), level)
        ends = logit_interval(precision, np.sqrt(precision * (1 - precision) / n), n, level)
        rows.append([classes[c], n, n / len(own), value, *bounds, precision, *ends])
    return pd.DataFrame(rows, columns=COLUMNS)


def roc(labels: Labels, probs: Probs, classes: Sequence[str]) -> pd.DataFrame:
    """Columns class, false_positive_rate, true_positive_rate: the curves, class after class."""
    from sklearn.metrics import roc_curve  # which takes a second

    probs = checked(labels, probs)
    parts = []
    for c in judged(labels, probs.shape[1]):
        false_rate, true_rate, _ = roc_curve(labels == c, probs[:, c])
        points = {"false_positive_rate": false_rate, "true_positive_rate": true_rate}
        parts.append(_thinned(classes[c], points))
    return _joined(parts, ["class", "false_positive_rate", "true_positive_rate"])


def precision_recall(labels: Labels, probs: Probs, classes: Sequence[str]) -> pd.DataFrame:
    """Columns class, recall, precision: the curves, class after class, by rising recall."""
    from sklearn.metrics import precision_recall_curve  # which takes a second

    probs = checked(labels, probs)
    parts = []
    for c in judged(labels, probs.shape[1]):
        precision, recall, _ = precision_recall_curve(
            labels == c, probs[:, c], drop_intermediate=True
        )
        points = {"recall": recall[::-1], "precision": precision[::-1]}
        parts.append(_thinned(classes[c], points))
    return _joined(parts, ["class", "recall", "precision"])


def logit_interval(value: float, deviation: float, n: int, level: float) -> Bounds:
    """The interval of a share that is normal on the scale of log-odds.

    deviation: its standard deviation. n: the images behind it, which decide where it is 0 or 1 or
    shows no spread.
    """
    if deviation <= 0 or not 0 < value < 1:
        return wilson(round(value * n), n, level)
    half = ndtri((1 + level) / 2) * deviation / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def area(own: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The area under the ROC curve and its standard deviation, from each image's mid-rank.

    DeLong, DeLong and Clarke-Pearson (Biometrics 1988). A side with a single image adds no spread.
    """
    from scipy.stats import rankdata  # which takes a second

    positive, negative = scores[own], scores[~own]
    m, rest = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    # The share of the other side that an image is placed right against.
    above = (ranks[:m] - rankdata(positive)) / rest
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    spread = [np.var(each, ddof=1) / len(each) if len(each) > 1 else 0.0 for each in (above, below)]
    return float(above.mean()), float(np.sqrt(sum(spread)))


def _thinned(name: str, points: dict[str, np.ndarray]) -> pd.DataFrame:
    curve = pd.DataFrame(points)
    kept = np.linspace(0, len(curve) - 1, min(len(curve), MOST_POINTS)).round().astype(int)
    curve.insert(0, "class", name)
    return curve.iloc[kept]


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
