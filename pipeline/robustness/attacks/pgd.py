"""Projected gradient descent: many small steps of the sign of the gradient, from a random start.

Madry, Makelov, Schmidt, Tsipras and Vladu, ICLR 2018, section 2.1. Where the model draws a view at
random in each call, the steps follow the expectation over views (Athalye, Engstrom, Ilyas and Kwok,
ICML 2018).
"""

import torch

from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.losses import Loss
from pipeline.robustness.attacks.steps import Images, Labels, Model, anywhere, gradient, inside

REACH = 2.5  # the steps together, in radii: any point of the ball can be reached from any other


def pgd(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    radius: float,
    steps: int,
    generator: torch.Generator,
    step: float | None = None,
    loss: Loss = losses.cross_entropy,
) -> Images:
    """The attacked images after the last step. step: its length; 2.5 radii divided by the number of
    steps where there is none.
    """
    length = REACH * radius / steps if step is None else step
    point = anywhere(images, radius, generator)
    for _ in range(steps):
        _, slope = gradient(model, point, labels, loss)
        point = inside(point + length * slope.sign(), images, radius)
    return point
