"""Feature extractors: uint8 images (n, h, w, 3) -> float32 features (n, d). Normalisation is part
of them.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pipeline import FieldmarkError
from pipeline.features import libraries
from pipeline.features.hog import shrink


class Pretrained(nn.Module):
    """Pooled feature maps of a timm or torchvision network.

    weights: `hub` (downloaded by the library), an installed package that holds one weights file, a
    file (.safetensors, or .pth read without unpickling code), or `random`. taps: the last so many
    stages, or a list: stages by number for timm, node names for torchvision. mean, std: on the 0 to
    255 scale; None is the library's own for that network. Raises FieldmarkError where the name or
    the weights cannot be had.
    """

    def __init__(
        self,
        library: Literal["timm", "torchvision"],
        name: str,
        weights: str,
        taps: int | list[int | str],
        pools: list[Literal["avg", "max"]],
        mean: list[float] | None,
        std: list[float] | None,
    ) -> None:
        super().__init__()
        self.taps, self.pools = taps, pools
        self.body = (
            libraries.timm_body(name, weights, taps)
            if library == "timm"
            else libraries.torchvision_body(name, weights, taps)
        )
        own = (
            libraries.timm_statistics(self.body)
            if library == "timm"
            else libraries.torchvision_statistics(name)
        )
        self.register_buffer("mean", torch.tensor(mean or own[0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std or own[1]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.permute(0, 3, 1, 2).float() - self.get_buffer("mean")) / self.get_buffer(
            "std"
        )
        pooled = [
            m.mean((2, 3)) if pool == "avg" else m.amax((2, 3))
            for m in self.maps(pixels)
            for pool in self.pools
        ]
        return torch.cat(pooled, dim=1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The tapped feature maps, each (n, c, h, w); raises FieldmarkError for images of a size
        that the network does not take.
        """
        try:
            if hasattr(self.body, "forward_intermediates"):
                found = self.body.forward_intermediates(
                    pixels, indices=self.taps, intermediates_only=True
                )  # type: ignore[operator]
                return list(found)
            return list(self.body(pixels).values())
        except AssertionError as error:  # transformers are made for one size
            raise FieldmarkError(
                f"this network takes no images of {pixels.shape[-1]} px: {error} Set "
                f"preprocess.size_px to its own size "
                "(label_check.size_px where it is the embedding), or choose a network that "
                "takes any"
            ) from error


class SmallCNN(nn.Module):
    """Blocks of two convolutions, each block at half the resolution and twice the channels, then
    pooled.
    """

    def __init__(self, input_px: int, width: int, blocks: int) -> None:
        super().__init__()
        self.input_px = input_px
        channels = [3, *(width * 2**i for i in range(blocks))]
        self.body = nn.Sequential(
            nn.BatchNorm2d(3), *(_block(a, b) for a, b in zip(channels, channels[1:], strict=False))
        )

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(shrink(images.permute(0, 3, 1, 2).float() / 255, self.input_px))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


def _block(a: int, b: int) -> nn.Module:
    half = [nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(
        nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), *half
    )
