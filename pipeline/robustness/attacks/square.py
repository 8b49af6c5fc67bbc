"""The square attack: random squares of the extreme colours, kept where they help. No gradient.

Andriushchenko, Croce, Flammarion and Hein, ECCV 2020, algorithms 1 and 2 for the L-infinity norm,
with its schedule of sizes.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.steps import WHITE, Images, Labels, Model

SHARE = 0.8  # of the pixels in the first square
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


@torch.no_grad()
def square(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    radius: float,
    queries: int,
    generator: torch.Generator,
) -> Images:
    """The attacked images, after at most so many questions to the model for each."""
    n, h, w, _ = images.shape
    stripes = _signs((n, 1, w, 3), images, generator)
    best = (images + radius * stripes).clamp(0, WHITE)
    loss = losses.margin(model(best), labels)
    for query in range(1, queries):
        right = torch.nonzero(loss <= 0)[:, 0]
        if not len(right):
            break
        side = min(max(round(math.sqrt(_share(query, queries) * h * w)), 1), h, w)
        windows = _windows(len(right), h, w, side, generator).to(images.device)
        colours = images[right] + radius * _signs((len(right), 1, 1, 3), images, generator)
        tried = torch.where(windows, colours.clamp(0, WHITE), best[right])
        new = losses.margin(model(tried), labels[right])
        better = new > loss[right]
        best[right[better]], loss[right[better]] = tried[better], new[better]
    return best


def _share(query: int, queries: int) -> float:
    """The share of the pixels that a square covers, halved as the search goes on."""
    progress = 10_000 * query / queries
    halvings = sum(progress > at for at in HALVED_AT)
    return float(SHARE / 2**halvings)


def _windows(
    n: int, h: int, w: int, side: int, generator: torch.Generator
) -> Bool[Tensor, "n h w 1"]:
    """True in one square of each image."""
    top = torch.randint(0, h - side + 1, (n, 1), generator=generator)
    left = torch.randint(0, w - side + 1, (n, 1), generator=generator)
    rows, columns = torch.arange(h)[None] - top, torch.arange(w)[None] - left
    within = [(axis >= 0) & (axis < side) for axis in (rows, columns)]
    return (within[0][:, :, None] & within[1][:, None, :])[..., None]


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, shape, generator=generator) * 2 - 1).to(like)
