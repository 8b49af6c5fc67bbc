"""Noise of the sensor and of bits."""

import numpy as np

from pipeline.robustness.corruptions.scale import Image

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
SHOT = (60, 25, 12, 5, 3)  # photons of a white pixel
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values that are black or white


def gaussian_noise(image: Image, severity: int, random: np.random.Generator) -> Image:
    """As an amplifier makes it in the dark."""
    return image + random.normal(0, GAUSSIAN[severity - 1], image.shape).astype(np.float32)


def shot_noise(image: Image, severity: int, random: np.random.Generator) -> Image:
    """As light itself has it, where there is little."""
    photons = SHOT[severity - 1]
    return (random.poisson(image * photons) / photons).astype(np.float32)


def impulse_noise(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Salt and pepper, in each channel apart."""
    hit = random.random(image.shape) < IMPULSE[severity - 1]
    return np.where(hit, random.integers(0, 2, image.shape), image).astype(np.float32)
