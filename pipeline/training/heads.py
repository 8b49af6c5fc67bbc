"""What decides on features: the layers of each kind of head. Axes: n images, d features, k classes."""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.schema import Head


class Standardise(nn.Module):
    """(x - mean) / std with constants of the training features."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("std", torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.get_buffer("mean")) / self.get_buffer("std")


class Nearness(nn.Module):
    """exp(-gamma / d * squared distance) of each row (n, d) to each of m landmarks: (n, m)."""

    def __init__(self, d: int, m: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("landmarks", torch.zeros(m, d))

    def forward(self, x: Tensor) -> Tensor:
        landmarks = self.get_buffer("landmarks")
        squares = (x * x).sum(-1, keepdim=True) + (landmarks * landmarks).sum(1)
        distances = (squares - 2 * x @ landmarks.T).clamp(min=0)
        return torch.exp(distances * (-self.gamma / x.shape[-1]))


def build(head: Head, d: int, n_classes: int) -> nn.Sequential:
    """Layers from features (n, d) to logits (n, k)."""
    if head.kind == "mlp":
        hidden = [
            nn.Dropout(head.dropout / 2),
            nn.Linear(d, head.hidden),
            nn.ReLU(),
            nn.Dropout(head.dropout),
        ]
        return nn.Sequential(Standardise(d), *hidden, nn.Linear(head.hidden, n_classes))
    if head.kind == "svm_rbf":
        kernel = Nearness(d, head.landmarks, head.gamma)
        return nn.Sequential(Standardise(d), kernel, nn.Linear(head.landmarks, n_classes))
    return nn.Sequential(Standardise(d), nn.Dropout(head.dropout), nn.Linear(d, n_classes))


def standardise(head: nn.Sequential, features: np.ndarray) -> None:
    """Set the constants of the first layer to those of the images as they stand (the first view)."""
    layer = head[0]
    assert isinstance(layer, Standardise)
    plain = features[:, 0].astype(np.float64)
    layer.mean = torch.from_numpy(plain.mean(0)).float()
    layer.std = torch.from_numpy(np.maximum(plain.std(0), 1e-4)).float()
