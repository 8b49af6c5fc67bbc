"""Where a training stands, on disk at the beginning of each epoch, so that a killed one goes on.

checkpoints/<key>.pt in the folder of the memo: read without unpickling code, deleted when the
training has ended. Where it was stopped or diverged it stays, as any result of the memo does.
"""

import pickle
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loops.progress import _ProcessedTracker

from pipeline import config
from pipeline.config.schema import Fit
from pipeline.storage import store
from pipeline.training.classifier import Classifier
from pipeline.training.defenses.collapse import Watch


def callbacks_of(settings: Fit, checkpoint: str, validated: bool) -> list[pl.Callback]:
    """The checkpoint of that name, where there is one, and what ends a training early."""
    callbacks: list[pl.Callback] = [Checkpoint(checkpoint)] if checkpoint else []
    if settings.patience and validated:
        metric, patience = settings.patience_metric, settings.patience
        mode = "min" if metric == "log_loss" else "max"
        callbacks.append(EarlyStopping(f"val/{metric}", patience=patience, mode=mode))
    return callbacks


class Checkpoint(pl.Callback):
    """Saves what decides on the rest of a training, and begins where the file says.

    The random state is that of the begun epoch, so the weights of a training that was killed and
    started again are those of an undisturbed one to the bit. on_epoch hears the earlier epochs
    once more.
    """

    def __init__(self, key: str) -> None:
        self.file = config.cache_folder() / "checkpoints" / f"{key}.pt"
        self.begun: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Classifier)
        self.begun = _read(self.file)
        if self.begun is None:
            return
        pl_module.load_state_dict(self.begun["module"])
        for epoch in self.begun["history"]:
            pl_module.reported(epoch)
        done = len(pl_module.history)
        trainer.fit_loop.epoch_progress.current = _ProcessedTracker(done, done, done, done)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.begun:
            for name, part in _parts(trainer).items():
                part.load_state_dict(self.begun[name])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if self.begun:
            _set_random(self.begun["random"])
            self.begun = None
        elif pl_module.history and trainer.is_global_zero:
            parts = {name: part.state_dict() for name, part in _parts(trainer).items()}
            state = {"module": pl_module.state_dict(), "history": pl_module.history, **parts}
            with store.whole(self.file) as half:
                torch.save({**state, "random": _random()}, half)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.file.unlink(missing_ok=True)


def _parts(trainer: pl.Trainer) -> dict[str, Any]:
    """What holds a state beside the module."""
    watching = trainer.early_stopping_callbacks
    collapse = [each for each in trainer.callbacks if isinstance(each, Watch)]  # type: ignore[attr-defined]
    return {
        "optimizer": trainer.optimizers[0],
        "schedule": trainer.lr_scheduler_configs[0].scheduler,
        "precision": trainer.precision_plugin,
        **({"patience": watching[0]} if watching else {}),
        **({"collapse": collapse[0]} if collapse else {}),
    }


def _random() -> list[torch.Tensor]:
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *on_gpu]


def _set_random(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


def _read(file: Path) -> dict[str, Any] | None:
    """None where there is no file, or a damaged one, which is deleted."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ):  # cut short when the machine lost power
        file.unlink(missing_ok=True)
        return None
    return state
