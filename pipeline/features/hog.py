"""Histograms of oriented gradients as a torch module, so that they export like any network.

Dalal and Triggs, CVPR 2005; the definition (hard bins, L2-Hys) is scikit-image's, with which the
tests compare.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import FieldmarkError
from pipeline.features import dense


class HOG(nn.Module):
    """uint8 (n, h, w, 3) -> float32 (n, d), on the luminance averaged down by a whole factor to
    about input_px.

    Raises FieldmarkError for images smaller than a block.
    """

    def __init__(self, input_px: int, orientations: int, cell_px: int, block_cells: int) -> None:
        super().__init__()
        self.input_px, self.orientations, self.cell_px, self.block_cells = (
            input_px,
            orientations,
            cell_px,
            block_cells,
        )

    def forward(self, images: Tensor) -> Tensor:
        grey = dense.shrink(dense.grey(images), self.input_px)
        dy = F.pad(grey[:, 2:] - grey[:, :-2], (0, 0, 1, 1))
        dx = F.pad(grey[:, :, 2:] - grey[:, :, :-2], (1, 1))
        magnitude = torch.sqrt(dx * dx + dy * dy)
        degrees = torch.remainder(torch.rad2deg(torch.atan2(dy, dx)), 180.0)
        bins = torch.floor(degrees * (self.orientations / 180.0)).clamp(0, self.orientations - 1)
        votes = torch.stack([magnitude * (bins == k) for k in range(self.orientations)], dim=1)
        cells = F.avg_pool2d(votes, self.cell_px)  # (n, orientations, rows, columns)
        b = self.block_cells
        rows, columns = cells.shape[2] - b + 1, cells.shape[3] - b + 1
        if min(rows, columns) < 1:
            raise FieldmarkError(
                f"images of {grey.shape[2]} x {grey.shape[1]} px hold no block of {b} x {b} "
                f"cells of {self.cell_px} px: "
                "lower extractor.cell_px or extractor.block_cells, or raise preprocess.size_px "
                "or extractor.input_px"
            )
        blocks = torch.stack(
            [cells[:, :, i : i + rows, j : j + columns] for i in range(b) for j in range(b)], dim=1
        )
        blocks = _normalise(_normalise(blocks).clamp(max=0.2))
        return blocks.permute(0, 3, 4, 1, 2).flatten(1)


def _normalise(blocks: Tensor) -> Tensor:
    # A floor, not a small addend: torch's ONNX exporter drops the addend, and an even block then
    # becomes 0 / 0.
    return blocks / torch.sqrt((blocks * blocks).sum(dim=(1, 2), keepdim=True).clamp(min=1e-10))
