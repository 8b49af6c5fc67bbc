"""How good the search for label errors is on this data: known flips are planted in a copy of the labels, and looked for.

Errors that the labels had before count as false alarms here, so on noisy labels the true precision is higher.
Axes: n images, d features, k classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score, precision_score, recall_score

from pipeline import table
from pipeline.config import Config
from pipeline.errors import FieldmarkError
from pipeline.labels import errors
from pipeline.labels.errors import Features, Labels

UNIFORM, LOOK_ALIKE = "uniform", "look-alike"
CHECKED = Path("data/label-check")


def audit(
    features: Features, labels: Labels, groups: Sequence[str], *, fractions: Sequence[float], folds: int, C: float,
    max_fraction: float, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """One row a kind of flip and fraction of the images: kind, fraction, n_planted, n_suspect, precision, recall, ...

    ... average_precision and random_average_precision, which a random ranking is expected to reach. A flip is to any
    other class (uniform), or to the one that the class is most often taken for (look-alike; left out for two classes,
    where it is the same). The other arguments are those of errors.out_of_fold and errors.suspects.
    """
    confused = _most_alike(labels, errors.out_of_fold(features, labels, groups, folds=folds, C=C, seed=seed))
    rows = []
    for kind, fraction, noisy in _planted(labels, confused, fractions, seed):
        probs = errors.out_of_fold(features, noisy, groups, folds=folds, C=C, seed=seed)
        found = errors.suspects(noisy, probs, max_fraction=max_fraction)
        planted: Bool[np.ndarray, " n"] = noisy != labels
        suspect, score = found["suspect"].to_numpy(), found["suspect_score"].to_numpy()
        rows.append(
            {
                "kind": kind,
                "fraction": fraction,
                "n_planted": int(planted.sum()),
                "n_suspect": int(suspect.sum()),
                "precision": float(precision_score(planted, suspect, zero_division=0)),
                "recall": float(recall_score(planted, suspect, zero_division=0)),
                "average_precision": float(average_precision_score(planted, score)),
                "random_average_precision": float(planted.mean()),
            }
        )
    return pd.DataFrame(rows)


def show(cfg: Config, fractions: Sequence[float]) -> None:
    """Print the audit of the labels that label-check has seen. Raises FieldmarkError where it has not run yet."""
    if not (CHECKED / "embedding.npy").exists():
        raise FieldmarkError(f"{CHECKED} is missing; run `dvc repro label-check` first")
    if bad := [fraction for fraction in fractions if not 0 < fraction < 1]:
        raise FieldmarkError(f"--fraction {bad[0]:g}: a share of the labels lies between 0 and 1")
    rows = table.read(CHECKED)
    labelled = (rows["label"] != "").to_numpy()
    names, labels = np.unique(rows["label"][labelled], return_inverse=True)
    if len(names) < 2:
        raise FieldmarkError("an audit needs labels of at least two classes")
    features = np.load(CHECKED / "embedding.npy", allow_pickle=False)[labelled].astype(np.float32)
    found = audit(
        features, labels.astype(np.int64), rows["dup_group"][labelled].tolist(), fractions=fractions, seed=cfg.seed,
        **cfg.label_check.errors.model_dump(),
    )  # fmt: skip
    shown = Table(*(column.replace("n_", "").replace("average_precision", "AP").replace("_", " ") for column in found.columns))
    for row in found.itertuples(index=False):
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    Console().print(shown)


def _most_alike(labels: Labels, probs: Float64[np.ndarray, "n k"]) -> Int64[np.ndarray, " k"]:
    """For each class the other one that its images are most likely taken for."""
    k = probs.shape[1]
    mean = np.stack([probs[labels == own].mean(axis=0) if (labels == own).any() else np.zeros(k) for own in range(k)])
    np.fill_diagonal(mean, -1)
    nearest: Int64[np.ndarray, " k"] = mean.argmax(axis=1)
    return nearest


def _planted(
    labels: Labels, confused: Int64[np.ndarray, " k"], fractions: Sequence[float], seed: int
) -> Iterator[tuple[str, float, Labels]]:
    k = len(confused)
    for fraction in fractions:
        random = np.random.default_rng([seed, round(fraction * 1e6)])
        which = random.permutation(len(labels))[: max(1, round(fraction * len(labels)))]
        uniform = labels.copy()
        uniform[which] = (labels[which] + random.integers(1, k, len(which))) % k
        yield UNIFORM, fraction, uniform
        if k > 2:
            alike = labels.copy()
            alike[which] = confused[labels[which]]
            yield LOOK_ALIKE, fraction, alike
