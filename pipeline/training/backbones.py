"""Feature extractors: uint8 images (n, h, w, 3) -> float32 features (n, d). Normalisation is part of them."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import FieldmarkError
from pipeline.features.hog import shrink


class Pretrained(nn.Module):
    """Pooled feature maps of a timm or torchvision network.

    weights: `hub` (downloaded by the library), an installed package that holds one weights file, a file
    (.safetensors, or .pth read without unpickling code), or `random`. taps: stages by number for timm, node names
    for torchvision. Raises FieldmarkError where the name or the weights cannot be had.
    """

    def __init__(
        self, library: Literal["timm", "torchvision"], name: str, weights: str, taps: list[int | str],
        pools: list[Literal["avg", "max"]], mean: list[float], std: list[float],
    ) -> None:  # fmt: skip
        super().__init__()
        self.taps, self.pools = taps, pools
        self.body = _timm(name, weights, taps) if library == "timm" else _torchvision(name, weights, taps)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.permute(0, 3, 1, 2).float() - self.get_buffer("mean")) / self.get_buffer("std")
        pooled = [m.mean((2, 3)) if pool == "avg" else m.amax((2, 3)) for m in self.maps(pixels) for pool in self.pools]
        return torch.cat(pooled, dim=1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The tapped feature maps, each (n, c, h, w)."""
        if hasattr(self.body, "forward_intermediates"):
            found = self.body.forward_intermediates(pixels, indices=self.taps, intermediates_only=True)  # type: ignore[operator]
            return list(found)
        return list(self.body(pixels).values())


class SmallCNN(nn.Module):
    """Blocks of two convolutions, each block at half the resolution and twice the channels, then pooled."""

    def __init__(self, input_px: int, width: int, blocks: int) -> None:
        super().__init__()
        self.input_px = input_px
        channels = [3, *(width * 2**i for i in range(blocks))]
        self.body = nn.Sequential(nn.BatchNorm2d(3), *(_block(a, b) for a, b in zip(channels, channels[1:], strict=False)))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(shrink(images.permute(0, 3, 1, 2).float() / 255, self.input_px))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


def _block(a: int, b: int) -> nn.Module:
    half = [nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), *half)


def _timm(name: str, weights: str, taps: list[int | str]) -> nn.Module:
    import timm

    if name.split(".")[0] not in timm.list_models():
        near = timm.list_models(f"*{name[:8]}*")[:8]
        raise FieldmarkError(f"timm has no model {name!r}; near it: {', '.join(near) or 'see timm.list_models()'}")
    try:
        body: nn.Module = timm.create_model(name, pretrained=weights == "hub", num_classes=0 if weights == "hub" else 1000)
    except (OSError, RuntimeError) as error:
        raise _unreachable(name, error) from error
    if weights not in {"hub", "random"}:
        _load(body, _weights_file(weights), name)
    body.prune_intermediate_layers(taps, prune_head=True)  # type: ignore[operator]
    return body


def _torchvision(name: str, weights: str, taps: list[int | str]) -> nn.Module:
    from torchvision.models import get_model, list_models
    from torchvision.models.feature_extraction import create_feature_extractor

    if name not in list_models():
        raise FieldmarkError(f"torchvision has no model {name!r}; it has: {', '.join(list_models()[:60])} ...")
    try:
        body = get_model(name, weights="DEFAULT" if weights == "hub" else None)
    except OSError as error:
        raise _unreachable(name, error) from error
    if weights not in {"hub", "random"}:
        _load(body, _weights_file(weights), name)
    tapped: nn.Module = create_feature_extractor(body, [str(tap) for tap in taps])
    return tapped


def _unreachable(name: str, error: Exception) -> FieldmarkError:
    return FieldmarkError(
        f"the weights of {name} could not be downloaded ({type(error).__name__}); connect to the network once, or set "
        "features.weights to a local .safetensors or .pth file, or to `random` to train without them"
    )


def _weights_file(weights: str) -> Path:
    if Path(weights).is_file():
        return Path(weights)
    try:
        inside = [Path(str(f.locate())) for f in files(weights) or [] if f.suffix in {".pth", ".pt", ".safetensors"}]
    except PackageNotFoundError as error:
        raise FieldmarkError(
            f"features.weights: {weights!r} is neither a file nor an installed package; "
            "name a .safetensors or .pth file, `hub` to download, or `random` to start from nothing"
        ) from error
    if len(inside) != 1:
        raise FieldmarkError(f"features.weights: the package {weights} holds {len(inside)} weights files, not one")
    return inside[0]


def _load(body: nn.Module, file: Path, name: str) -> None:
    """By name, or in order where another port of the same network uses other names: all shapes must agree."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        found = load_file(file)
    else:
        found = torch.load(file, map_location="cpu", weights_only=True)
        found = found.get("state_dict", found)
    wanted = body.state_dict()
    if wanted.keys() <= found.keys():
        found = {key: found[key] for key in wanted}
    elif [v.shape for v in found.values()] == [v.shape for v in wanted.values()]:
        found = dict(zip(wanted, found.values(), strict=True))
    else:
        raise FieldmarkError(f"{file.name} does not hold the weights of {name}: the names or shapes of its tensors differ")
    body.load_state_dict(found)
