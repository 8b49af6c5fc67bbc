"""What the page shows, as plain data: the evidence of evaluate and what earlier stages found."""

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
class Suspect:
    """An image whose label is doubted; the score is label-check's, 0 to 1."""

    name: str
    label: str
    suggested: str
    score: float
    image: UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that are nearly the same, why they are shown, and the cosine of their features."""

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
    """`findings` has a row a kind of finding: finding, n, note; `audit` the columns of
    pipeline.labels.audit.

    `n_decided` images have a decision of people, which changed `n_changed` labels.
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
    """`rows` has a row a candidate: name, latency/p50_ms, `metric` and whatever else is worth
    showing.
    """

    rows: pd.DataFrame
    metric: str
    budget_ms: float


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """`rows` has a row a trial: number, value, stopped (before its end) and whatever else is worth
    showing.
    """

    rows: pd.DataFrame
    metric: str
    direction: Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page; a section without content is left out.

    The tables are those of pipeline.evaluation.tables. `history` has one row per epoch, None where
    there was none to follow; `quarantine` one row per file that could not be used: name, reason.
    """

    evidence: Evidence
    latency_ms: float
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    reliability: pd.DataFrame
    risk_coverage: pd.DataFrame
    slices: pd.DataFrame
    mistakes: Sequence[Mistake]
    label_check: LabelCheck
    leaderboard: Leaderboard
    tuning: Tuning
    history: pd.DataFrame | None
    quarantine: pd.DataFrame
