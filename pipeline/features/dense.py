"""Local descriptors on a dense grid, as convolutions: what SIFT and SURF share.

Both describe a window around a point by sums over 4 x 4 cells. A weight of a pixel is a product of
one of its row and one of its column, so that two strided convolutions compute all cells of all
points (as Vedaldi and Fulkerson's VLFeat does). Axes: n images, c maps, h height, w width, s
scales, p rows and q columns of the grid.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CELLS = 4  # in a row and in a column of a window
LUMINANCE = (0.299, 0.587, 0.114)


def grey(images: Tensor) -> Float[Tensor, "n h w"]:
    """The luminance of uint8 images (n, h, w, 3), 0 to 255."""
    return images.float() @ images.new_tensor(LUMINANCE, dtype=torch.float32)


def shrink(planes: Tensor, input_px: int) -> Tensor:
    """Average planes (..., h, w) down by the whole factor that brings the height nearest to, not
    below, input_px.
    """
    factor = max(1, planes.shape[-2] // input_px)
    return F.avg_pool2d(planes, factor) if factor > 1 else planes


def grid(length_px: int, stride_px: int) -> int:
    """How many points fit in a row of so many pixels: the first at half a stride, then one a
    stride.
    """
    return max(0, (length_px - 1 - stride_px // 2) // stride_px + 1)


def windows(
    maps: Float[Tensor, "n c h w"], cells: Float[Tensor, "4 k"], stride_px: int
) -> Float[Tensor, "n p q d"]:
    """Sums of each map over the 16 cells around every point of the grid; d runs over the rows of
    cells, their columns, and the maps.

    cells: the weight of a pixel for each of the four cells in a row, at offsets -k//2 to k//2 from
    the point. Pixels beyond the image count as 0.
    """
    n, c = maps.shape[:2]
    h, w = (int(side) for side in maps.shape[2:])  # of tensors, where the module is traced
    rows, columns = grid(h, stride_px), grid(w, stride_px)
    half, first = int(cells.shape[1]) // 2, stride_px // 2
    over_columns = F.pad(maps.reshape(n * c, 1, h, w), _margin(half, first, w, columns, stride_px))
    across = F.conv2d(over_columns, cells[:, None, None, :], stride=(1, stride_px))
    top, bottom = _margin(half, first, h, rows, stride_px)
    over_rows = F.pad(across.reshape(n * c * CELLS, 1, h, columns), (0, 0, top, bottom))
    sums = F.conv2d(over_rows, cells[:, None, :, None], stride=(stride_px, 1))
    # axes: maps, columns of cells, rows of cells, then the grid
    ordered = sums.reshape(n, c, CELLS, CELLS, rows, columns).permute(0, 4, 5, 3, 2, 1)
    return ordered.reshape(n, rows, columns, CELLS * CELLS * c)


def _margin(half: int, first: int, length: int, points: int, stride_px: int) -> tuple[int, int]:
    """Pixels to add before and behind, so that the first window lies around the first point; a
    negative number takes some away.
    """
    last = first + (points - 1) * stride_px
    return half - first, last + half + 1 - length


def blurred(planes: Float[Tensor, "n h w"], sigma_px: float) -> Float[Tensor, "n h w"]:
    """Smoothed by a Gaussian; the border is repeated outwards."""
    if sigma_px <= 0:
        return planes
    half = math.ceil(3 * sigma_px)
    taps = torch.exp(-(torch.arange(-half, half + 1) ** 2) / (2 * sigma_px**2))
    taps = (taps / taps.sum()).to(planes)
    padded = F.pad(planes[:, None], (half, half, half, half), mode="replicate")
    across = F.conv2d(padded, taps[None, None, None, :])
    return F.conv2d(across, taps[None, None, :, None])[:, 0]


def unit(vectors: Tensor) -> Tensor:
    """Of length 1 along the last axis; what is all 0 stays so."""
    # A floor, not a small addend: torch's ONNX exporter drops the addend.
    return vectors / torch.sqrt((vectors * vectors).sum(-1, keepdim=True).clamp(min=1e-12))
