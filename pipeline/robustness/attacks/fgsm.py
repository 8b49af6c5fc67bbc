"""The fast gradient sign method: one step to the border of the ball.

Goodfellow, Shlens and Szegedy, ICLR 2015, section 4. With a random start and a longer step it is
what "fast" adversarial training trains on (Wong, Rice and Kolter, ICLR 2020, algorithm 3).
"""

from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.losses import Loss
from pipeline.robustness.attacks.steps import Images, Labels, Model, gradient, inside


def fgsm(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    radius: float,
    step: float | None = None,
    start: Images | None = None,
    loss: Loss = losses.cross_entropy,
) -> Images:
    """The attacked images. start: points of the ball (steps.anywhere); without them the images.

    step: its length; the radius where there is none.
    """
    point = images if start is None else start
    _, slope = gradient(model, point, labels, loss)
    length = radius if step is None else step
    return inside(point + length * slope.sign(), images, radius)
