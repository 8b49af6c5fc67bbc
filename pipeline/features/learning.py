"""Extractors that learn something from images before they describe any, such as a vocabulary."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from pipeline.features import identity
from pipeline.storage import memo

Images = Sequence[np.ndarray] | np.ndarray


@runtime_checkable
class Learns(Protocol):
    """An extractor with a method that fills its buffers; their shapes are those of its settings, so
    that a trained one can be loaded.
    """

    def learn(self, images: Images, seed: int) -> None: ...


def learn(extractor: nn.Module, images: Images, keys: memo.Keys, seed: int) -> None:
    """Let it learn from training images, where it is one that does; from the same ones only once.

    The only call: before features are computed, which are kept by what the extractor then holds.
    keys: the content of the images, see memo.item.
    """
    if not isinstance(extractor, Learns):
        return
    before = _state(extractor)

    def learned() -> memo.Arrays:
        extractor.learn(images, seed)
        return _state(extractor)

    question = memo.key(
        {
            "printed": str(extractor),
            "settings": identity.plain_settings(extractor),
            "names": [*before],
            "seed": seed,
        },
        keys,
        *before.values(),
        code=(__name__, *identity.code(extractor)),
        libraries=("torch", "numpy", "scikit-learn"),
    )
    known = memo.once("learned", question, learned)
    extractor.load_state_dict({name: torch.from_numpy(value) for name, value in known.items()})


def _state(extractor: nn.Module) -> memo.Arrays:
    return {name: value.detach().cpu().numpy() for name, value in extractor.state_dict().items()}
