"""SIFT on a dense grid at several scales, coded by a vocabulary, as a torch module.

The descriptor is that of Lowe, IJCV 2004, section 6, upright; dense and at several scales as in
Bosch, Zisserman and Munoz, ICCV 2007; its root as in Arandjelovic and Zisserman, CVPR 2012. The
tests compare it with OpenCV's. Axes as in dense.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pipeline.features import dense
from pipeline.features.coding import Coded

DIRECTIONS = 8
CLAMP = 0.2  # no direction of a cell counts more: light changes single gradients most
CAMERA_BLUR_PX = 0.5  # that an image has, by the paper
FAINT = 1.0  # mean gradient of a window, in grey levels, below which its descriptor counts less


class SIFT(Coded):
    """Images in the words of their SIFT descriptors, see Coded. A scale is the side of a cell in
    pixels: the image is first smoothed by a Gaussian of a third of it.
    """

    size = dense.CELLS**2 * DIRECTIONS

    def local(self, planes: Float[Tensor, "n h w"], scale: float) -> Float[Tensor, "n p q d"]:
        histograms = directions(planes, scale, self.stride_px)
        strength = histograms.sum(-1, keepdim=True)
        vectors = descriptors(histograms)
        root = vectors / vectors.sum(-1, keepdim=True).clamp(min=1e-6)
        # the root of 0 has no finite slope
        return torch.sqrt(root.clamp(min=1e-12)) * (strength / FAINT).clamp(max=1)


def descriptors(histograms: Float[Tensor, "n p q 128"]) -> Float[Tensor, "n p q 128"]:
    """Of length 1, with no entry that was larger than CLAMP."""
    return dense.unit(dense.unit(histograms).clamp(max=CLAMP))


def directions(
    planes: Float[Tensor, "n h w"], cell_px: float, stride_px: int
) -> Float[Tensor, "n p q 128"]:
    """Histograms of the directions of gradients: entries of 16 cells, row by row, with 8 directions
    each, which go counter-clockwise from the right; their sum is the mean gradient, in grey levels a pixel.
    """
    sigma = math.sqrt(max((cell_px / 3) ** 2 - CAMERA_BLUR_PX**2, 0.0))
    smooth = dense.blurred(planes, sigma)
    dx = F.pad(smooth[:, :, 2:] - smooth[:, :, :-2], (1, 1)) / 2
    dy = F.pad(smooth[:, :-2] - smooth[:, 2:], (0, 0, 1, 1)) / 2
    squared = dx * dx + dy * dy
    even = squared < 1e-6  # no direction, and none of the slopes below would be finite
    magnitude = torch.sqrt(torch.where(even, torch.ones_like(squared), squared)) * ~even
    angle = torch.atan2(
        torch.where(even, torch.zeros_like(dy), dy), torch.where(even, torch.ones_like(dx), dx)
    )
    place = torch.remainder(angle * (DIRECTIONS / (2 * math.pi)), DIRECTIONS)
    # a gradient counts for the two nearest directions, the more the nearer
    votes = torch.stack(
        [
            magnitude
            * F.relu(
                1 - (torch.remainder(place - k + DIRECTIONS / 2, DIRECTIONS) - DIRECTIONS / 2).abs()
            )
            for k in range(DIRECTIONS)
        ],
        dim=1,
    )
    return dense.windows(votes, _cells(cell_px).to(votes), stride_px)


def _cells(cell_px: float) -> Float[Tensor, "4 k"]:
    """The weight of a pixel for each of four cells in a row: falling linearly from the middle of the
    cell to those of its neighbours, under a Gaussian of half the window around the point.
    """
    half = math.ceil(2.5 * cell_px)
    offset = torch.arange(-half, half + 1) / cell_px
    middles = torch.arange(dense.CELLS) - (dense.CELLS - 1) / 2
    weight = F.relu(1 - (offset - middles[:, None]).abs()) * torch.exp(-(offset**2) / 8)
    return weight / weight.sum()
