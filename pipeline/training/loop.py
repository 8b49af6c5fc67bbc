"""Learning in steps: Lightning's loop over features of a frozen extractor, or over images."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils import deterministic

from pipeline import FieldmarkError
from pipeline.config.schema import Fit
from pipeline.features.backbones import SmallCNN
from pipeline.features.engine import plainly
from pipeline.training import loaders, solve
from pipeline.training.augmentation import Policy
from pipeline.training.checkpoint import callbacks_of
from pipeline.training.classifier import Classifier, Epoch
from pipeline.training.loaders import Loader
from pipeline.training.network import Network
from pipeline.training.order import SeededOrder
from pipeline.training.samples import FeatureRows, Samples
from pipeline.training.solve import Described

OnEpoch = Callable[[Epoch], None]
# Lightning's others change the type of the weights, and images arrive in 32 bits
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
logging.getLogger("pytorch_lightning").setLevel(
    logging.WARNING
)  # its greetings would be repeated for every trial


def fit_head(
    head: nn.Sequential,
    settings: Fit,
    train: Described,
    val: Described | None,
    seed: int,
    on_epoch: OnEpoch | None,
) -> list[Epoch]:
    """Train the layers on features of all views, each view being an image of its own; val views are
    averaged.
    """
    views, given = train.features.shape[1], train.samples
    rows = FeatureRows(
        train.features.reshape(-1, train.features.shape[-1]),
        np.repeat(given.targets, views, axis=0),
        np.repeat(given.labels, views),
        None if given.weights is None else np.repeat(given.weights, views),
    )
    order = loaders.order_of(rows.arrays[2], settings, seed)
    loader = loaders.of_features(rows, order)
    val_loader = None
    if val is not None:
        watched = FeatureRows(val.features, val.samples.targets, val.samples.labels)
        unshuffled = SeededOrder(len(watched), settings.batch_size, seed, shuffle=False)
        val_loader = loaders.of_features(watched, unshuffled)
    module = Classifier(
        head,
        settings,
        total_steps=settings.epochs * len(order),
        on_epoch=on_epoch,
        class_weights=_class_weights(settings, given),
    )
    with _one_thread():
        return _train(
            module, loader, val_loader, "cpu", "32-true"
        )  # a head is too small to gain from a GPU or from half precision


def fit_network(
    network: Network,
    settings: Fit,
    train: Samples,
    val: Samples | None,
    policy: Policy,
    seed: int,
    on_epoch: OnEpoch | None,
    checkpoint: str = "",
) -> tuple[list[Epoch], float]:
    """Train extractor and head together on the images under the policy; also returns the share of
    the time in which it waited for images.

    checkpoint: a name by the content of all that decides on the training; where one was killed,
    it goes on.
    """
    extractor = network.extractor
    input_px = extractor.input_px if isinstance(extractor, SmallCNN) else None
    loader, val_loader = loaders.of_images(train, val, policy, input_px, settings, seed)
    module = Classifier(
        network,
        settings,
        total_steps=settings.epochs * len(loader),
        on_epoch=_told(settings.epochs, on_epoch),
        class_weights=_class_weights(settings, train),
        backbone=network.extractor,
    )
    accelerator = os.environ.get("FIELDMARK_ACCELERATOR", "auto")
    with plainly():
        history = _train(
            module, loader, val_loader, accelerator, _precision(accelerator), checkpoint
        )
    if loader.used:
        print(f"  waited for images {loader.waiting_share:.0%} of the time", flush=True)
    return history, loader.waiting_share


def _told(epochs: int, on_epoch: OnEpoch | None) -> OnEpoch:
    def say(epoch: Epoch) -> None:
        numbers = ", ".join(f"{key} {value:.3f}" for key, value in epoch.items() if key != "epoch")
        print(f"  epoch {int(epoch['epoch']) + 1}/{epochs}: {numbers}", flush=True)
        if on_epoch:
            on_epoch(epoch)

    return say


def _class_weights(settings: Fit, train: Samples) -> torch.Tensor | None:
    weights = solve.class_weights(settings, train)
    return None if weights is None else torch.from_numpy(weights)


def _train(
    module: Classifier,
    loader: Loader,
    val_loader: Loader | None,
    accelerator: str,
    precision: str,
    checkpoint: str = "",
) -> list[Epoch]:
    """Lightning leaves each part in the mode it finds: what was built in evaluation mode would
    learn no statistics.
    """
    module.train()
    settings = module.fit_settings
    with _quiet(), _determinism():
        try:
            trainer = pl.Trainer(
                max_epochs=settings.epochs,
                accelerator=accelerator,
                devices=1,
                precision=precision,  # type: ignore[arg-type]
                # one process, also where a cluster's variables speak of several tasks
                plugins=LightningEnvironment(),
                deterministic="warn"
                if _on_gpu(accelerator)
                else True,  # some backward passes have no such form on a GPU
                gradient_clip_val=settings.gradient_clip or None,
                callbacks=callbacks_of(settings, checkpoint, val_loader is not None),
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
    form on a GPU. Without the filling of new tensors, a sixth of a step, which only serves to
    find code that reads what it has not written.
    """
    before, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


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
