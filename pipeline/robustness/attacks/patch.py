"""A square of any colours at a random place: what a sticker in the picture can do.

After Brown, Mané, Roy, Abadi and Gilmer, "Adversarial patch", 2017; here each image has a patch of
its own, found by projected gradient descent, which is stronger than one for all images. Outside the
square no pixel changes; inside it every value from 0 to 255 is allowed.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.steps import WHITE, Images, Labels, Model, gradient

REACH = 2.5  # the steps together, in ranges of the pixels


def patch(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    area: float,
    steps: int,
    places: int,
    generator: torch.Generator,
) -> Images:
    """The attacked images, each with the best of so many places for one square. area: its share of
    the pixels.
    """
    _, height, width, _ = images.shape
    side = min(max(round(math.sqrt(area * height * width)), 1), height, width)
    best = images
    most = torch.full((len(images),), -torch.inf, device=images.device)
    for _ in range(places):
        within = _squares(images, side, generator)
        tried, loss = _coloured(model, images, labels, within, steps, generator)
        better = loss > most
        best = torch.where(better[:, None, None, None], tried, best)
        most = torch.where(better, loss, most)
    return best


def _coloured(
    model: Model,
    images: Images,
    labels: Labels,
    within: Float[Tensor, "n h w 1"],
    steps: int,
    generator: torch.Generator,
) -> tuple[Images, Float[Tensor, " n"]]:
    """Colours of the squares after the last step, begun at random ones, and the margin there."""
    colours = WHITE * torch.rand(images.shape, generator=generator).to(images.device)
    length = REACH * WHITE / steps
    for _ in range(steps):
        tried = images + within * (colours - images)
        _, slope = gradient(model, tried, labels, losses.margin)
        colours = (colours + length * slope.sign()).clamp(0.0, WHITE)
    tried = images + within * (colours - images)
    with torch.no_grad():
        return tried, losses.margin(model(tried), labels)


def _squares(images: Images, side: int, generator: torch.Generator) -> Float[Tensor, "n h w 1"]:
    """1 in one square of each image, 0 outside."""
    n, height, width, _ = images.shape
    top = torch.randint(0, height - side + 1, (n, 1), generator=generator)
    left = torch.randint(0, width - side + 1, (n, 1), generator=generator)
    rows, columns = torch.arange(height)[None] - top, torch.arange(width)[None] - left
    inside = [(axis >= 0) & (axis < side) for axis in (rows, columns)]
    return (inside[0][:, :, None] & inside[1][:, None, :])[..., None].to(images)
