"""What attacks share: the gradient at the pixels, and a point inside the threat model."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.robustness.attacks.losses import Loss

Images = Float[Tensor, "n h w 3"]
Labels = Int64[Tensor, " n"]
Model = Callable[[Tensor], Tensor]
WHITE = 255.0


def gradient(
    model: Model, images: Images, labels: Labels, loss: Loss
) -> tuple[Float[Tensor, " n"], Images]:
    """The loss of each image, and its gradient at the pixels; 0 where that is no finite number, or
    where the model has no gradient at all. Gradients of weights are not touched.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_(True)
        values = loss(model(images), labels)
        if not values.requires_grad:
            return values, torch.zeros_like(images, requires_grad=False)
        (slope,) = torch.autograd.grad(
            values.sum(), images, allow_unused=True, materialize_grads=True
        )
    return values.detach(), slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def inside(points: Images, images: Images, radius: float) -> Images:
    """The nearest points in the ball around the images, and on the scale of pixels."""
    return (images + (points - images).clamp(-radius, radius)).clamp(0.0, WHITE)


def anywhere(images: Images, radius: float, generator: torch.Generator) -> Images:
    """Points drawn uniformly from the ball. The generator is one of the CPU."""
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    return inside(images + (2 * noise - 1) * radius, images, radius)
