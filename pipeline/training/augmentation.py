"""The Albumentations policy: built, serialised, applied. The only `import albumentations`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipeline import config

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # it would ask the network for a newer release at import

import albumentations as A


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
