"""Learning in steps: Lightning's loop over features of a frozen extractor, or over images."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from pipeline import FieldmarkError
from pipeline.config.schema import Defense, Fit
from pipeline.features.backbones import SmallCNN
from pipeline.features.engine import plainly
from pipeline.features.stages import Upper, stages
from pipeline.training import conditions, devices, loaders, solve
from pipeline.training.augmentation import Policy
from pipeline.training.checkpoint import callbacks_of
from pipeline.training.classifier import Classifier
from pipeline.training.defenses import reach
from pipeline.training.defenses.collapse import Watch
from pipeline.training.defenses.objectives import objective
from pipeline.training.devices import ALONE, Place
from pipeline.training.epochs import Epoch, OnEpoch
from pipeline.training.loaders import Loader
from pipeline.training.network import Network
from pipeline.training.samples import FeatureRows, Samples
from pipeline.training.solve import Described

UNDEFENDED = Defense(kind="none")
for name in ("pytorch_lightning", "lightning_fabric"):  # greetings, repeated for every trial
    logging.getLogger(name).setLevel(logging.WARNING)


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
    loader, val_loader = loaders.of_features(rows, val, settings, seed)
    module = _classifier(head, settings, given, loader, on_epoch=on_epoch)
    with conditions.computing_with(1):
        # a head is too small to gain from a GPU or from half precision
        return _train(module, loader, val_loader, "cpu", "32-true")


def fit_stages(
    upper: Upper,
    head: nn.Sequential,
    settings: Fit,
    train: Described,
    val: Described | None,
    seed: int,
    on_epoch: OnEpoch | None,
    checkpoint: str = "",
) -> list[Epoch]:
    """Train stages and head together on what lies below them; of the views of an image each pass
    draws one. checkpoint: see fit_network.
    """
    given = train.samples
    rows = FeatureRows(train.features, given.targets, given.labels, given.weights, draw=True)
    loader, val_loader = loaders.of_features(rows, val, settings, seed)
    module = _classifier(
        nn.Sequential(upper, head),
        settings,
        given,
        loader,
        on_epoch=_printed(settings.epochs, on_epoch),
        backbone=[[stage] for stage in reversed(upper.stages)],
    )
    accelerator = os.environ.get("FIELDMARK_ACCELERATOR", "auto")
    with plainly():
        return _train(
            module, loader, val_loader, accelerator, conditions.precision(accelerator), checkpoint
        )


def fit_network(
    network: Network,
    settings: Fit,
    train: Samples,
    val: Samples | None,
    policy: Policy,
    seed: int,
    on_epoch: OnEpoch | None,
    checkpoint: str = "",
    defense: Defense = UNDEFENDED,
) -> tuple[list[Epoch], float]:
    """Train extractor and head together on the images under the policy; also returns the share of
    the time in which it waited for images. Raises Undefendable where the defence cannot be had.

    checkpoint: a name by the content of all that decides on the training; where one was killed,
    it goes on. Several devices and nodes share each batch, see devices, save under a defence.
    """
    told = _printed(settings.epochs, on_epoch)
    given = (network, settings, train, val, policy, seed, checkpoint, defense)
    if defense.kind != "none":
        return _fit_network(*given, told, ALONE)
    with devices.together(partial(_fit_network, *given, None)) as place:
        return _fit_network(*given, told, place)


def _fit_network(
    network: Network,
    settings: Fit,
    train: Samples,
    val: Samples | None,
    policy: Policy,
    seed: int,
    checkpoint: str,
    defense: Defense,
    on_epoch: OnEpoch | None,
    place: Place,
) -> tuple[list[Epoch], float]:
    extractor = network.extractor
    input_px = extractor.input_px if isinstance(extractor, SmallCNN) else None
    loader, val_loader = loaders.of_images(train, val, policy, input_px, settings, seed, place)
    accelerator, size_px = os.environ.get("FIELDMARK_ACCELERATOR", "auto"), train[0].shape[0]
    if defense.kind != "none":
        n_images = settings.epochs * len(loader) * min(settings.batch_size, len(train))
        _announce(defense, network, n_images, size_px, input_px, accelerator)
    module = _classifier(
        network,
        settings,
        train,
        loader,
        on_epoch=on_epoch,
        backbone=stages(network.extractor)
        if settings.stage_lr_decay < 1
        else [[network.extractor]],
        images=True,
        objective=None if defense.kind == "none" else objective(defense, size_px),
    )
    precision = conditions.precision(accelerator)
    watch = [Watch(defense, size_px)] if defense.kind == "fast" else []
    with plainly():
        how = (accelerator, precision, checkpoint, watch, place)
        history = _train(module, loader, val_loader, *how)
    if loader.used and place.rank == 0:
        print(f"  waited for images {loader.waiting_share:.0%} of the time", flush=True)
    return history, loader.waiting_share


def _announce(
    defense: Defense,
    network: Network,
    n_images: int,
    size_px: int,
    input_px: int | None,
    accelerator: str,
) -> None:
    gpu = conditions.on_gpu(accelerator)
    device = str(torch.accelerator.current_accelerator()) if gpu else "cpu"
    reach.check_gradient(defense, network, size_px)
    reach.announce(defense, network, n_images, size_px, input_px, device)


def _printed(epochs: int, on_epoch: OnEpoch | None) -> OnEpoch:
    """on_epoch, which also prints the epoch."""

    def print_it(epoch: Epoch) -> None:
        numbers = ", ".join(f"{key} {value:.3f}" for key, value in epoch.items() if key != "epoch")
        print(f"  epoch {int(epoch['epoch']) + 1}/{epochs}: {numbers}", flush=True)
        if on_epoch:
            on_epoch(epoch)

    return print_it


def _classifier(
    net: nn.Module, settings: Fit, train: Samples, loader: Loader, **others: Any
) -> Classifier:
    """What learns from the samples, over all batches of all epochs; others: see Classifier."""
    weights = solve.class_weights(settings, train)
    return Classifier(
        net,
        settings,
        total_steps=settings.epochs * len(loader),
        class_weights=None if weights is None else torch.from_numpy(weights),
        **others,
    )


def _train(
    module: Classifier,
    loader: Loader,
    val_loader: Loader | None,
    accelerator: str,
    precision: str,
    checkpoint: str = "",
    watch: Sequence[pl.Callback] = (),
    place: Place = ALONE,
) -> list[Epoch]:
    """Lightning leaves each part in the mode it finds: what was built in evaluation mode would
    learn no statistics.
    """
    module.train()
    settings = module.fit_settings
    with conditions.quiet(), conditions.determinism():
        try:
            trainer = pl.Trainer(
                max_epochs=settings.epochs,
                accelerator=accelerator,
                precision=precision,  # type: ignore[arg-type]
                **devices.strategy(place),
                deterministic="warn"
                if conditions.on_gpu(accelerator)
                else True,  # some backward passes have no such form on a GPU
                gradient_clip_val=settings.gradient_clip or None,
                callbacks=[*callbacks_of(settings, checkpoint, val_loader is not None), *watch],
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
