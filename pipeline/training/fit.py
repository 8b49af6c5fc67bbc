"""Trains one candidate: a head on cached features where the backbone is frozen, the whole network
where it is not.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float32
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from sklearn.svm import LinearSVC
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.config.schema import Candidate, Fit
from pipeline.features import cache
from pipeline.features.engine import plainly
from pipeline.storage import table
from pipeline.training import augmentation, samples
from pipeline.training.augmentation import Policy
from pipeline.training.classifier import Classifier, Epoch, validation
from pipeline.training.network import Network, Standardise, build, logits
from pipeline.training.samples import FeatureRows, ImageRows, Samples, SeededOrder

OnEpoch = Callable[[Epoch], None]
Loader = DataLoader[Any]
PRECISIONS = (
    "32-true",
    "bf16-mixed",
    "16-mixed",
)  # Lightning's others change the type of the weights, and images arrive in 32 bits
logging.getLogger("pytorch_lightning").setLevel(
    logging.WARNING
)  # its greetings would be repeated for every trial


@dataclass(frozen=True)
class Fitted:
    """A trained network, its epochs, and what it says of the validation images (logits, when there
    are any).
    """

    network: Network
    history: list[Epoch]
    val_logits: Float32[np.ndarray, "n k"] | None


def fit(
    candidate: Candidate,
    train: Samples,
    val: Samples | None,
    *,
    symmetry: str,
    policy: Policy,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Fitted:
    """Train on `train`; `val` is only watched. The same seed and data give the same network on one
    machine.

    Weights count in the loss and in balanced class weights, not in validation. Raises
    FieldmarkError where all are 0.
    """
    train = _counting(train)
    pl.seed_everything(seed, workers=True, verbose=False)
    settings = candidate.fit
    network = build(
        candidate, n_classes=train.targets.shape[1], size_px=train[0].shape[0], symmetry=symmetry
    )
    if not candidate.frozen:
        history = _fit_images(network, settings, train, val, policy, seed, on_epoch)
        return Fitted(network.eval(), history, logits(network, val) if val else None)
    both = cache.features(
        network.extractor, train + val if val else train, symmetry=network.symmetry
    )
    seen, watched = both[: len(train)], both[len(train) :] if val else None
    _standardise(network, seen)
    if candidate.head.kind == "svm":
        _fit_svm(network, seen, train, candidate.head.C, settings, seed)
        history = []
    else:
        history = _fit_head(network, settings, seen, train, watched, val, seed, on_epoch)
    network.eval()
    said = None if watched is None else _head_logits(network, watched)
    if not history and said is not None and val is not None:
        history = [{"epoch": 0.0, **validation(said, val.labels)}]
        if on_epoch:
            on_epoch(history[0])
    return Fitted(network, history, said)


def temperature(said: Float32[np.ndarray, "n k"], targets: Float32[np.ndarray, "n k"]) -> float:
    """The temperature that makes logits of unseen images honest: the least log loss (Guo et al.,
    ICML 2017).
    """
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    x, y = torch.from_numpy(said).double(), torch.from_numpy(targets).double()
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(x / log_t.exp(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_t.exp().clamp(0.05, 20).detach())


def _counting(train: Samples) -> Samples:
    """The samples that count at all, with weights of a mean of 1."""
    if train.weights is None:
        return train
    if not train.weights.any():
        raise FieldmarkError(
            "all training images have the weight 0, so that there is nothing to learn from"
        )
    counting = train.take(np.flatnonzero(train.weights))
    return replace(counting, weights=table.relative(train.weights[train.weights > 0]))


def _standardise(network: Network, seen: np.ndarray) -> None:
    layer = network.head[0]  # type: ignore[index]
    assert isinstance(layer, Standardise)
    plain = seen[:, 0].astype(np.float64)
    layer.mean = torch.from_numpy(plain.mean(0)).float()
    layer.std = torch.from_numpy(np.maximum(plain.std(0), 1e-4)).float()


def _fit_svm(
    network: Network, seen: np.ndarray, train: Samples, C: float, settings: Fit, seed: int
) -> None:
    """scikit-learn's linear SVM, one against the rest; its planes become the last layer."""
    standardise, last = network.head[0], network.head[-1]  # type: ignore[index]
    x = standardise(torch.from_numpy(seen.reshape(-1, seen.shape[-1])).float()).numpy()
    weight = "balanced" if settings.class_weights == "balanced" else None
    svm = LinearSVC(C=C, class_weight=weight, random_state=seed, dual=True, max_iter=20000)
    weights = None if train.weights is None else np.repeat(train.weights, seen.shape[1])
    svm.fit(x, np.repeat(train.labels, seen.shape[1]), sample_weight=weights)
    planes, offsets = (
        (np.vstack([-svm.coef_, svm.coef_]), np.concatenate([-svm.intercept_, svm.intercept_]))
        if len(svm.classes_) == 2
        else (svm.coef_, svm.intercept_)
    )
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-10.0)  # a class without a training image is never the answer
        last.weight[svm.classes_] = torch.from_numpy(planes).float()
        last.bias[svm.classes_] = torch.from_numpy(offsets).float()


