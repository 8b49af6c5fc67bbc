"""The Albumentations policy: built, serialised, applied. The only `import albumentations`."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline import config
from pipeline.training.order import Transform

import albumentations as A  # isort: skip  (after config, which says how it is imported)


class Policy:
    """A random transformation of one image that is the same for the same seed, in any process."""

    def __init__(self, compose: A.Compose) -> None:
        self.compose = compose

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], seed: int) -> UInt8[np.ndarray, "h w 3"]:
        self.compose.set_random_seed(seed)
        result: np.ndarray = self.compose(image=image)["image"]
        return np.array(result, order="C")  # where no transform applied, it is the image itself

    def to_json(self) -> str:
        """The policy as Albumentations serialises it."""
        return json.dumps(A.to_dict(self.compose), indent=1)


def shrunk(policy: Policy | None, input_px: int | None) -> Transform | None:
    """The policy on images that are averaged down first, where input_px names the size that an
    extractor averages them down to: it then has a fraction of the pixels to work on.
    """
    return policy if input_px is None else partial(_on_shrunk, policy, input_px)


def _on_shrunk(
    policy: Policy | None, input_px: int, image: UInt8[np.ndarray, "h w 3"], seed: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    image = averaged_down(image, input_px)
    return policy(image, seed) if policy else image


def averaged_down(
    pixels: UInt8[np.ndarray, "h w 3"], input_px: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Averages of blocks of the whole factor that brings the height nearest to, not below, input_px,
    as features/dense.shrink makes them, rounded; pixels that fill no block are left out.
    """
    factor = max(1, pixels.shape[0] // input_px)
    if factor == 1:
        return pixels.copy()
    height, width = (side // factor for side in pixels.shape[:2])
    whole = pixels[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))


def from_nodes(nodes: Sequence[dict[str, Any]]) -> Policy:
    """The policy of conf/augment: a list of nodes with `_target_`."""
    return Policy(A.Compose([config.build(node, "augment") for node in nodes]))


def extra_views(labels: np.ndarray, balance_to: float, extra_per_image: int) -> np.ndarray:
    """Positions of the images to store extra views of, each as often as it gets one.

    Every image extra_per_image times; then, in turn, the images of each class below balance_to of
    the largest until it reaches that fraction.
    """
    every = np.tile(np.arange(len(labels)), extra_per_image)
    names, counts = np.unique(labels, return_counts=True)
    short = np.maximum(np.ceil(balance_to * counts.max()).astype(int) - counts, 0) * (
        1 + extra_per_image
    )
    rare = [
        np.resize(np.flatnonzero(labels == name), lack)
        for name, lack in zip(names, short, strict=True)
    ]
    return np.concatenate([every, *rare]).astype(np.int64)


def read(folder: Path) -> tuple[Policy, str]:
    """The policy and the symmetry that the augment stage wrote."""
    saved = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    return Policy(A.from_dict(saved["policy"])), str(saved["symmetry"])
