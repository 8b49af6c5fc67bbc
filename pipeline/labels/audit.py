"""How good the search for label errors is on this data: known flips are planted in a copy of the
labels, and looked for.

Errors that the labels had before count as false alarms here, so on noisy labels the true precision
is higher. Where a second column says what people verified, the search is also held against the
errors that really are there. Axes: n images, d features, k classes.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score, precision_score, recall_score

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.labels import errors, noise, suspects
from pipeline.labels.errors import Features, Labelling, Labels
from pipeline.storage import store, table

UNIFORM, LOOK_ALIKE, REAL = "uniform", "look-alike", "real"
CHECKED = Path("data/label-check")
COLUMNS = [
    "kind",
    "fraction",
    "n_planted",
    "n_suspect",
    "expected_precision",
    "precision",
    "recall",
    "average_precision",
    "random_average_precision",
]
HEADINGS = ["errors", "share", "n", "doubted", "expected", "precision", "recall", "AP"]


def audit(
    features: Features,
    labelling: Labelling,
    *,
    fractions: Sequence[float],
    folds: int,
    C: float,
    max_fraction: float,
    seed: int,
) -> pd.DataFrame:
    """One row per kind of flip and fraction of the images: COLUMNS.

    expected_precision is what label-check would say of its suspects; precision is the truth.
    random_average_precision is what a random ranking is expected to reach. A flip is to any other
    class (uniform), or to the one that the class is most often taken for (look-alike; left out for
    two classes, where it is the same). Of a graded label the shares of the two classes are
    exchanged. The other arguments are those of errors.out_of_fold and suspects.named.
    """
    how: dict[str, Any] = {"folds": folds, "C": C, "seed": seed}
    other = np.array([1, 0])  # of two classes, without a model
    confused = (
        other
        if labelling.labels.max() < 2
        else _most_alike(labelling.labels, errors.out_of_fold(features, labelling, **how))
    )
    rows = []
    for kind, fraction, noisy in _planted(labelling, confused, fractions, seed):
        result = suspects.named(
            noisy, errors.out_of_fold(features, noisy, **how), max_fraction=max_fraction
        )
        rows.append(_figures(kind, fraction, noisy.labels != labelling.labels, result))
    return pd.DataFrame(rows, columns=COLUMNS)


def real(
    features: Features,
    labelling: Labelling,
    wrong: Bool[np.ndarray, " n"],
    judged: Bool[np.ndarray, " n"],
    *,
    folds: int,
    C: float,
    max_fraction: float,
    seed: int,
) -> pd.DataFrame:
    """One row COLUMNS of kind "real": how well the labels that are known to be wrong are found
    among the judged ones.
    """
    probs = errors.out_of_fold(features, labelling, folds=folds, C=C, seed=seed)
    result = suspects.named(labelling, probs, max_fraction=max_fraction)[judged]
    return pd.DataFrame(
        [_figures(REAL, float(wrong[judged].mean()), wrong[judged], result)], columns=COLUMNS
    )


def of_table(
    rows: pd.DataFrame,
    features: Features,
    cfg: Config,
    *,
    fractions: Sequence[float],
    verified: str | None,
    max_images: int | None = None,
) -> pd.DataFrame:
    """The audit of label-check's table, and of its given labels against the metadata column
    `verified` where one is named.

    max_images: a random sample of that many stands for all. Raises FieldmarkError for a column that
    nothing has, and where it contradicts no label.
    """
    how = {**cfg.label_check.errors.model_dump(), "seed": cfg.seed}
    labelled = _sample(np.flatnonzero(rows["label"] != ""), max_images, cfg.seed)
    names, labelling = errors.labelling(rows.iloc[labelled])
    result = [pd.DataFrame(columns=COLUMNS)]
    if len(names) > 1 and fractions:
        result.append(audit(features[labelled], labelling, fractions=fractions, **how))
    if verified:
        truth = _verified(rows, verified)
        given = _sample(np.flatnonzero(rows["given_label"] != ""), max_images, cfg.seed)
        _, labelling = errors.labelling(rows.assign(label=rows["given_label"]).iloc[given])
        judged = truth[given] != ""
        wrong = truth[given] != rows["given_label"].to_numpy(object)[given]
        if not (judged & wrong).any() or not (judged & ~wrong).any():
            raise FieldmarkError(
                f"the column {verified!r} must say of some labels that they are right, and of "
                f"some that they are wrong"
            )
        result.append(real(features[given], labelling, wrong, judged, **how))
    return pd.concat([part for part in result if len(part)] or result, ignore_index=True)


def show(cfg: Config, fractions: Sequence[float], verified: str | None = None) -> None:
    """Print the audit of all labels that label-check has seen. Raises FieldmarkError where it has
    not run yet.
    """
    if not (CHECKED / "embedding.npy").exists():
        raise FieldmarkError(f"{CHECKED} is missing; run `dvc repro label-check` first")
    if bad := [fraction for fraction in fractions if not 0 < fraction < 1]:
        raise FieldmarkError(f"--fraction {bad[0]:g}: a share of the labels lies between 0 and 1")
    rows = table.read(CHECKED)
    if rows.loc[rows["label"] != "", "label"].nunique() < 2:
        raise FieldmarkError("an audit needs labels of at least two classes")
    features = store.read_array(CHECKED / "embedding.npy")
    settings = cfg.label_check.audit
    result = of_table(
        rows,
        features,
        cfg,
        fractions=fractions or settings.fractions,
        verified=verified or settings.verified,
    )
    printed = Table(*HEADINGS, box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in result[COLUMNS[:-1]].itertuples(
        index=False
    ):  # a random order has the share as its AP
        printed.add_row(
            *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row)
        )
    Console().print(printed)


def _figures(
    kind: str, fraction: float, wrong: Bool[np.ndarray, " n"], result: pd.DataFrame
) -> dict[str, object]:
    suspect, score = result["suspect"].to_numpy(), result["suspect_score"].to_numpy()
    expected = result["chance_wrong"].to_numpy()[suspect].sum() / max(suspect.sum(), 1)
    figures = (
        expected,
        precision_score(wrong, suspect, zero_division=0),
        recall_score(wrong, suspect, zero_division=0),
        average_precision_score(wrong, score),
        wrong.mean(),
    )
    return dict(
        zip(
            COLUMNS,
            (kind, fraction, int(wrong.sum()), int(suspect.sum()), *map(float, figures)),
            strict=True,
        )
    )


def _sample(
    places: Int64[np.ndarray, " n"], at_most: int | None, seed: int
) -> Int64[np.ndarray, " m"]:
    if at_most is None or len(places) <= at_most:
        return places
    return np.sort(np.random.default_rng(seed).permutation(places)[:at_most])


def _verified(rows: pd.DataFrame, column: str) -> np.ndarray:
    """What the metadata column says of each image, "" where nothing."""
    metadata = [json.loads(text) for text in rows["metadata"]]
    if not any(column in row for row in metadata):
        names = ", ".join(sorted({name for row in metadata for name in row})) or "none"
        raise FieldmarkError(
            f"there is no metadata column {column!r} of verified labels; there are: {names}"
        )
    return np.array([str(row.get(column, "")) for row in metadata], dtype=object)


def _most_alike(labels: Labels, probs: Float64[np.ndarray, "n k"]) -> Int64[np.ndarray, " k"]:
    """For each class the other one that its images are most likely taken for."""
    nearest: Int64[np.ndarray, " k"] = noise.likes(labels, probs).argmax(axis=1)
    return nearest


def _planted(
    labelling: Labelling, confused: Int64[np.ndarray, " k"], fractions: Sequence[float], seed: int
) -> Iterator[tuple[str, float, Labelling]]:
    labels, k = labelling.labels, len(confused)
    for fraction in fractions:
        random = np.random.default_rng([seed, round(fraction * 1e6)])
        which = random.permutation(len(labels))[: max(1, round(fraction * len(labels)))]
        yield (
            UNIFORM,
            fraction,
            _flipped(labelling, which, (labels[which] + random.integers(1, k, len(which))) % k),
        )
        if k > 2:
            yield LOOK_ALIKE, fraction, _flipped(labelling, which, confused[labels[which]])


def _flipped(
    labelling: Labelling, which: Int64[np.ndarray, " r"], to: Int64[np.ndarray, " r"]
) -> Labelling:
    """With other labels for some images; shares of the two classes are exchanged."""
    labels, before = labelling.labels.copy(), labelling.labels[which]
    labels[which] = to
    if labelling.shares is None:
        return replace(labelling, labels=labels)
    shares = labelling.shares.copy()
    shares[which, to], shares[which, before] = (
        labelling.shares[which, before],
        labelling.shares[which, to],
    )
    return replace(labelling, labels=labels, shares=shares)
