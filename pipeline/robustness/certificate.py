"""Randomized smoothing: a radius within which the answer under noise provably stays.

Cohen, Rosenfeld and Kolter, ICML 2019: CERTIFY of section 3.2.2. The noise is neither rounded nor
clipped, and independent in each pixel and channel. The certificate is that of the smoothed
classifier, the class that most noisy copies get, and holds with probability 1 - alpha for an image.
"""

import numpy as np
import torch
from scipy.stats import beta, norm
from torch import nn

from pipeline.config.schema import Smoothing
from pipeline.storage import memo

AT_ONCE = 64  # noisy copies


def certified(model: nn.Module, image: np.ndarray, settings: Smoothing, seed: int) -> memo.Arrays:
    """The class, and its radius; 0 where it abstains."""
    generator = torch.Generator().manual_seed(seed)
    chosen = int(_counts(model, image, settings.n_choose, settings.sigma, generator).argmax())
    counts = _counts(model, image, settings.n_certify, settings.sigma, generator)
    least = lower_bound(int(counts[chosen]), settings.n_certify, settings.alpha)
    radius = settings.sigma * norm.ppf(least) if least > 0.5 else 0.0
    return {"chosen": np.array(chosen), "radius": np.array(radius)}


def lower_bound(successes: int, n: int, alpha: float) -> float:
    """Of a share, one-sided, exact (Clopper and Pearson 1934)."""
    return float(beta.ppf(alpha, successes, n - successes + 1)) if successes else 0.0


@torch.inference_mode()
def _counts(
    model: nn.Module, image: np.ndarray, n: int, sigma: float, generator: torch.Generator
) -> np.ndarray:
    """How many of n noisy copies get each class."""
    pixels = torch.from_numpy(image).float()
    answers = []
    for start in range(0, n, AT_ONCE):
        shape = (min(AT_ONCE, n - start), *pixels.shape)
        noisy = pixels + sigma * torch.randn(shape, generator=generator)
        logits = model(noisy)
        answers.append(logits.argmax(1))
    return np.bincount(torch.cat(answers).numpy(), minlength=logits.shape[1])


def ceiling(settings: Smoothing) -> float:
    """The radius where every noisy copy gets the same class: no more can be certified."""
    least = settings.alpha ** (1 / settings.n_certify)
    return float(settings.sigma * norm.ppf(least))
