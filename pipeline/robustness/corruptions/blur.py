"""Blur of lenses and of motion."""

import math

import cv2
import numpy as np

from pipeline.robustness.corruptions.scale import Image, scale, smoothed

DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, sigma of its border; px
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, shift, rounds; px
MOTION = ((10.0, 3.0), (15.0, 5.0), (15.0, 8.0), (15.0, 12.0), (20.0, 15.0))  # radius, sigma; px
ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # up to, in steps of


def defocus_blur(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Out of focus: under a disk."""
    radius, soft = (length * scale(image) for length in DEFOCUS[severity - 1])
    reach = max(math.ceil(radius), 1)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # The edge of the disk covers part of a pixel, so that radii below one pixel differ.
    disk = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    disk = smoothed(np.pad(disk, 2), soft)
    return np.asarray(cv2.filter2D(image, -1, disk / disk.sum(), borderType=cv2.BORDER_REFLECT))


def glass_blur(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Behind frosted glass: pixels change places with near ones.

    Here all of a round move at once; the authors swap them one by one, which takes a loop over
    pixels.
    """
    sigma, shift, rounds = GLASS[severity - 1]
    sigma, reach = sigma * scale(image), max(round(shift * scale(image)), 1)
    h, w = image.shape[:2]
    glass = smoothed(image, sigma)
    for _ in range(rounds):
        dy, dx = random.integers(-reach, reach + 1, (2, h, w))
        y, x = np.mgrid[:h, :w]
        glass = glass[(y + dy).clip(0, h - 1), (x + dx).clip(0, w - 1)]
    return np.asarray(smoothed(glass, sigma), np.float32)


def motion_blur(image: Image, severity: int, random: np.random.Generator) -> Image:
    """The camera moved, up to 45 degrees from the horizontal."""
    return np.asarray(moved(image, MOTION[severity - 1], random.uniform(-45, 45)), np.float32)


def moved(image: np.ndarray, motion: tuple[float, float], degrees: float) -> np.ndarray:
    """Under a trace that begins at each pixel and fades. motion: its radius and the standard
    deviation of its fading, in pixels of 224.
    """
    radius, sigma = (length * scale(image) for length in motion)
    reach = max(round(radius), 1)
    steps = np.arange(0, 2 * reach + 0.25, 0.25)  # quarters of a pixel, so that slopes are smooth
    weight = np.exp(-(steps**2) / (2 * max(sigma, 0.1) ** 2)).astype(np.float32)
    side = 4 * reach + 3
    kernel = np.zeros((side, side), np.float32)
    angle = np.deg2rad(degrees)
    x = np.rint(2 * reach + 1 + steps * np.cos(angle)).astype(int)
    y = np.rint(2 * reach + 1 + steps * np.sin(angle)).astype(int)
    np.add.at(kernel, (y, x), weight)
    kernel /= kernel.sum()
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT))


def zoom_blur(image: Image, severity: int, random: np.random.Generator) -> Image:
    """The lens zoomed while the shutter was open."""
    end, step = ZOOM[severity - 1]
    h, w = image.shape[:2]
    total, factors = image.copy(), np.arange(1, end, step)
    for factor in factors:
        turn = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), 0, float(factor))
        total += cv2.warpAffine(image, turn, (w, h), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(total / (len(factors) + 1), np.float32)
