"""All corruptions by name. Each is the same for the same image, kind, severity and seed."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from pipeline.robustness.corruptions import blur, camera, digital, noise, weather
from pipeline.robustness.corruptions.scale import Image

Corruption = Callable[[Image, int, np.random.Generator], Image]

IMAGENET_C: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        noise.gaussian_noise,
        noise.shot_noise,
        noise.impulse_noise,
        blur.defocus_blur,
        blur.glass_blur,
        blur.motion_blur,
        blur.zoom_blur,
        weather.snow,
        weather.frost,
        weather.fog,
        weather.brightness,
        digital.contrast,
        digital.elastic_transform,
        digital.pixelate,
        digital.jpeg_compression,
    )
}
CAMERA: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        camera.overexposure,
        camera.underexposure,
        camera.white_balance,
        camera.grey,
        camera.dust,
    )
}
KINDS = IMAGENET_C | CAMERA
SEVERITIES = (1, 2, 3, 4, 5)


def corrupted(
    image: UInt8[np.ndarray, "h w 3"], kind: str, severity: int, seed: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The image under one corruption. Raises KeyError for another kind, IndexError for another
    severity.
    """
    random = np.random.default_rng([seed, [*KINDS].index(kind), severity])
    changed = KINDS[kind](np.asarray(image, np.float32) / 255, severity, random)
    return np.asarray((changed * 255).round().clip(0, 255), np.uint8)
