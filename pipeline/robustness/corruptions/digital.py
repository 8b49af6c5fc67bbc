"""What processing and files do: contrast, distortion, large pixels, compression."""

import cv2
import numpy as np

from pipeline.robustness.corruptions.scale import Image, smoothed

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # of the contrast is left
# Strength of the shifts. The authors' own rise and fall with the severity; these are of Michaelis et
# al., "Benchmarking robustness in object detection" (2019), whose code leaves the affine map out.
ELASTIC = (12.5, 16.25, 21.25, 25.0, 30.0)
SHIFT, SMOOTH = 0.005, 0.01  # of the side
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # of the side is left
JPEG = (25, 18, 15, 10, 7)  # quality


def contrast(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Nearer to the mean colour."""
    mean = image.mean((0, 1), keepdims=True)
    return np.asarray((image - mean) * CONTRAST[severity - 1] + mean, np.float32)


def elastic_transform(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Stretched and bent: pixels are shifted, near ones alike."""
    h, w = image.shape[:2]
    side = min(h, w)
    dx, dy = (
        ELASTIC[severity - 1]
        * smoothed(random.uniform(-1, 1, (h, w)).astype(np.float32) * SHIFT * side, SMOOTH * side)
        for _ in range(2)
    )
    y, x = np.mgrid[:h, :w].astype(np.float32)
    return np.asarray(
        cv2.remap(image, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )


def pixelate(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Made small, and large again."""
    h, w = image.shape[:2]
    small = [max(int(side * PIXELATE[severity - 1]), 1) for side in (w, h)]
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (w, h), interpolation=cv2.INTER_NEAREST))


def jpeg_compression(image: Image, severity: int, random: np.random.Generator) -> Image:
    """Written as a JPEG of low quality."""
    pixels = (image[..., ::-1] * 255).round().clip(0, 255).astype(np.uint8)
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG[severity - 1]])
    read = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.float32)
    return read[..., ::-1] / 255