def _fit_head(
    network: Network,
    settings: Fit,
    seen: np.ndarray,
    train: Samples,
    watched: np.ndarray | None,
    val: Samples | None,
    seed: int,
    on_epoch: OnEpoch | None,
) -> list[Epoch]:
    views = seen.shape[1]
    rows = FeatureRows(
        seen.reshape(-1, seen.shape[-1]),
        np.repeat(train.targets, views, axis=0),
        np.repeat(train.labels, views),
        None if train.weights is None else np.repeat(train.weights, views),
    )
    order = SeededOrder(len(rows), settings.batch_size, seed, shuffle=True)
    loader = DataLoader(rows, sampler=order, batch_size=None)
    val_loader = None
    if val is not None and watched is not None:
        unshuffled = SeededOrder(len(val), settings.batch_size, seed, shuffle=False)
        val_loader = DataLoader(
            FeatureRows(watched, val.targets, val.labels), sampler=unshuffled, batch_size=None
        )
    module = Classifier(
        network.head,
        settings,
        total_steps=settings.epochs * len(order),
        on_epoch=on_epoch,
        class_weights=_class_weights(settings, train),
    )
    with _one_thread():
        return _train(
            module, loader, val_loader, "cpu", "32-true"
        )  # a head is too small to gain from a GPU or from half precision


def _fit_images(
    network: Network,
    settings: Fit,
    train: Samples,
    val: Samples | None,
    policy: Policy,
    seed: int,
    on_epoch: OnEpoch | None,
) -> list[Epoch]:
    def loader(images: Samples, how: Policy | None, *, shuffle: bool) -> DataLoader[object]:
        order = SeededOrder(len(images), settings.batch_size, seed, shuffle=shuffle)
        workers = int(os.environ.get("FIELDMARK_WORKERS", min(8, parallel.N_CORES - 1)))
        rows: Dataset[object] = ImageRows(images, how)
        context = _loader_processes() if workers else None
        return DataLoader(
            rows,
            batch_sampler=order,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context=context,
        )

    loaders = loader(train, policy, shuffle=True), loader(val, None, shuffle=False) if val else None
    module = Classifier(
        network,
        settings,
        total_steps=settings.epochs * len(loaders[0]),
        on_epoch=_said(settings.epochs, on_epoch),
        class_weights=_class_weights(settings, train),
        backbone=network.extractor,
    )
    accelerator = os.environ.get("FIELDMARK_ACCELERATOR", "auto")
    with plainly():
        return _train(module, *loaders, accelerator, _precision(accelerator))


def _loader_processes() -> ForkServerContext:
    """How to start them: not as copies of this process, whose threads (of torch, OpenVINO, MLflow)
    may hold locks just then.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [samples.__name__, augmentation.__name__]
    )  # once for all of them
    return context


def _said(epochs: int, on_epoch: OnEpoch | None) -> OnEpoch:
    def say(epoch: Epoch) -> None:
        numbers = ", ".join(f"{key} {value:.3f}" for key, value in epoch.items() if key != "epoch")
        print(f"  epoch {int(epoch['epoch']) + 1}/{epochs}: {numbers}", flush=True)
        if on_epoch:
            on_epoch(epoch)

    return say


def _class_weights(settings: Fit, train: Samples) -> torch.Tensor | None:
    if settings.class_weights == "none":
        return None
    weighted = train.targets if train.weights is None else train.targets * train.weights[:, None]
    counts = np.maximum(weighted.sum(0), 1e-9)
    return torch.from_numpy((counts.sum() / (len(counts) * counts)).astype(np.float32))


def _head_logits(network: Network, seen: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = network.head(torch.from_numpy(seen).float()).mean(1).numpy()
    return found


def _train(
    module: Classifier, loader: Loader, val_loader: Loader | None, accelerator: str, precision: str
) -> list[Epoch]:
    """Lightning leaves each part in the mode it finds: what was built in evaluation mode would
    learn no statistics.
    """
    module.train()
    with _quiet(), _determinism():
        try:
            trainer = pl.Trainer(
                max_epochs=module.fit_settings.epochs,
                accelerator=accelerator,
                devices=1,
                precision=precision,  # type: ignore[arg-type]
                # one process, also where a cluster's variables speak of several tasks
                plugins=LightningEnvironment(),
                deterministic="warn"
                if _on_gpu(accelerator)
                else True,  # some backward passes have no such form on a GPU
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                inference_mode=True,
            )
        except (MisconfigurationException, ValueError) as error:
            raise FieldmarkError(f"FIELDMARK_ACCELERATOR cannot be had: {error}") from error
        trainer.fit(module, loader, val_loader)
    module.cpu()
    return module.history


def _on_gpu(accelerator: str) -> bool:
    return accelerator != "cpu" and torch.accelerator.is_available()


def _precision(accelerator: str) -> str:
    """The half precision that a GPU of CUDA computes itself, full precision elsewhere, or what
    FIELDMARK_PRECISION says.
    """
    best = "32-true"
    if _on_gpu(accelerator) and torch.cuda.is_available():
        best = (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    asked = os.environ.get("FIELDMARK_PRECISION", best)
    if asked not in PRECISIONS:
        raise FieldmarkError(f"FIELDMARK_PRECISION is {asked!r}; it can be {', '.join(PRECISIONS)}")
    return asked


@contextmanager
def _determinism() -> Iterator[None]:
    """What Lightning turns on ends with the training: features of another network may have no such
    form on a GPU.
    """
    before, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Its steps are so short that several threads gain little, and wait for each other whenever
    something else runs.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes, which would come with every trial."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*isinstance.treespec, LeafSpec.*"
        )  # its own use of torch
        warnings.filterwarnings(
            "ignore", message=".*no `val_dataloader`|.*does not have many workers"
        )  # as meant
        yield
