"""Symmetries by name: the views of an image, flipped or transposed, that mean the same.

A view is the axes of (n, h, w, c) that are flipped; an axis 0 stands for a transposition of h and w
before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))
SYMMETRIES: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "flip": ((), (2,)),
    "d4": _FLIPS + tuple((0, *flips) for flips in _FLIPS),  # the eight symmetries of the square
}


def view(images: Tensor, flips: tuple[int, ...]) -> Tensor:
    """One view of images (n, h, w, c), which must be square for a transposition."""
    if 0 in flips:
        images = images.transpose(1, 2)
    axes = [axis for axis in flips if axis != 0]
    return images.flip(axes) if axes else images.contiguous()
