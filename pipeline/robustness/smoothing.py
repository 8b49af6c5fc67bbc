"""Which test images are certified by randomized smoothing, over the radius."""

import numpy as np
from torch import nn
from tqdm import tqdm

from pipeline.config.schema import Smoothing
from pipeline.evaluation import proportions
from pipeline.evaluation.figures import Figure
from pipeline.features import identity
from pipeline.robustness import views
from pipeline.robustness.certificate import ceiling, certified
from pipeline.robustness.findings import Findings, row
from pipeline.robustness.sample import Labels
from pipeline.storage import memo

CODE = ("pipeline.robustness.certificate",)


def measure(
    network: nn.Module, images: np.ndarray, labels: Labels, settings: Smoothing, seed: int
) -> Findings:
    """One row per radius: images whose label is certified there. Abstentions count as wrong."""
    one = views.single(network).eval()
    weights = identity.fingerprint(one)
    radii = np.full(len(images), -1.0)  # of the label; -1 where it has no certificate
    abstained = 0
    for i, image in enumerate(tqdm(images, "certificates", unit="image", mininterval=1)):
        asked = {**settings.model_dump(exclude={"images", "radii"}), "seed": seed + i}
        key = memo.key(
            {**asked, "weights": weights}, image, code=CODE, libraries=("torch", "scipy")
        )
        stored = memo.once("robustness", key, lambda: certified(one, image, settings, seed + i))  # noqa: B023
        chosen, radius = int(stored["chosen"]), float(stored["radius"])
        abstained += radius <= 0
        if radius > 0 and chosen == labels[i]:
            radii[i] = radius
    limit = ceiling(settings)
    details = (
        f"L2, sigma {settings.sigma:g}, {settings.n_certify} noisy copies, confidence "
        f"{1 - settings.alpha:.1%} for each image, no radius above {limit:.1f} can be certified, "
        f"{abstained} abstentions, one view"
    )
    rows = [
        row("certificate", "randomized smoothing", radius, radii >= radius, labels, details)
        for radius in [0.0, *sorted(settings.radii)]
    ]
    return Findings(rows, figures=_figures(radii, settings, limit, details))


def _figures(
    radii: np.ndarray, settings: Smoothing, limit: float, details: str
) -> dict[str, Figure]:
    """At the largest radius that the number of copies can certify."""
    within = [radius for radius in settings.radii if 0 < radius <= limit]
    if not within:
        return {}
    last = max(within)
    meaning = (
        f"share of images whose label provably stays under noise, whatever changes by {last:g} in all "
        "(L2, of 255)"
    )
    certified_there = proportions.figure(radii >= last, f"randomized smoothing, {details}", meaning)
    return {f"robustness/certified_l2_{last:g}": certified_there}
