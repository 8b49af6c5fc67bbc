"""SURF on a dense grid at several scales, coded by a vocabulary, as a torch module.

The descriptor is the upright one (U-SURF) of Bay, Ess, Tuytelaars and Van Gool, CVIU 2008, section
4.2, from Haar wavelets. Axes as in dense.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pipeline.features import dense
from pipeline.features.coding import Coded

SAMPLES = 5  # in a row of a cell
FAINT = 1.0  # mean step of a window, in grey levels, below which its descriptor counts less


class SURF(Coded):
    """Images in the words of their SURF descriptors, see Coded. A scale is the paper's s, in whole
    pixels: a window has 20 s x 20 s pixels.
    """

    size = dense.CELLS**2 * 4

    def local(self, planes: Float[Tensor, "n h w"], scale: float) -> Float[Tensor, "n p q 64"]:
        """A descriptor of length 1 for each point of the grid, shorter where there is little to
        see.
        """
        sums = wavelets(planes, int(scale), self.stride_px)
        sizes = sums.reshape(*sums.shape[:-1], -1, 4)[..., 2:]
        strength = sizes.sum((-1, -2))[..., None]
        return dense.unit(sums) * (strength / FAINT).clamp(max=1)


def wavelets(planes: Float[Tensor, "n h w"], s: int, stride_px: int) -> Float[Tensor, "n p q 64"]:
    """Sums of dx, dy, |dx| and |dy| over 16 cells, row by row: the steps to the right and down by
    Haar wavelets of side 2 s, at 5 x 5 samples of each cell, in grey levels.

    A wavelet's middle lies between pixels. So a window of even s lies around the lower right corner
    of its point's pixel, one of odd s around the pixel's centre.
    """
    step = torch.cat([-torch.ones(s), torch.ones(s)]).to(planes) / (2 * s * s)
    haar = torch.stack([step.expand(2 * s, -1), step[:, None].expand(-1, 2 * s)])[:, None]
    padded = F.pad(planes[:, None], (s - 1, s, s - 1, s), mode="replicate")
    steps = F.conv2d(padded, haar)
    return dense.windows(torch.cat([steps, steps.abs()], 1), _cells(s).to(steps), stride_px)


def _cells(s: int) -> Float[Tensor, "4 k"]:
    """The weight of a sample for each of four cells in a row: a Gaussian of 3.3 s around the point."""
    first = math.ceil((dense.CELLS * SAMPLES - 1) / 2 * s)
    number = torch.arange(dense.CELLS * SAMPLES)
    weight = torch.zeros(dense.CELLS, 2 * first + 1)
    from_point = number - (len(number) - 1) / 2
    weight[number // SAMPLES, number * s] = torch.exp(-(from_point**2) / (2 * 3.3**2))
    return weight / weight.sum()
