"""From the local descriptors of an image to one vector, by a vocabulary that is learned from
training images.

Axes: n images, s scales, p rows and q columns of points, m descriptors, d entries of each, c of
them after PCA, w words.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from pipeline import FieldmarkError
from pipeline.features import dense

Coding = Literal["fisher", "histogram"]
LEARN_IMAGES, LEARN_POINTS = 500, 50_000  # that a vocabulary is learned from, at most
SHARPNESS = 4.0


class Coded(nn.Module, ABC):
    """uint8 (n, h, w, 3) -> float32 (n, d): what local descriptors of the luminance say in words.

    input_px: images are averaged down by a whole factor to about this height. scales: sizes of the
    descriptor. stride_px: from a point of the grid to the next. coding: `fisher` says how the
    descriptors of each word differ from it (Sanchez et al., IJCV 2013), `histogram` how often each
    word occurs. components: entries of a descriptor that PCA keeps. pyramid: 1 stands for the
    whole image, 2 for 2 x 2 parts of it, which are coded on their own (Lazebnik et al., CVPR 2006).
    """

    size: int  # entries of a descriptor

    def __init__(
        self,
        input_px: int,
        scales: list[int | float],
        stride_px: int,
        coding: Coding,
        words: int,
        components: int,
        pyramid: list[int],
    ) -> None:
        super().__init__()
        self.input_px, self.scales, self.stride_px = input_px, scales, stride_px
        kinds: dict[str, type[Fisher | Histogram]] = {"fisher": Fisher, "histogram": Histogram}
        self.coder: Fisher | Histogram = kinds[coding](self.size, words, components, pyramid)

    def forward(self, images: Tensor) -> Tensor:
        coded: Tensor = self.coder(self.points(images))
        return coded

    def points(self, images: Tensor) -> Float[Tensor, "n s p q d"]:
        """The descriptors at all scales on one grid."""
        planes = dense.shrink(dense.grey(images), self.input_px)
        return torch.stack([self.local(planes, float(scale)) for scale in self.scales], 1)

    @abstractmethod
    def local(self, planes: Float[Tensor, "n h w"], scale: float) -> Float[Tensor, "n p q d"]:
        """The descriptors at one scale."""

    def learn(self, images: Sequence[np.ndarray] | np.ndarray, seed: int) -> None:
        """Find the vocabulary in points drawn from some of the images, without the empty ones."""
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(len(images))[:LEARN_IMAGES])
        each = -(-LEARN_POINTS // len(chosen))
        parts = []
        with torch.inference_mode():
            for i in chosen.tolist():
                points = self.points(torch.from_numpy(np.array(images[i]))[None])
                rows = points.reshape(-1, self.size).numpy()
                rows = rows[np.abs(rows).sum(1) > 0]
                parts.append(rows[np.sort(random.permutation(len(rows))[:each])])
        descriptors = np.concatenate(parts)
        words = self.coder.words
        if len(descriptors) < max(words, 2):
            raise FieldmarkError(
                f"the training images have {len(descriptors)} descriptors, too few for {words} "
                "words: lower extractor.words or extractor.stride_px"
            )
        self.coder.learn(descriptors, seed)


class Fisher(nn.Module):
    """Descriptors (n, s, p, q, d) -> Fisher vectors (n, 2 c w for each part of the pyramid) of a
    mixture of Gaussians, with square roots and of length 1.
    """

    def __init__(self, size: int, words: int, components: int, pyramid: list[int]) -> None:
        super().__init__()
        self.words, self.pyramid = words, pyramid
        self.register_buffer("middle", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size, components))
        self.register_buffer("shares", torch.full((words,), 1 / words))
        self.register_buffer("means", torch.zeros(words, components))
        self.register_buffer("deviations", torch.ones(words, components))

    def learn(self, descriptors: Float[np.ndarray, "m d"], seed: int) -> None:
        """PCA, and the mixture in what that leaves."""
        components = self.get_buffer("means").shape[1]
        middle = descriptors.mean(0)
        axes = principal(descriptors - middle, components)
        reduced = (descriptors - middle) @ axes
        mixture = GaussianMixture(
            self.words,
            covariance_type="diag",
            max_iter=30,
            random_state=seed,
            reg_covar=1e-4,
            init_params="k-means++",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for words
            mixture.fit(reduced)
        fill(
            self,
            middle=middle,
            axes=axes,
            shares=mixture.weights_,
            means=mixture.means_,
            deviations=np.sqrt(mixture.covariances_),
        )

    def forward(self, points: Tensor) -> Tensor:
        shares, means = self.get_buffer("shares"), self.get_buffer("means")
        deviations = self.get_buffer("deviations")
        x = (points - self.get_buffer("middle")) @ self.get_buffer("axes")
        precision = 1 / deviations**2
        constant = (
            torch.log(shares) - torch.log(deviations).sum(1) - 0.5 * (means**2 * precision).sum(1)
        )
        logs = x @ (means * precision).T - 0.5 * (x * x) @ precision.T + constant
        belongs = torch.softmax(logs, -1)
        vectors = []
        for rows, columns in parts(self.pyramid, x):
            some, weight = (v[:, :, rows, columns].flatten(1, 3) for v in (x, belongs))
            zeroth = weight.mean(1)[..., None]
            count = some.shape[1]
            first = weight.transpose(1, 2) @ some / count
            second = weight.transpose(1, 2) @ (some * some) / count
            by_mean = (first - means * zeroth) / deviations / torch.sqrt(shares)[:, None]
            by_deviation = (
                (second - 2 * means * first + means**2 * zeroth) * precision - zeroth
            ) / torch.sqrt(2 * shares)[:, None]
            vectors.append(torch.cat([by_mean, by_deviation], 1).flatten(1))
        return torch.cat([dense.unit(root(v)) for v in vectors], 1)


class Histogram(nn.Module):
    """Descriptors (n, s, p, q, d) -> how often each word occurs (n, w for each part of the pyramid),
    with square roots and of length 1; a descriptor counts for several words, the more the nearer.
    """

    def __init__(self, size: int, words: int, components: int, pyramid: list[int]) -> None:
        super().__init__()
        self.words, self.pyramid = words, pyramid
        self.register_buffer("means", torch.zeros(words, size))
        self.register_buffer("sharpness", torch.ones(()))

    def learn(self, descriptors: Float[np.ndarray, "m d"], seed: int) -> None:
        clusters = MiniBatchKMeans(self.words, random_state=seed, n_init=1, batch_size=4096).fit(
            descriptors
        )
        nearest = ((descriptors - clusters.cluster_centers_[clusters.labels_]) ** 2).sum(1).mean()
        fill(self, means=clusters.cluster_centers_, sharpness=np.array(SHARPNESS / nearest))

    def forward(self, points: Tensor) -> Tensor:
        means = self.get_buffer("means")
        near = points @ means.T - 0.5 * (means * means).sum(1)
        belongs = torch.softmax(2 * near * self.get_buffer("sharpness"), -1)
        return torch.cat(
            [
                dense.unit(root(belongs[:, :, rows, columns].mean((1, 2, 3))))
                for rows, columns in parts(self.pyramid, points)
            ],
            1,
        )


def parts(pyramid: list[int], points: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each part of each level, of the grid in points (n, s, p, q, d)."""
    rows, columns = (int(side) for side in points.shape[2:4])  # tensors, where they are traced
    for level in pyramid:
        for i in range(level):
            for j in range(level):
                yield (
                    slice(i * rows // level, (i + 1) * rows // level),
                    slice(j * columns // level, (j + 1) * columns // level),
                )


def root(x: Tensor) -> Tensor:
    """The square root, with the sign; near 0 a multiple, so that its slope is finite."""
    return x / torch.sqrt(x.abs().clamp(min=1e-8))


def principal(centred: Float[np.ndarray, "m d"], components: int) -> Float[np.ndarray, "d c"]:
    """Principal axes, of which the largest entry is positive, since a solver may return either."""
    _, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    axes = vectors[:, ::-1][:, :components]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
    return np.ascontiguousarray(axes * np.sign(largest))


def fill(module: nn.Module, **values: np.ndarray) -> None:
    """Set buffers, which keep their shapes."""
    for name, value in values.items():
        buffer = module.get_buffer(name)
        buffer.copy_(torch.from_numpy(np.asarray(value)).to(buffer.dtype).reshape(buffer.shape))
