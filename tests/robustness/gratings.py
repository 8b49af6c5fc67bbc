"""Small networks that learned stripes of two to four directions, in seconds; for the tests of
robustness.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.features.backbones import SmallCNN
from pipeline.robustness.attacks.pgd import pgd

SIZE_PX = 16


def gratings(n: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (n, 16, 16, 3) of faint stripes under noise, and their directions."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    angles = np.pi * labels / n_classes
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    waves = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    stripes = np.sin(waves * 1.2 + random.uniform(0, 6.3, n)[:, None, None])
    grey = 128 + 30 * stripes[..., None] + random.normal(0, 12, (n, SIZE_PX, SIZE_PX, 3))
    return grey.clip(0, 255).round().astype(np.uint8), labels.astype(np.int64)


def tensors(n: int, n_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    images, labels = gratings(n, n_classes, seed)
    return torch.from_numpy(images).float(), torch.from_numpy(labels)


@cache
def trained(
    n_classes: int = 3, noise: float = 0.0, scale: float = 1.0, radius: float = 0.0, seed: int = 0
) -> nn.Sequential:
    """A network in evaluation mode. noise: of the pixels while it learns; scale: of its logits,
    which at 1e4 are as distillation at a high temperature leaves them; radius: it learns from images
    that PGD changed by so much.
    """
    torch.manual_seed(seed)
    body = SmallCNN(input_px=SIZE_PX, width=8, blocks=2)
    network = nn.Sequential(body, nn.Linear(32, n_classes))
    images, labels = tensors(600, n_classes, seed=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(40):
        rows = torch.randperm(len(images))[:128]
        noisy = images[rows] + noise * torch.randn_like(images[rows])
        if radius:
            generator = torch.Generator().manual_seed(int(rows[0]))
            how = {"radius": radius, "steps": 3, "generator": generator}
            noisy = pgd(network, images[rows], labels[rows], **how)
        optimizer.zero_grad()
        F.cross_entropy(network(noisy), labels[rows]).backward()
        optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        network[1].weight *= scale
        network[1].bias *= scale
    return network.eval()
