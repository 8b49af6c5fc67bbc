"""Extractors that learn something from images before they describe any, such as a vocabulary."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import nn


@runtime_checkable
class Learns(Protocol):
    """An extractor with a method that fills its buffers; their shapes are those of its settings, so
    that a trained one can be loaded.
    """

    def learn(self, images: Sequence[np.ndarray], seed: int) -> None: ...


def learn(extractor: nn.Module, images: Sequence[np.ndarray], seed: int) -> None:
    """Let it learn from training images, where it is one that does. The only call: before features
    are computed, since those are kept by what the extractor then holds.
    """
    if isinstance(extractor, Learns):
        extractor.learn(images, seed)
