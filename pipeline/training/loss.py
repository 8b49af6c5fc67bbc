"""The loss that networks and heads learn by in steps: cross-entropy. Axes: n images, k classes.

Heads that are fitted by a solver have theirs in solve.py and logistic.py; what a defence makes of
this one stands in defenses/objectives.py.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class CrossEntropy:
    """Between logits and the probabilities that a step teaches. weights: how much each image counts;
    None: all the same. smoothing: of the targets (Szegedy et al., CVPR 2016, section 7).
    """

    targets: Float[Tensor, "n k"]
    weights: Float[Tensor, " n"] | None
    smoothing: float

    def __call__(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """The mean over the images, as they count."""
        if self.weights is not None:
            return self.mean(self.rows(logits))
        return F.cross_entropy(logits, self.targets, label_smoothing=self.smoothing)

    def rows(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Of each image."""
        return F.cross_entropy(
            logits, self.targets, label_smoothing=self.smoothing, reduction="none"
        )

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Of one number per image, as they count."""
        return (values if self.weights is None else values * self.weights).mean()
