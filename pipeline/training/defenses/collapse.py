"""Fast adversarial training is watched, and taken back where it has collapsed.

A network that learns from one step of the gradient can suddenly learn to stand that step and
nothing else: its accuracy under PGD falls within an epoch, to 0 in the end (Wong, Rice and Kolter,
ICLR 2020, section 5.4). Going on with PGD mends it (Li, Wang, Jana and Carin, "Towards understanding
fast adversarial training", 2020).
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.config.schema import Defense
from pipeline.robustness.attacks import losses
from pipeline.training.classifier import Batch, Classifier
from pipeline.training.defenses import objectives

WATCHED = "train/pgd_accuracy"  # of the last batch of an epoch, at the full radius


class Watch(pl.Callback):
    """Attacks the last batch of each epoch by PGD.

    Where training has collapsed, the weights are those of the last sound epoch again, and training
    goes on with PGD; where no epoch is left, they are what is handed over. `state_dict` is plain
    numbers and tensors, for a checkpoint.
    """

    def __init__(self, defense: Defense, size_px: int) -> None:
        self.defense, self.size_px = defense, size_px
        self.best, self.collapsed = 0.0, False
        self.sound: dict[str, Tensor] = {}
        self.batch: Batch = ()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if self.collapsed:
            self._go_on_with_pgd(pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.batch = batch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        under_pgd, under_own = self.accuracies(pl_module, trainer.current_epoch)
        pl_module.noted[WATCHED] = under_pgd
        if self.collapsed:
            return
        fall = self.defense.fall
        assert fall is not None
        if self.sound and under_pgd < min(self.best, under_own) - fall:
            print(
                f"  fast adversarial training collapsed in epoch {trainer.current_epoch + 1}: on "
                f"one batch {under_own:.0%} of the answers stand its own attack, and only "
                f"{under_pgd:.0%} stand PGD, after {self.best:.0%} before. The weights of the last "
                f"sound epoch are taken, and training goes on with {self.defense.steps} steps of "
                f"PGD. defense.step: 1.0 or defense: {{use: adversarial}} avoid it",
                flush=True,
            )
            self.collapsed = True
            pl_module.load_state_dict(self.sound)
            self._go_on_with_pgd(pl_module)
        else:
            self.best = max(self.best, under_pgd)
            self.sound = {
                name: value.detach().clone() for name, value in pl_module.state_dict().items()
            }

    def accuracies(self, module: Classifier, epoch: int) -> tuple[float, float]:
        """Of the network as it is deployed, on the last batch: under PGD, and under the attack that
        it learns from.
        """
        defense, network = self.defense, module.net
        assert defense.radius and defense.step and defense.steps
        pixels, labels = module.seen(self.batch[0]).float(), self.batch[2]
        generator = torch.Generator().manual_seed(epoch)

        def loss(logits: Tensor, _: Tensor) -> Tensor:
            return losses.cross_entropy(logits, labels)

        network.eval()
        own = objectives.one_step(network, pixels, loss, defense.radius, defense.step, generator)
        strong = objectives.several_steps(
            network, pixels, loss, defense.radius, defense.steps, generator
        )
        with torch.no_grad():
            under_pgd, under_own = (
                float((network(images).argmax(1) == labels).float().mean())
                for images in (strong, own)
            )
        network.train()
        return under_pgd, under_own

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "collapsed": self.collapsed, "sound": self.sound}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.collapsed = state_dict["best"], state_dict["collapsed"]
        self.sound = state_dict["sound"]

    def _go_on_with_pgd(self, module: Classifier) -> None:
        stronger = objectives.multi_step(self.defense)
        module.objective = objectives.objective(stronger, self.size_px)
