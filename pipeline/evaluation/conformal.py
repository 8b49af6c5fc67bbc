"""Conformal prediction: sets of classes that contain the right one with a stated probability.

A class is in the set of an image where its probability is at least that class's threshold, which
comes from images that the model had not seen (split conformal prediction with the score 1 - p:
Sadinle, Lei and Wasserman, JASA 2019). By class (Mondrian: Vovk, Gammerman and Shafer 2005,
section 4.5) the promise holds for the images of each class; otherwise over all images, and rare
classes may get less. An empty set means that no class is likely enough; the likeliest is taken.

Axes: n images, k classes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64

from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.proportions import LEVEL, wilson
from pipeline.storage import csvs

FILE = "sets.json"
ALL = "all classes"
COLUMNS = ["class", "n", "coverage", "low", "high", "mean_size", "empty"]
COLUMNS += ["n_calibration", "least_probability"]


@dataclass(frozen=True)
class Sets:
    """A class is in a set where its probability is at least its `least_probability`.

    `level`: the share of images whose set contains their label. `n`: how many images each threshold
    comes from; with too few to promise anything it is 0, and the class is in every set.
    """

    level: float
    by_class: bool
    least_probability: list[float]
    n: list[int]


def calibrated(
    labels: Int64[np.ndarray, " n"],
    probs: Float[np.ndarray, "n k"],
    *,
    level: float,
    by_class: bool,
) -> Sets:
    """The thresholds, from images that the model had not seen."""
    own, classes = probs[np.arange(len(labels)), labels], range(probs.shape[1])
    groups = [own[labels == c] if by_class else own for c in classes]
    return Sets(
        level=level,
        by_class=by_class,
        least_probability=[least_probability(group, level) for group in groups],
        n=[len(group) for group in groups],
    )


def least_probability(own: Float[np.ndarray, " n"], level: float) -> float:
    """The threshold that a further image's own probability reaches with probability `level`.

    own: the probabilities of the true classes. It is the one of rank ceil((n + 1) level), from the
    highest down; 0 where there are too few images for that rank to exist.
    """
    r = rank(len(own), level)
    return float(np.sort(own)[len(own) - r]) if r <= len(own) else 0.0


def rank(n: int, level: float) -> int:
    """ceil((n + 1) level); above n where n images are too few for the level."""
    # Rounded, since 0.9 times 10 may come out a hair above 9, and the rank one too far.
    return math.ceil(round((n + 1) * level, 9))


def members(
    probs: Float[np.ndarray, "n k"], least: Sequence[float] | Float64[np.ndarray, " k"]
) -> Bool[np.ndarray, "n k"]:
    """Which classes each image's set holds; the likeliest alone where it would be empty."""
    inside: Bool[np.ndarray, "n k"] = probs >= np.asarray(least)
    empty = ~inside.any(axis=1)
    inside[empty, probs[empty].argmax(axis=1)] = True
    return inside


def coverage(
    labels: Int64[np.ndarray, " n"],
    probs: Float[np.ndarray, "n k"],
    sets: Sets,
    classes: Sequence[str],
) -> pd.DataFrame:
    """How often the sets of other images contain their label: first over all, then class by class.

    COLUMNS: low and high are the 95 % interval (Wilson 1927), empty is the share of sets that were
    empty before the likeliest class was taken. A class without images has NaN.
    """
    inside = members(probs, sets.least_probability)
    images = pd.DataFrame(
        {
            "coverage": inside[np.arange(len(labels)), labels],
            "mean_size": inside.sum(axis=1),
            "empty": ~(probs >= np.asarray(sets.least_probability)).any(axis=1),
        }
    ).astype(float)
    per_class = images.groupby(np.asarray(classes, dtype=object)[labels]).mean()
    means = pd.concat([per_class.reindex([*classes]), images.mean().rename(ALL).to_frame().T])
    n = [*np.bincount(labels, minlength=len(classes)), len(labels)]
    ends = [
        wilson(round(share * m) if m else 0, int(m))
        for share, m in zip(means["coverage"], n, strict=True)
    ]
    table = means.assign(n=n, low=[low for low, _ in ends], high=[high for _, high in ends])
    table["n_calibration"] = [*sets.n, sum(sets.n) if sets.by_class else sets.n[0]]
    table["least_probability"] = [*sets.least_probability, math.nan]
    table = table.rename_axis("class").reset_index()
    order = [len(classes), *range(len(classes))]
    return table.iloc[order].reset_index(drop=True)[COLUMNS]


def from_validation(tune: Path, classes: list[str], *, level: float, by_class: bool) -> Sets:
    """The thresholds from the validation images, as tune recorded them in validation.csv."""
    rows = csvs.read(
        tune / "validation.csv", dtype={"id": str, "label": str}, keep_default_na=False
    )
    labels = rows["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    probs = rows[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    return calibrated(labels, probs, level=level, by_class=by_class)


def figures(measured: pd.DataFrame, sets: Sets) -> Figures:
    """Coverage over all images with its interval, and the mean size of a set."""
    row = measured.iloc[0]
    promised = f"{sets.level:.0%} promised{' for each class' if sets.by_class else ''}"
    return {
        "set_coverage": Figure(
            value=row["coverage"],
            n=row["n"],
            method=f"split conformal sets, Wilson interval, {LEVEL:.0%}",
            meaning=f"the share of images whose set of classes holds their label; {promised}",
            low=row["low"],
            high=row["high"],
        ),
        "set_size": Figure(
            value=row["mean_size"],
            n=row["n"],
            method="mean over images; an empty set gets the likeliest class",
            meaning="how many classes a set holds; 1 is best",
        ),
    }


def write(sets: Sets, folder: Path) -> None:
    """sets.json, which export hands on to serving."""
    text = json.dumps(asdict(sets), indent=1) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")
