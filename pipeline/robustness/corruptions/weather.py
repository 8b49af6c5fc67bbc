"""Weather: snow, frost, fog, and light."""

import cv2
import numpy as np

from pipeline.robustness.corruptions.blur import moved
from pipeline.robustness.corruptions.scale import Image, enlarged, plasma

# mean and standard deviation of the flakes, their zoom, the least bright one that counts, radius
# and sigma of their fall (px), and the share of the picture that is left
SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10.0, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12.0, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12.0, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12.0, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12.0, 12.0, 0.55),
)
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # share of picture and frost
FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # strength, decay of its octaves
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
NEEDLES = (0, 60, 120)  # degrees of the crystals


def snow(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Falling flakes before a paler picture."""
    mean, deviation, zoom, least, radius, sigma, share = SNOW[severity - 1]
    flakes = random.normal(mean, deviation, image.shape[:2]).astype(np.float32)
    flakes = enlarged(flakes, zoom)
    flakes = np.where(flakes < least, 0, flakes).clip(0, 1).astype(np.float32)
    layer = moved(flakes, (radius, sigma), random.uniform(-135, -45))[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    paler = share * image + (1 - share) * np.maximum(image, grey * 1.5 + 0.5)
    return np.asarray(paler + layer + np.rot90(layer, 2), np.float32)


def frost(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Crystals on the lens. The authors lay photos of frost over the image; here needles of noise
    in the directions of ice stand in clouds, which needs no photos.
    """
    picture, share = FROST[severity - 1]
    h, w = image.shape[:2]
    crystals = np.zeros((h, w), np.float32)
    for degrees in NEEDLES:
        seeds = (random.random((h, w)) > 0.97).astype(np.float32) * 6
        crystals += moved(seeds, (12.0, 6.0), degrees + random.uniform(-20, 20))
    ice = (crystals.clip(0, 1) * 0.4 + 0.6) * (0.6 + 0.4 * plasma((h, w), 1.7, random))
    tint = np.array([0.82, 0.92, 1.0], np.float32)
    return np.asarray(picture * image + share * ice[..., None] * tint, np.float32)


def fog(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Clouds before the picture."""
    strength, decay = FOG[severity - 1]
    brightest = float(image.max())
    clouds = strength * plasma((image.shape[0], image.shape[1]), decay, random)[..., None]
    return np.asarray((image + clouds) * brightest / (brightest + strength), np.float32)


def brightness(image: Image, severity: int, random: np.random.Generator) -> Image:
    """More light, at the same hue and saturation."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = (hsv[..., 2] + BRIGHTNESS[severity - 1]).clip(0, 1)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
