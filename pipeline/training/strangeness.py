"""How strange images are to a network, from features that the memo keeps."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float32

from pipeline.config.schema import Export
from pipeline.features import cache
from pipeline.training import density
from pipeline.training.density import Density
from pipeline.training.network import Network
from pipeline.training.samples import Samples


def density_of(
    settings: Export, trained: Network, train: Samples, seed: int, *, sketch: int
) -> Density:
    """The density of the training images' features; sketch: see density.fit."""
    both = cache.features(trained.extractor, train, symmetry="none", keys=train.keys())
    features = both[:, 0].astype(np.float32)
    return density.fit(features, components=settings.ood_components, sketch=sketch, seed=seed)


def strange(
    trained: Network, strangeness: Density, images: Samples
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, "n s"]]:
    """Scores and sketches of the images.

    They equal the outputs of the exported file, as far as parity was proved.
    """
    with TemporaryDirectory() as folder, torch.inference_mode():
        features = cache.exact(
            trained.extractor,
            images,
            Path(folder) / "features.npy",
            symmetry="none",
            keys=images.keys(),
        )
        scores, sketch = strangeness(torch.from_numpy(np.array(features[:, 0])))
    return scores.numpy(), sketch.numpy()
