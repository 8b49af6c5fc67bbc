"""The stages of a network, one after the other; and a network cut in two between two of them.

What lies below the cut learns no more, so its answers are computed once and kept (see cache): a
training of the last stages costs a fraction of one of all. Axes: n images, c channels, h height,
w width, d and e features.
"""

from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline import FieldmarkError
from pipeline.features.backbones import Concatenated, Pretrained

ROWS = ("blocks", "stages", "features", "layers")  # how libraries name a row of stages
PROBE_PX = 64
AT_A_TIME = 64  # images whose views go through stages together
ALIKE = 0.01  # of the largest feature: how far half precision may take the two parts from the whole


def stages(extractor: nn.Module) -> list[list[nn.Module]]:
    """The modules of each stage that has weights, the last stage first; those of extractors side
    by side together.
    """
    if isinstance(extractor, Concatenated):
        together = zip_longest(*(stages(part) for part in extractor.extractors), fillvalue=[])
        return [[module for stage in each for module in stage] for each in together]
    row = _in_order(extractor)
    return [[stage] for stage in reversed(row) if any(True for _ in stage.parameters())]


class Lower(nn.Module):
    """Below the cut: uint8 images (n, h, w, 3) -> the maps that are tapped there, pooled, and the
    input of the first stage above, flattened, in half precision.

    trained: how many stages lie above. Raises FieldmarkError where there are not so many below, too.
    """

    def __init__(self, extractor: nn.Module, trained: int) -> None:
        super().__init__()
        known = stages(extractor)
        if not isinstance(extractor, Pretrained) or trained >= len(known):
            raise FieldmarkError(
                f"trained_stages is {trained}, and this extractor has {len(known)} stages of which "
                "some may be trained: give a smaller number of a network of a library (Pretrained)"
            )
        self.extractor, self.trained = extractor, trained
        row = _in_order(extractor)
        self.above = nn.ModuleList(row[row.index(known[trained - 1][0]) :])
        outputs: list[Tensor] = []
        hooks = [
            s.register_forward_hook(lambda *given: outputs.append(given[2])) for s in self.above
        ]
        maps = extractor.maps(extractor.pixels(_probe(PROBE_PX)))
        for hook in hooks:
            hook.remove()
        self.tapped = [any(m is output for m in maps) for output in outputs]
        self.n_maps = len(maps) - sum(self.tapped)

    def forward(self, images: Tensor) -> Float16[Tensor, "n d"]:
        pooled, inputs = self.parts(images)
        return torch.cat([pooled, inputs.flatten(1)], dim=1).half()

    def parts(self, images: Tensor) -> tuple[Float[Tensor, "n e"], Tensor]:
        """The pooled maps, and the input (n, ...) of the first stage above the cut."""
        inputs: list[Tensor] = []
        hook = self.above[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            maps = self.extractor.maps(self.extractor.pixels(images))
        finally:
            hook.remove()
        below = [self.extractor.pooled(maps[: self.n_maps])] if self.n_maps else []
        return torch.cat([*below, inputs[0].new_zeros(len(images), 0)], dim=1), inputs[0]


class Upper(nn.Module):
    """Above the cut: answers of `lower` to images of size_px, with any axes before the last, to
    features of the whole extractor.

    Its stages are those of the extractor, which learns with them. Batch normalisation keeps its
    statistics, which few images would spoil. Raises FieldmarkError where the network is no row of
    stages, so that it cannot be cut.
    """

    def __init__(self, lower: Lower, size_px: int) -> None:
        super().__init__()
        self.pooled, self.tapped = lower.extractor.pooled, lower.tapped
        self.stages = lower.above
        with torch.no_grad():
            pooled, inputs = lower.eval().parts(_probe(size_px))
            self.n_pooled, self.shape = pooled.shape[1], tuple(inputs.shape[1:])
            whole = lower.extractor(_probe(size_px))
            mine = self.eval()(lower(_probe(size_px)).float())
        apart = float((whole - mine).abs().max()) if whole.shape == mine.shape else float("inf")
        if not any(self.tapped) or apart > ALIKE * float(whole.abs().max()):
            raise FieldmarkError(
                "trained_stages: this network is no row of stages that can be cut; null trains all "
                "of it"
            )

    def forward(self, kept: Tensor) -> Tensor:
        rows = kept.flatten(0, -2)
        maps, x = [], rows[:, self.n_pooled :].reshape(-1, *self.shape)
        for stage, tapped in zip(self.stages, self.tapped, strict=True):
            x = stage(x)
            maps += [x] if tapped else []
        features = [rows[:, : self.n_pooled], *([self.pooled(maps)] if maps else [])]
        return torch.cat(features, dim=1).reshape(*kept.shape[:-1], -1)

    @torch.inference_mode()
    def of_kept(self, kept: Float16[np.ndarray, "n v d"]) -> Float32[np.ndarray, "n v e"]:
        """The features of what was kept, a part at a time."""
        parts = [kept[start : start + AT_A_TIME] for start in range(0, len(kept), AT_A_TIME)]
        return np.concatenate([self.eval()(torch.from_numpy(p).float()).numpy() for p in parts])

    def train(self, mode: bool = True) -> "Upper":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def _in_order(extractor: nn.Module) -> list[nn.Module]:
    """The stages of one network, as images go through them; those that do nothing left out."""
    body = extractor.get_submodule("body") if hasattr(extractor, "body") else extractor
    found: list[nn.Module] = []
    for name, child in body.named_children():
        found += child.children() if name in ROWS else [child]
    met: list[nn.Module] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if output is not given[0]:
            met.append(module)

    hooks = [stage.register_forward_hook(note) for stage in found]
    with torch.no_grad():
        extractor.eval()(_probe(PROBE_PX))
    for hook in hooks:
        hook.remove()
    return met


def _probe(px: int) -> Tensor:
    """An image of noise, the same each time."""
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, px, px, 3), dtype=torch.uint8, generator=random)
