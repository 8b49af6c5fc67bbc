"""What cameras do beside the 15 kinds of ImageNet-C; the numbers are ours."""

import numpy as np

from pipeline.robustness.corruptions.scale import Image, scale, smoothed

STOPS = (0.5, 1.0, 1.5, 2.0, 2.5)  # of exposure, each a factor of two of the light
KELVIN_GAINS = (0.1, 0.2, 0.3, 0.4, 0.5)  # red gains as much as blue loses, or the other way round
GREY = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the colour is gone
DUST = ((8, 0.3), (14, 0.4), (20, 0.5), (30, 0.6), (45, 0.7))  # specks, their darkness
SPECK_PX = (2.0, 9.0)  # radii
GAMMA = 2.2  # between the light and the numbers of a picture
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def overexposure(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Too much light; what is brighter than white is lost."""
    return np.asarray(image * 2 ** (STOPS[severity - 1] / GAMMA), np.float32)


def underexposure(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Too little light."""
    return np.asarray(image * 2 ** (-STOPS[severity - 1] / GAMMA), np.float32)


def white_balance(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Too warm or too cold, which of them by chance."""
    gain = KELVIN_GAINS[severity - 1] * random.choice([-1, 1])
    return np.asarray(image * np.array([1 + gain, 1, 1 - gain]), np.float32)


def grey(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Less and less colour; none at severity 5."""
    share = GREY[severity - 1]
    return np.asarray((1 - share) * image + share * (image @ LUMINANCE)[..., None], np.float32)


def dust(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Dark, soft specks on the lens or the sensor."""
    n, darkness = DUST[severity - 1]
    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    shade = np.zeros((h, w), np.float32)
    for _ in range(n):
        radius = max(random.uniform(*SPECK_PX) * scale(image), 0.5)
        top, left = random.uniform(0, h), random.uniform(0, w)
        shade = np.maximum(shade, (radius + 0.5 - np.hypot(y - top, x - left)).clip(0, 1))
    return np.asarray(image * (1 - darkness * smoothed(shade, scale(image)))[..., None], np.float32)
