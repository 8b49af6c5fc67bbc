"""Feature extractors: uint8 images (n, h, w, 3) -> float32 features (n, d). Normalisation is part
of them.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline import FieldmarkError
from pipeline.features import libraries
from pipeline.features.dense import shrink
from pipeline.features.learning import Images, Learns


class Pretrained(nn.Module):
    """Pooled feature maps of a timm or torchvision network; its name is all that it needs.

    weights: `hub` (downloaded by the library), an installed package that holds one weights file, a
    file (.safetensors, or .pth read without unpickling code), or `random`. taps: the last so many
    stages, or a list: stages by number for timm, node names for torchvision. input_px: the side
    that images are resized to first, in the way that the weights were trained with; None leaves
    them as they come, save for a network that takes one size only, which gets its own. mean, std:
    on the 0 to 255 scale; None is the library's own for that network. Raises FieldmarkError where
    the name or the weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        library: Literal["timm", "torchvision"] = "timm",
        weights: str = "hub",
        taps: int | list[int | str] = 1,
        pools: Sequence[Literal["avg", "max"]] = ("avg",),
        input_px: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.taps, self.pools = taps, pools
        if library == "timm":
            self.body = libraries.timm_body(name, weights, taps, input_px)
            own = libraries.timm_statistics(self.body)
            self.input_px = input_px or libraries.timm_fixed_px(self.body)
        else:
            self.body = libraries.torchvision_body(name, weights, taps)
            own = libraries.torchvision_statistics(name)
            self.input_px = input_px
        self.interpolation = own[2]
        self.register_buffer("mean", torch.tensor(mean or own[0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std or own[1]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.pooled(self.maps(self.pixels(images)))

    def pixels(self, images: Tensor) -> Tensor:
        """Images as the network was trained to see them, (n, 3, h, w)."""
        pixels = resized(images.permute(0, 3, 1, 2).float(), self.input_px, self.interpolation)
        return (pixels - self.get_buffer("mean")) / self.get_buffer("std")

    def pooled(self, maps: Sequence[Tensor]) -> Tensor:
        """One feature for each pool of each channel of the maps."""
        each = [
            m.mean((2, 3)) if pool == "avg" else m.amax((2, 3)) for m in maps for pool in self.pools
        ]
        return torch.cat(each, dim=1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The tapped feature maps, each (n, c, h, w); raises FieldmarkError for images of a size
        that the network does not take.
        """
        try:
            if hasattr(self.body, "forward_intermediates"):
                maps = self.body.forward_intermediates(
                    pixels, indices=self.taps, intermediates_only=True
                )  # type: ignore[operator]
                return list(maps)
            return list(self.body(pixels).values())
        except AssertionError as error:  # transformers are made for one size
            raise FieldmarkError(
                f"this network takes no images of {pixels.shape[-1]} px: {error} Set "
                f"preprocess.size_px to its own size "
                "(label_check.size_px where it is the embedding), or choose a network that "
                "takes any"
            ) from error


class Concatenated(nn.Module):
    """The features of several extractors, one after the other; those that learn do so on the same
    images.
    """

    def __init__(self, extractors: list[nn.Module]) -> None:
        super().__init__()
        self.extractors = nn.ModuleList(extractors)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([extractor(images) for extractor in self.extractors], dim=1)

    def learn(self, images: Images, seed: int) -> None:
        for extractor in self.extractors:
            if isinstance(extractor, Learns):
                extractor.learn(images, seed)


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


def resized(pixels: Tensor, px: int | None, interpolation: str) -> Tensor:
    """Square pixels (n, c, h, h) at side px, bilinear or bicubic, which averages where it shrinks, as
    PIL does; as two products of matrices, which every engine computes alike.
    """
    side = int(pixels.shape[-1])  # a tensor, where it is traced
    if px is None or px == side:
        return pixels
    weights = torch.from_numpy(_shares(side, px, interpolation)).to(pixels)
    # Channels as images of their own: OpenVINO 2026.4 joins what follows a product of matrices with it,
    # and takes the last axis for the channels.
    planes = (weights @ pixels.flatten(0, 1) @ weights.T).clamp(0, 255)
    return planes.reshape(-1, int(pixels.shape[1]), px, px)


def _shares(side: int, px: int, interpolation: str) -> Float32[np.ndarray, "o i"]:
    """What each pixel before counts for each pixel after."""
    scale = side / px
    middles = (np.arange(px) + 0.5) * scale - 0.5
    x = np.abs(np.arange(side) - middles[:, None]) / max(scale, 1.0)
    if interpolation == "bicubic":  # Keys, 1981, with a = -0.5
        far = np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0)
        weights = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, far)
    else:
        weights = np.maximum(0, 1 - x)
    normalised: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalised
