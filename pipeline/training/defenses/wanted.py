"""What a step's answers should be. Axes: n images, k classes."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Wanted:
    """The probabilities that a step teaches, and how much each image counts; None: all the same."""

    targets: Float[Tensor, "n k"]
    weights: Float[Tensor, " n"] | None
    smoothing: float

    def rows(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """The cross-entropy of each image."""
        return F.cross_entropy(
            logits, self.targets, label_smoothing=self.smoothing, reduction="none"
        )

    def loss(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """Its mean over the images, as they count."""
        if self.weights is not None:
            return self.mean(self.rows(logits))
        return F.cross_entropy(logits, self.targets, label_smoothing=self.smoothing)

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Of one number per image, as they count."""
        return (values if self.weights is None else values * self.weights).mean()
