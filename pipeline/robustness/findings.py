"""What was measured: rows of robustness.csv, figures, and warnings in words."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.evaluation.figures import Figure
from pipeline.evaluation.proportions import wilson
from pipeline.robustness.sample import Labels, Stands

COLUMNS = [
    "threat",
    "method",
    "severity",
    "n",
    "accuracy",
    "low",
    "high",
    "balanced_accuracy",
    "as_file",
    "largest_class",
    "details",
]


@dataclass(frozen=True)
class Findings:
    """`rows` have COLUMNS, `breaking` the columns of natural.breaking_points; `by_class` has method,
    severity, class (its number), n, accuracy, low and high. `warnings`: why figures are too good;
    `notes`: what was not measured.
    """

    rows: list[dict[str, object]] = field(default_factory=list)
    by_class: list[dict[str, object]] = field(default_factory=list)
    breaking: pd.DataFrame | None = None
    figures: dict[str, Figure] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.rows + other.rows,
            self.by_class + other.by_class,
            self.breaking if other.breaking is None else other.breaking,
            self.figures | other.figures,
            self.warnings + other.warnings,
            self.notes + other.notes,
        )

    def values(self) -> dict[str, float]:
        """The figures as DVC and MLflow compare them, and gates read them."""
        return {name: figure.value for name, figure in self.figures.items()}

    def table(self) -> pd.DataFrame:
        """robustness.csv."""
        return pd.DataFrame(self.rows, columns=COLUMNS)


def row(
    threat: str,
    method: str,
    severity: float,
    stands: Stands,
    labels: Labels,
    details: str,
    as_file: Stands | None = None,
) -> dict[str, object]:
    """One row. severity: of a corruption, or a radius in 0 to 255. as_file: which answers stay right
    where the attacked pixels are rounded to 8 bits; they count for `as_file` alone.
    """
    low, high = wilson(int(stands.sum()), len(stands))
    return {
        "threat": threat,
        "method": method,
        "severity": float(severity),
        "n": len(stands),
        "accuracy": float(stands.mean()),
        "low": low,
        "high": high,
        "balanced_accuracy": balanced(stands, labels),
        "as_file": float((stands if as_file is None else as_file).mean()),
        "largest_class": largest_class(labels),
        "details": details,
    }


def classes(
    method: str, severity: float, stands: Stands, labels: Labels
) -> list[dict[str, object]]:
    """The same accuracy for each class."""
    rows = []
    for label in np.unique(labels).tolist():
        own = stands[labels == label]
        low, high = wilson(int(own.sum()), len(own))
        numbers = {"n": len(own), "accuracy": float(own.mean()), "low": low, "high": high}
        rows.append({"method": method, "severity": float(severity), "class": label, **numbers})
    return rows


def balanced(stands: Stands, labels: Labels) -> float:
    """Mean over the classes of the share of their images."""
    return float(np.mean([stands[labels == label].mean() for label in np.unique(labels)]))


def largest_class(labels: Labels) -> float:
    """What always answering the largest class would reach."""
    return float(np.bincount(labels).max() / len(labels))
