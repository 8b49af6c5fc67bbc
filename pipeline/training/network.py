"""The whole classifier as one module: images in 0 to 255 in, logits out. What is trained, evaluated,
attacked and exported.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Float64, Real
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from torch import Tensor, nn

from pipeline import config
from pipeline.config.schema import Candidate
from pipeline.features import cache, engine, weights
from pipeline.features.backbones import Concatenated
from pipeline.pixels.symmetry import SYMMETRIES, view
from pipeline.storage import store, table
from pipeline.training import heads
from pipeline.training.samples import Samples

LEAST = 1e-12  # probability of which a logarithm is taken
AT_ONCE = 256  # images whose features go through the head together


class Network(nn.Module):
    """extractor -> head, averaged over the views of `symmetry`; logits are divided by the fitted
    temperature. Images are uint8, or floats in 0 to 255, through which gradients go.
    """

    def __init__(self, extractor: nn.Module, head: nn.Sequential, symmetry: str) -> None:
        super().__init__()
        self.extractor, self.head, self.symmetry = extractor, head, symmetry
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, images: Real[Tensor, "n h w 3"]) -> Float[Tensor, "n k"]:
        """Logits of uint8 images, or of real ones from 0 to 255: mixed, shrunk or attacked ones."""
        return self.described(images)[0]

    def described(
        self, images: Real[Tensor, "n h w 3"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n d"]]:
        """Logits, and the features of the images as they stand (the first view)."""
        logits, features = _over_views(self.extractor, self.head, self.symmetry, images)
        return logits / self.get_buffer("temperature"), features

    def parts(self) -> list["Part"]:
        """Each extractor with its head and the symmetry whose views it averages over."""
        return [(self.extractor, self.head, self.symmetry)]


Part = tuple[nn.Module, nn.Module, str]


class Ensemble(Network):
    """Several networks whose probabilities are averaged; its logits are the logarithm of these, over
    the fitted temperature. Its features are those of all, side by side.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        heads_in_turn = nn.Sequential(*(member.head for member in members))
        extractor = Concatenated([member.extractor for member in members])
        super().__init__(extractor, heads_in_turn, "none")
        self.symmetries = [member.symmetry for member in members]

    def described(
        self, images: Real[Tensor, "n h w 3"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n d"]]:
        each = [_over_views(*part, images) for part in self.parts()]
        logits = mean_logits([logits for logits, _ in each])
        features = torch.cat([features for _, features in each], dim=1)
        return logits / self.get_buffer("temperature"), features

    def parts(self) -> list[Part]:
        extractor = self.extractor
        assert isinstance(extractor, Concatenated)
        return [*zip(extractor.extractors, self.head, self.symmetries, strict=True)]


def mean_logits(of_members: Sequence[Float[Tensor, "n k"]]) -> Float[Tensor, "n k"]:
    """The logarithm of the mean of their probabilities."""
    mean = torch.stack([torch.softmax(logits, dim=1) for logits in of_members]).mean(0)
    return mean.clamp(min=LEAST).log()


def _over_views(
    extractor: nn.Module, head: nn.Module, symmetry: str, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits averaged over the views of the symmetry, and the features of the first."""
    flips = SYMMETRIES[symmetry]
    views_of_images = (
        torch.cat([view(images, flip) for flip in flips]) if len(flips) > 1 else images
    )
    features = extractor(views_of_images)
    logits = head(features)
    if len(flips) > 1:
        logits = logits.unflatten(0, (len(flips), -1)).mean(0)
        features = features.unflatten(0, (len(flips), -1))[0]
    return logits, features


def build(
    candidate: Candidate, *, n_classes: int, size_px: int, symmetry: str, blank: bool = False
) -> Network:
    """A network for images of size_px; `blank` skips the pretrained weights, for loading trained
    ones.
    """
    if candidate.members:
        how: dict[str, Any] = {"n_classes": n_classes, "size_px": size_px, "blank": blank}
        return Ensemble([build(each, symmetry=symmetry, **how) for each in candidate.members])
    node = weights.without(candidate.extractor) if blank else candidate.extractor
    extractor: nn.Module = config.build(node, "candidate")
    with torch.no_grad():
        d = extractor.eval()(torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8)).shape[1]
    views = symmetry if candidate.average_views else "none"
    return Network(extractor, heads.build(candidate.head, d, n_classes), views)


def logits(network: Network, images: Sequence[np.ndarray]) -> Float32[np.ndarray, "n k"]:
    """Logits of uint8 images (h, w, 3) by the whole network, on the fastest engine."""
    batches = (np.stack(part) for part in store.chunks(images, engine.BATCH))
    return np.concatenate(list(engine.run(network, batches, images[0].shape[0]))).astype(np.float32)


def probabilities(network: Network, images: Samples) -> Float64[np.ndarray, "n k"]:
    """Softmax of the logits, calibrated by the network's temperature, in double precision; from
    features that the memo keeps: what an earlier stage or run has computed is not computed again.
    """
    each = [_kept_logits(part, images) for part in network.parts()]
    logits = mean_logits(each) if isinstance(network, Ensemble) else each[0]
    return torch.softmax((logits / network.get_buffer("temperature")).double(), dim=1).numpy()


def _kept_logits(part: Part, images: Samples) -> Float[Tensor, "n k"]:
    extractor, head, symmetry = part
    parts = []
    with TemporaryDirectory(dir=_temporary()) as folder, torch.inference_mode():
        path = Path(folder) / "features.npy"
        features = cache.exact(extractor, images, path, symmetry=symmetry, keys=images.keys())
        n, views, d = features.shape
        for start in range(0, n, AT_ONCE):
            rows = torch.from_numpy(features[start : start + AT_ONCE].reshape(-1, d))
            parts.append(head.eval()(rows).unflatten(0, (-1, views)).mean(1))
            store.release(features)
        del features
    return torch.cat(parts)


def _temporary() -> Path:
    """Beside the memo, since a system's own place may be in memory."""
    folder = config.cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(
    network: Network, winner: Candidate, classes: list[str], size_px: int, folder: Path
) -> None:
    """model.safetensors and model.json: all that `load` needs; nothing is pickled."""
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, folder / "model.safetensors"
    )
    symmetries = {symmetry for _, _, symmetry in network.parts()} - {"none"}
    described = {
        "classes": classes,
        "size_px": size_px,
        "symmetry": next(iter(symmetries), "none"),
        **winner.model_dump(),
    }
    (folder / "model.json").write_text(
        json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )  # YAML would read ${ in a class


def load(folder: Path) -> tuple[Network, Candidate, list[str], int]:
    """The network that `save` wrote in evaluation mode, how it was made, its classes and its image
    size.
    """
    described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    classes, size_px, symmetry = (described.pop(key) for key in ("classes", "size_px", "symmetry"))
    winner = Candidate.model_validate(described)
    network = build(winner, n_classes=len(classes), size_px=size_px, symmetry=symmetry, blank=True)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval(), winner, classes, size_px


def predictions(
    folder: Path, split: str, logits: Float[np.ndarray, "n k"], classes: list[str]
) -> pd.DataFrame:
    """id, label and a probability of each class (p_CLASS), one row per image of the split."""
    rows = table.read(folder)
    known = rows.loc[rows["split"] == split, ["id", "label"]].reset_index(drop=True)
    probs = softmax(logits.astype(np.float64), axis=1)
    return known.join(pd.DataFrame(probs, columns=[f"p_{name}" for name in classes]))
