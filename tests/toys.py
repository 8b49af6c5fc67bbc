"""Coloured, shaded squares that a network tells apart in seconds, and the smallest candidates that
can.
"""

from typing import Any

import numpy as np
import torch

from pipeline.config import schema
from pipeline.training import augmentation
from pipeline.training.samples import Samples

torch.set_num_threads(1)  # several threads on tensors this small only wait for each other

COLOURS = np.array([[220, 40, 40], [40, 200, 40], [40, 60, 230], [220, 210, 40]])
UNCHANGED = augmentation.from_nodes([])

SMALL_CNN = {
    "_target_": "pipeline.features.backbones.SmallCNN",
    "input_px": 16,
    "width": 4,
    "blocks": 2,
}
HOG = {
    "_target_": "pipeline.features.hog.HOG",
    "input_px": 16,
    "orientations": 6,
    "cell_px": 4,
    "block_cells": 2,
}
TIMM = {
    "_target_": "pipeline.features.backbones.Pretrained",
    "library": "timm",
    "name": "test_resnet",
    "weights": "random",
    "taps": [0, 1],
    "pools": ["avg", "max"],
    "mean": [127.5] * 3,
    "std": [127.5] * 3,
}


def draw(labels: list[int], px: int = 16, seed: int = 0) -> np.ndarray:
    """uint8 (n, px, px, 3): each class has a colour and a direction of its shading; no two images
    are alike.
    """
    random = np.random.default_rng(seed)
    angle = np.array(labels) * np.pi / 4
    across = np.linspace(0, 1, px)
    ramp = np.cos(angle)[:, None, None] * across + np.sin(angle)[:, None, None] * across[:, None]
    pixels = COLOURS[labels][:, None, None, :] * (0.4 + 0.4 * ramp[..., None]) + random.integers(
        0, 20, (len(labels), px, px, 3)
    )
    return pixels.clip(0, 255).astype(np.uint8)


def samples(
    labels: list[int],
    n_classes: int = 2,
    images: np.ndarray | None = None,
    targets: np.ndarray | None = None,
    weights: list[float] | None = None,
) -> Samples:
    """Drawn images (or those given) with one-hot targets (or those given)."""
    array = draw(labels) if images is None else images
    place = np.stack([np.zeros(len(labels), np.int64), np.arange(len(labels))], axis=1)
    hot = np.eye(n_classes, dtype=np.float32)[labels] if targets is None else targets
    return Samples(
        (array,),
        place,
        hot,
        np.array(labels, np.int64),
        None if weights is None else np.array(weights, np.float64),
    )


def candidate(
    extractor: dict[str, Any] = SMALL_CNN, *, head: dict[str, Any] | None = None, **changes: Any
) -> schema.Candidate:
    """A candidate with settings of its own or of its fit changed by name."""
    fit: dict[str, Any] = {
        "lr": 0.02,
        "weight_decay": 0.0,
        "epochs": 3,
        "batch_size": 8,
        "label_smoothing": 0.0,
        "class_weights": "none",
        "backbone_lr_scale": 1.0,
    }
    own = {
        "name": "toy",
        "extractor": extractor,
        "frozen": False,
        "average_views": False,
        "head": head or {"kind": "linear"},
        "space": {},
    }
    for key, value in changes.items():
        (fit if key in schema.Fit.model_fields else own)[key] = value
    return schema.Candidate.model_validate({**own, "fit": fit})
