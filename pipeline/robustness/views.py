"""One view of a network that averages over several.

An attack on one fixed view flatters the network. One on a view that is drawn anew in each step meets
all of them in expectation, at the cost of one.
"""

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor, nn

from pipeline.pixels.symmetry import SYMMETRIES, view


def n_views(network: nn.Module) -> int:
    """How many views its answer is the mean of."""
    return len(SYMMETRIES[getattr(network, "symmetry", "none")])


def single(network: nn.Module) -> nn.Module:
    """The same network through the image as it stands alone; the weights are shared."""
    if n_views(network) == 1:
        return network
    one = copy(network)
    one.symmetry = "none"  # type: ignore[assignment]
    return one


def random_view(network: nn.Module, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The network through one view, which each call draws."""
    flips = SYMMETRIES[getattr(network, "symmetry", "none")]
    one = single(network)

    def logits(images: Tensor) -> Tensor:
        drawn = int(torch.randint(len(flips), (), generator=generator))
        answer: Tensor = one(view(images, flips[drawn]))
        return answer

    return logits if len(flips) > 1 else one
