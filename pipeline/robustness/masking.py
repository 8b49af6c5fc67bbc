"""Whether a model only hides its gradients: then a weak attack fails, and a strong one does not.

The signs are those of Athalye, Carlini and Wagner, ICML 2018 (section 3.1), and Carlini et al., "On
evaluating adversarial robustness" (2019). Each is a warning in words. They compare attacks on the
same images; a difference counts where it is large, and where chance hardly makes it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import binomtest
from torch import nn

from pipeline.robustness import views
from pipeline.robustness.adversarial import AT_ONCE, Outcome
from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.steps import gradient
from pipeline.robustness.sample import Labels, Stands

MUCH = 0.15  # of the images, beyond which one attack is much stronger than another
CHANCE = 0.01  # one-sided, of a share of at least that where the truth is 5 %
USUAL = 0.05  # of the images that any second attack may change
MOST_ZERO = 0.05  # share of images without a gradient that saturated answers alone may have


def zero_gradients(
    network: nn.Module, images: np.ndarray, labels: Labels, seed: int
) -> tuple[float, float]:
    """The shares of the images where the gradient of the cross-entropy and that of the margin are
    exactly 0 at every pixel.
    """
    model = views.random_view(network, torch.Generator().manual_seed(seed))
    zero = {losses.cross_entropy: 0, losses.margin: 0}
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        pixels, targets = torch.from_numpy(images[part]).float(), torch.from_numpy(labels[part])
        for loss in zero:
            slope = gradient(model, pixels, targets, loss)[1]
            zero[loss] += int((~slope.flatten(1).any(1)).sum())
    return zero[losses.cross_entropy] / len(images), zero[losses.margin] / len(images)


def warnings(
    zero_share: float, outcomes: Sequence[Outcome], black_box: Outcome | None
) -> list[str]:
    """The warnings. outcomes: of adversarial.Target.curve; black_box: on the first of its images."""
    return [
        *_zero(zero_share),
        *_margin(outcomes),
        *([] if black_box is None else _black_box(outcomes, black_box)),
    ]


def without_bound(stands: Stands, n: int) -> list[str]:
    """Of an attack that may change every pixel at will, on what stood before, out of n images."""
    n_left = int(stands.sum())
    if n_left <= MOST_ZERO * n:
        return []
    return [
        f"An attack that may change every pixel at will still leaves {n_left} of {n} images right, which no model can earn: its gradients mislead, and the "
        "figures of attacks by gradient are too good."
    ]


def all_views(outcomes: Sequence[Outcome], whole: Sequence[Outcome]) -> list[str]:
    """Where the attack through all views, on the first of the images, changes many answers that steps
    on one view at a time left.
    """
    for attack in whole:
        same = [outcome for outcome in outcomes if outcome.radius == attack.radius]
        left = same[-1].stands[: len(attack.stands)] if same else np.zeros(0, bool)
        if len(left) and _much(left & ~attack.stands):
            return [
                f"At radius {attack.radius:g} attacks on one view at a time leave {left.mean():.0%} of "
                f"{len(left)} images right, the attack through all averaged views only "
                f"{(left & attack.stands).mean():.0%}: averaging hides the weakness. The lower figure "
                "counts."
            ]
    return []


def _zero(share: float) -> list[str]:
    if share <= MOST_ZERO:
        return []
    return [
        f"For {share:.0%} of the images the gradient of the cross-entropy is exactly zero at every "
        "pixel: attacks by it cannot start there, and their figures are too good."
    ]


def _margin(outcomes: Sequence[Outcome]) -> list[str]:
    """Where the margin changes many answers that cross-entropy left, at the radius of the largest
    difference.
    """
    by = {(outcome.plan.name, outcome.radius): outcome.stands for outcome in outcomes}
    found = []
    for radius in sorted({outcome.radius for outcome in outcomes}):
        weak, strong = (by.get((f"PGD, {name}", radius)) for name in ("cross-entropy", "margin"))
        if weak is not None and strong is not None and _much(weak & ~strong):
            found.append((float((weak & ~strong).mean()), radius, weak.mean(), strong.mean()))
    if not found:
        return []
    _, radius, before, after = max(found)
    return [
        f"At radius {radius:g} PGD with cross-entropy leaves {before:.0%} of the images right, with "
        f"the margin only {after:.0%}: the answers are so sure that the gradient of the "
        "cross-entropy vanishes, as after distillation. The lower figure counts."
    ]


def _black_box(outcomes: Sequence[Outcome], alone: Outcome) -> list[str]:
    """Where questions alone change answers that every attack by gradient left."""
    same = [outcome for outcome in outcomes if outcome.radius == alone.radius]
    if not same:
        return []
    left = same[-1].stands[: len(alone.stands)]
    beaten = left & ~alone.stands
    if not _much(beaten):
        return []
    return [
        f"At radius {alone.radius:g} a black-box attack changes {beaten.mean():.0%} of {len(left)} "
        "answers that all attacks by gradient leave: the gradients are hidden, not the weakness."
    ]


def _much(changed: Stands) -> bool:
    n = int(changed.sum())
    rare = binomtest(n, max(len(changed), 1), USUAL, alternative="greater").pvalue < CHANCE
    return bool(rare and n >= MUCH * len(changed))
