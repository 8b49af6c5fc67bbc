"""Everything about robustness, in one call.

robustness.csv          one row per attack and radius, corruption and severity, or certified radius
robustness_classes.csv  the accuracy of each class under the strongest attack at each radius
breaking_points.csv     the severity at which each corruption breaks the model
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from pipeline.config.schema import Robustness
from pipeline.robustness import curves, natural, smoothing
from pipeline.robustness.findings import Findings
from pipeline.robustness.sample import Labels, stratified
from pipeline.storage import csvs

CLASS_COLUMNS = ["method", "severity", "class", "n", "accuracy", "low", "high"]


def robustness(
    network: nn.Module,
    images: Sequence[np.ndarray] | np.ndarray,
    labels: Labels,
    names: list[str],
    settings: Robustness | None,
    seed: int,
    out: Path,
) -> Findings:
    """What attacks, corruptions and noise leave of the accuracy; the tables go into `out`. names: of
    the classes.
    """

    def some(size: int) -> tuple[np.ndarray, Labels]:
        rows = stratified(labels, size, seed)
        return np.stack([images[i] for i in rows.tolist()]), labels[rows]

    findings = Findings()
    if settings and settings.attacks.images:
        attacks = settings.attacks
        findings += curves.measure(network, *some(attacks.images), attacks, seed)
    if settings and settings.corruptions.images:
        corruptions = settings.corruptions
        findings += natural.measure(network, *some(corruptions.images), corruptions, seed)
    if settings and settings.smoothing.images:
        noise = settings.smoothing
        findings += smoothing.measure(network, *some(noise.images), noise, seed)
    _write(findings, names, out)
    return findings


def _write(findings: Findings, names: list[str], out: Path) -> None:
    csvs.write(findings.table(), out / "robustness.csv")
    by_class = pd.DataFrame(findings.by_class, columns=CLASS_COLUMNS)
    by_class["class"] = [names[label] for label in by_class["class"]]
    csvs.write(by_class, out / "robustness_classes.csv")
    none = pd.DataFrame(columns=["corruption", "accuracy", "breaks_at"])
    csvs.write(
        none if findings.breaking is None else findings.breaking, out / "breaking_points.csv"
    )
