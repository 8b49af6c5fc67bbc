"""What an attack climbs: one number per image, larger where the model is nearer to a mistake.

Axes: n images, k classes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log(probability of the label). Its gradient vanishes where the model is very sure, which a
    margin's does not.
    """
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The best other logit less that of the label: above 0 where the answer is wrong (Carlini and
    Wagner, S&P 2017, equation 6 of section V, without its constant).
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - own
