"""The contents of the page, as plain data: evaluate's evidence and earlier stages' findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from pipeline.evaluation.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test image with a wrong prediction; the confidence is 0 to 1."""

    name: str
    label: str
    predicted: str
    confidence: float
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A test image with the map of where its answer rests drawn in, and the box of the region if a
    part stands out. in_box: whether the strongest cell meets the box that was given, if one was.
    """

    name: str
    label: str
    predicted: str
    confidence: float
    boxed: bool
    in_box: bool | None
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image whose label is doubted; the score is label-check's, 0 to 1."""

    name: str
    label: str
    suggested: str
    score: float
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that are nearly the same, the reason to show them, and their features' cosine."""

    why: str
    names: tuple[str, str]
    labels: tuple[str, str]
    cosine: float
    image: UInt8[np.ndarray, "_ _ 3"]
    other: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """An image unlike all others."""

    name: str
    label: str
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """What label-check found, with pictures of the clearest cases.

    `findings` has one row per kind of finding: finding, n, note. `audit` has the columns of
    pipeline.labels.audit. People decided on `n_decided` images, and changed `n_changed` labels.
    """

    findings: pd.DataFrame
    audit: pd.DataFrame
    n_decided: int
    n_changed: int
    suspects: Sequence[Suspect]
    pairs: Sequence[Pair]
    outliers: Sequence[Outlier]


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """`rows` has one row per candidate: name, latency/p50_ms, `metric`, pareto, within_budget,
    stopped and further columns; `choice` has sentences on how the winner was chosen.
    """

    rows: pd.DataFrame
    metric: str
    budget_ms: float
    choice: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Sufficiency:
    """Learning curves: `measured` has the columns candidate, name, class ("": over all), n, draw and
    value, `forecast` candidate, name, class, n, value, low and high. `expected_wrong` of the `n_labels`
    labels are wrong, as label-check expects.
    """

    measured: pd.DataFrame
    forecast: pd.DataFrame
    metric: str
    sentences: Sequence[str]
    expected_wrong: float
    n_labels: int


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """`rows` has one row per trial: number, value, stopped (early) and further columns, of which
    params_NAME hold hyperparameters. `importance` has columns hyperparameter and importance;
    `remarks` are sentences.
    """

    rows: pd.DataFrame
    metric: str
    direction: Literal["maximize", "minimize"]
    importance: pd.DataFrame
    remarks: list[str]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page; a section without content is left out.

    The tables are those of pipeline.evaluation.tables and pipeline.robustness.measure. `history` has one row per epoch, and is None
    where there is none to plot. `quarantine` has one row per file that could not be used: name,
    reason.
    """

    evidence: Evidence
    latency_ms: float
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    reliability: pd.DataFrame
    risk_coverage: pd.DataFrame
    ranking: pd.DataFrame
    places: pd.DataFrame
    roc: pd.DataFrame
    precision_recall: pd.DataFrame
    slices: pd.DataFrame
    robustness: pd.DataFrame
    robustness_classes: pd.DataFrame
    breaking_points: pd.DataFrame
    sets: pd.DataFrame
    calibration: pd.DataFrame
    stability: pd.DataFrame
    context: pd.DataFrame
    mistakes: Sequence[Mistake]
    looked: Sequence[Looked]
    label_check: LabelCheck
    leaderboard: Leaderboard
    sufficiency: Sufficiency
    tuning: Tuning
    history: pd.DataFrame | None
    quarantine: pd.DataFrame
