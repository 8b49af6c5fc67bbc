"""What corruptions leave of the accuracy, and where each breaks the model."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8
from torch import nn

from pipeline.config.schema import Corruptions
from pipeline.evaluation.figures import Figure
from pipeline.robustness import views
from pipeline.robustness.corruptions.answers import CLEAN, predicted
from pipeline.robustness.corruptions.kinds import IMAGENET_C, KINDS
from pipeline.robustness.findings import Findings, row
from pipeline.robustness.sample import Labels

RESAMPLES, LEVEL = 1000, 0.95  # of the mean over corruptions; part of the figure's definition
Right = Bool[np.ndarray, "s n"]


def measure(
    network: nn.Module,
    images: UInt8[np.ndarray, "n h w 3"],
    labels: Labels,
    settings: Corruptions,
    seed: int,
) -> Findings:
    """One row per kind and severity, beside the clean accuracy on the same images and views."""
    module = network if settings.all_views else views.single(network)
    severities = sorted(settings.severities)
    right = {
        kind: answers == labels
        for kind, answers in predicted(module, images, severities, seed).items()
    }
    seen = "all views" if settings.all_views or views.n_views(network) == 1 else "one view"
    details = f"answers through {seen}"
    rows = [
        row("corruption", kind, float(severity), stands, labels, details)
        for kind, by_severity in right.items()
        for severity, stands in zip([0] if kind == CLEAN else severities, by_severity, strict=True)
    ]
    breaking = breaking_points(right, severities, settings.floor)
    return Findings(rows, breaking=breaking, figures=_figures(right, severities, details, seed))


def breaking_points(right: dict[str, Right], severities: list[int], floor: float) -> pd.DataFrame:
    """Columns corruption, accuracy (mean over its severities) and breaks_at: the first severity with
    an accuracy below the floor, "0" where the clean images are below it, "none" where there is none.
    The worst kind first.
    """
    at = [0, *severities]
    table = []
    for kind in KINDS:
        accuracies = [right[CLEAN][0].mean(), *right[kind].mean(1)]
        below = [severity for severity, mean in zip(at, accuracies, strict=True) if mean < floor]
        table.append((kind, float(right[kind].mean()), str(below[0]) if below else "none"))
    frame = pd.DataFrame(table, columns=["corruption", "accuracy", "breaks_at"])
    return frame.sort_values(["accuracy", "corruption"], ignore_index=True)


def _figures(
    right: dict[str, Right], severities: list[int], details: str, seed: int
) -> dict[str, Figure]:
    by_image = np.mean([right[kind].mean(0) for kind in IMAGENET_C], axis=0)
    n = len(by_image)
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    low, high = np.quantile(by_image[drawn].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    worst = min(KINDS, key=lambda kind: right[kind].mean())
    shown = f"severities {', '.join(map(str, severities))}; {details}"
    mean = Figure(
        value=float(by_image.mean()),
        n=n,
        method=f"15 kinds of ImageNet-C, {shown}; percentile bootstrap over images, {RESAMPLES} "
        f"resamples, seed {seed}; {LEVEL:.0%} interval",
        meaning="mean accuracy over the corruptions; 1 less this is the mean corruption error, not "
        "divided by that of another network",
        low=float(low),
        high=float(high),
    )
    least = Figure(
        value=float(right[worst].mean()),
        n=n,
        method=f"{worst}, {shown}; the lowest of {len(KINDS)} kinds",
        meaning="mean accuracy under the corruption that the model stands worst",
    )
    return {"robustness/corruption_accuracy": mean, "robustness/worst_corruption": least}
