"""Auto-PGD: the length of the steps is halved where they stop to help, by itself.

Croce and Hein, ICML 2020, algorithm 1, with the constants of its section 3.2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.losses import Loss
from pipeline.robustness.attacks.steps import Images, Labels, Model, anywhere, gradient, inside

MOMENTUM = 0.75
RISING = 0.75  # share of the steps since the last check that must raise the loss
FIRST, SHORTER, SHORTEST = 0.22, 0.03, 0.06  # of the steps, between two checks


@dataclass
class _Place:
    """A point of each image, the loss and the gradient there."""

    point: Tensor
    loss: Tensor
    slope: Tensor

    def replace(self, which: Tensor, by: "_Place") -> None:
        rows = which[:, None, None, None]
        self.point = torch.where(rows, by.point, self.point)
        self.slope = torch.where(rows, by.slope, self.slope)
        self.loss = torch.where(which, by.loss, self.loss)


def apgd(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    radius: float,
    steps: int,
    generator: torch.Generator,
    loss: Loss = losses.cross_entropy,
) -> Images:
    """The points of the highest loss."""
    start = anywhere(images, radius, generator)
    now = _Place(start, *gradient(model, start, labels, loss))
    best, before = _Place(now.point, now.loss, now.slope), now.point
    length = torch.full((len(images), 1, 1, 1), 2 * radius, device=images.device)
    rises = torch.zeros_like(now.loss)
    halved, best_at_check = torch.ones_like(labels, dtype=torch.bool), best.loss
    last, checks = 0, checkpoints(steps)
    for done in range(1, steps + 1):
        ahead = inside(now.point + length * now.slope.sign(), images, radius)
        if done > 1:
            drift = MOMENTUM * (ahead - now.point) + (1 - MOMENTUM) * (now.point - before)
            ahead = inside(now.point + drift, images, radius)
        before, was = now.point, now.loss
        now = _Place(ahead, *gradient(model, ahead, labels, loss))
        rises += now.loss > was
        best.replace(now.loss > best.loss, now)
        if done in checks:
            stuck = ~halved & (best.loss <= best_at_check)
            halved = (rises < RISING * (done - last)) | stuck
            length = torch.where(halved[:, None, None, None], length / 2, length)
            now.replace(halved, best)
            last, rises, best_at_check = done, torch.zeros_like(rises), best.loss
    return best.point


def checkpoints(steps: int) -> set[int]:
    """The steps after which the length may be halved."""
    shares = [0.0, FIRST]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - SHORTER, SHORTEST))
    return {math.ceil(round(share * steps, 6)) for share in shares[1:] if share < 1}
