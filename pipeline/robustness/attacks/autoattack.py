"""AutoAttack as its authors put it together: APGD on the cross-entropy, targeted APGD and FAB, Square.

Croce and Hein, ICML 2020, by the library pyautoattack (a fork of the authors' code), which the extra
`attacks` installs. Its losses need four classes. It measures beside our own attacks; nothing else
depends on it.
"""

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from pipeline.robustness.attacks.steps import WHITE, Images, Labels, Model

LIBRARY = "pyautoattack"
LEAST_CLASSES = 4  # its targeted loss compares the four largest logits
AT_MOST = 9  # classes that it aims at, where there are as many others


def installed() -> str:
    """The library's version, "" where it is not installed."""
    try:
        return version(LIBRARY)
    except PackageNotFoundError:
        return ""


class Unit(nn.Module):
    """The model on images (n, 3, h, w) in 0 to 1."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.answer = model

    def forward(self, images: Tensor) -> Tensor:
        pixels = images * WHITE
        if pixels.requires_grad:
            # the library takes no other gradient
            pixels.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        return self.answer(pixels.permute(0, 2, 3, 1))


def autoattack(
    model: Model, images: Images, labels: Labels, *, radius: float, generator: torch.Generator
) -> Images:
    """The attacked images. The library draws from torch's common random state, which stays as it
    was.
    """
    from pyautoattack import AutoAttack

    pixels = (images.permute(0, 3, 1, 2) / WHITE).contiguous()
    with torch.no_grad():
        others = model(images[:1]).shape[1] - 1
    with torch.random.fork_rng():
        ensemble = AutoAttack(
            Unit(model),
            eps=radius / WHITE,
            norm="Linf",
            seed=generator.initial_seed(),
            device=images.device,
        )
        for attack in (ensemble.apgd_targeted, ensemble.fab):
            attack.n_target_classes = min(AT_MOST, others)
        attacked, _ = ensemble.run_standard_evaluation(pixels, labels, batch_size=len(images))
    back = attacked.permute(0, 2, 3, 1) * WHITE
    within: Images = (images + (back - images).clamp(-radius, radius)).clamp(0.0, WHITE)
    return within
