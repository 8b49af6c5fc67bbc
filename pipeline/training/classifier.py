"""The LightningModule: loss, optimiser, and validation with the same metrics as the evaluation."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pipeline.config.schema import Fit
from pipeline.training import dealt, mixing
from pipeline.training.defenses.objectives import Objective
from pipeline.training.epochs import Diverged, Epoch, OnEpoch, validation
from pipeline.training.loss import CrossEntropy

Batch = Sequence[Tensor]


class Classifier(pl.LightningModule):
    """Trains `net` on batches (x, target probabilities (n, k), label (n,)), perhaps with how much
    each counts (n,).

    x is what `net` takes; with a view axis, (n, v, d), the logits are averaged over it. backbone:
    stages, the last one first, that learn at fit.backbone_lr_scale of the rate and less; images:
    whether x are images. objective: the loss of a step, where it is not that of x as it stands.
    on_epoch sees each epoch's numbers, and what was `noted` meanwhile, and may raise to stop the
    training. With fit.ema_decay the running average
    of the weights is validated, and is what `net` holds in the end. Raises Diverged at the end of
    the first epoch whose loss or logits are no finite numbers.
    """

    def __init__(
        self,
        net: nn.Module,
        fit: Fit,
        *,
        total_steps: int,
        class_weights: Tensor | None = None,
        backbone: Sequence[Sequence[nn.Module]] = (),
        images: bool = False,
        objective: Objective | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        super().__init__()
        self.net, self.fit_settings, self.total_steps = net, fit, total_steps
        self.backbone, self.images, self.on_epoch = backbone, images, on_epoch
        self.objective = objective
        self.class_weights = class_weights
        self.average = mixing.average(net, fit.ema_decay) if fit.ema_decay else None
        self.mix = mixing.mixer(fit.mixup, fit.cutmix) if images else None
        self.history: list[Epoch] = []
        self.noted: Epoch = {}
        self._losses: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return _averaged(self.net(x))

    def training_step(self, batch: Batch, number: int) -> Tensor:
        if dealt.world() == 1:
            loss = self._loss(batch, number, self.mix)
        else:
            with dealt.Dealt(len(batch[0]), batch[0].device) as part:
                mix = partial(part.mixed, self.mix) if self.mix else None
                loss = self._loss(batch, number, mix) * part.share
        self._losses.append(loss.detach())
        return loss

    def _loss(self, batch: Batch, number: int, mix: mixing.Mixer | None) -> Tensor:
        x, targets, _labels, *weights = batch
        x = self.seen(x)
        if self.class_weights is not None or mix:
            # not cross_entropy's: those weigh what smoothing adds, too, until all images are of the
            # rare class
            counted = (
                targets if self.class_weights is None else targets * self.class_weights.to(x.device)
            )
            counted = counted * weights[0][:, None] if weights else counted
            if mix:
                x, counted = mix(x, counted)
            share = counted.sum(1)
            targets, weights = counted / share[:, None], [share]
        smoothing = self.fit_settings.label_smoothing
        cross_entropy = CrossEntropy(targets, weights[0] if weights else None, smoothing)
        if self.objective:
            done = self.current_epoch / self.fit_settings.epochs + number / self.total_steps
            return self.objective(self.net, x, cross_entropy, done)
        return cross_entropy(self(x))

    def seen(self, images: Tensor) -> Tensor:
        """What this epoch learns from: smaller images in the first ones, with fit.start_px."""
        if self.fit_settings.start_px and self.images:
            return mixing.shrunk(images, self.fit_settings, self.current_epoch)
        return images

    def on_fit_start(self) -> None:
        if self.fit_settings.channels_last and self.images:
            self.net.to(memory_format=torch.channels_last)

    def on_train_batch_end(self, *_: object) -> None:
        if self.average:
            self.average.update_parameters(self.net)

    def on_train_end(self) -> None:
        if self.average:
            self.net.load_state_dict(self.average.module.state_dict())
        self.net.to(memory_format=torch.contiguous_format)

    def validation_step(self, batch: Batch, _: int) -> None:
        x, _targets, labels, *_weights = batch
        logits = _averaged(self.average(x)) if self.average else self(x)
        self._logits.append(logits.float().cpu())
        self._labels.append(labels.cpu())

    def on_train_epoch_end(self) -> None:
        losses = dealt.gathered(float(torch.stack(self._losses).mean()))
        mean = sum(losses) / len(losses)
        epoch = {"epoch": float(self.current_epoch), "train/loss": mean, **self.noted}
        self._losses.clear()
        self._logits = [part for parts in dealt.gathered(self._logits) for part in parts]
        self._labels = [part for parts in dealt.gathered(self._labels) for part in parts]
        if not np.isfinite(epoch["train/loss"]) or not all(
            part.isfinite().all() for part in self._logits
        ):
            raise Diverged(
                f"the training diverged in epoch {self.current_epoch + 1}: its numbers are no "
                f"longer finite; lower fit.lr "
                f"(this network learnt at {self.fit_settings.lr:g}, which is fit.lr times its "
                f"lr_scale)"
            )
        if self._logits:
            epoch.update(self._validated())
        if self.fit_settings.patience:
            watched = {key: value for key, value in epoch.items() if key.startswith("val/")}
            self.log_dict(watched, sync_dist=True)
        self.reported(epoch)

    def reported(self, epoch: Epoch) -> None:
        """Into the history, and to whoever watches."""
        self.history.append(epoch)
        if self.on_epoch:
            self.on_epoch(epoch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings, lr = self.fit_settings, self.fit_settings.lr
        rates = {
            parameter: lr * settings.backbone_lr_scale * settings.stage_lr_decay**behind
            for behind, stage in enumerate(self.backbone)
            for module in stage
            for parameter in module.parameters()
        }
        by_rate = dict[float, list[nn.Parameter]]()
        for parameter in self.net.parameters():
            by_rate.setdefault(rates.get(parameter, lr), []).append(parameter)
        groups = [{"params": params, "lr": rate} for rate, params in by_rate.items()]
        optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [float(g["lr"]) for g in optimizer.param_groups],
            total_steps=max(self.total_steps, 2),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _validated(self) -> Epoch:
        values = validation(
            torch.cat(self._logits).numpy(),
            torch.cat(self._labels).numpy().astype(np.int64),
        )
        self._logits.clear()
        self._labels.clear()
        return values


def _averaged(logits: Tensor) -> Tensor:
    return logits.mean(1) if logits.ndim == 3 else logits
