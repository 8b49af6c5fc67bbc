"""How strange an image is to the features a network was trained on: probabilistic PCA (Tipping and
Bishop, JRSS B 1999).

The score is the squared Mahalanobis distance to the training images under the model's covariance,
divided by the number of features (for networks: Lee et al., NeurIPS 2018). It has no labels in it,
and goes into the exported graph.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from sklearn.decomposition import PCA
from torch import Tensor, nn


class Density(nn.Module):
    """features (n, d) -> strangeness (n,), about 1 for training images, and sketch (n, s), of unit
    variance there.
    """

    def __init__(
        self,
        mean: np.ndarray,
        components: np.ndarray,
        variance: np.ndarray,
        noise: float,
        sketch: int,
    ) -> None:
        super().__init__()
        self.noise, self.sketch = noise, sketch
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer(
            "axes", torch.from_numpy(components.T / np.sqrt(variance)).float()
        )  # (d, q), whitening
        self.register_buffer("variance", torch.from_numpy(variance).float())

    def forward(
        self, features: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n s"]]:
        centred = features - self.get_buffer("mean")
        white = centred @ self.get_buffer("axes")
        outside = (centred.square().sum(1) - white.square() @ self.get_buffer("variance")).clamp(
            min=0
        )
        score = (white.square().sum(1) + outside / self.noise) / features.shape[1]
        missing = max(0, self.sketch - white.shape[1])
        return score, nn.functional.pad(white[:, : self.sketch], (0, missing))


def fit(
    features: Float32[np.ndarray, "n d"], *, components: int, sketch: int, seed: int
) -> Density:
    """The density of training features; fewer components where there are fewer images or features
    than asked for. sketch: how many leading components the network answers with.

    Raises ValueError for less than two images.
    """
    n, d = features.shape
    if n < 2:
        raise ValueError("a density needs at least two images")
    q = max(
        1, min(components, n // 4, d - 1)
    )  # more would fit the few images there are, and call every other one strange
    pca = PCA(q, svd_solver="full" if min(n, d) < 2000 else "randomized", random_state=seed)
    with np.errstate(invalid="ignore"):  # shares of no variance at all, which are not asked for
        pca.fit(features.astype(np.float64))
    floor = (
        1e-6 * float(np.mean(np.var(features, axis=0, dtype=np.float64))) + 1e-12
    )  # features that never vary
    rest = np.var(features, axis=0, ddof=1, dtype=np.float64).sum() - pca.explained_variance_.sum()
    noise = max(
        float(rest) / max(d - q, 1), floor
    )  # over all other features; scikit-learn's is over the images' span
    return Density(
        pca.mean_, pca.components_, np.maximum(pca.explained_variance_, floor), noise, sketch
    )
