"""The final network, on more images than it was judged with, and its temperature."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy.special import softmax
from torch import nn

from pipeline.config.schema import Candidate
from pipeline.features import weights
from pipeline.training.augmentation import Policy
from pipeline.training.fit import fit
from pipeline.training.network import Network
from pipeline.training.samples import Samples


class Recipe(NamedTuple):
    """How the model that goes on is made; on: see `refitted`."""

    best: Candidate
    policy: Policy
    symmetry: str
    on: str
    seed: int

    def asked(self) -> dict[str, Any]:
        """All that decides on its answers beside the images, for the memo."""
        return {
            "candidate": self.best.model_dump(exclude={"name", "space"}),
            "weights": weights.content(self.best.extractor),
            "symmetry": self.symmetry,
            "policy": self.policy.to_json(),
            "refit": self.on,
            "seed": self.seed,
            "by": weights.computes(),
        }


def anew(
    recipe: Recipe, train: Samples, val: Samples
) -> tuple[Network, Float64[np.ndarray, "v k"]]:
    """The network that the recipe makes of other images, as tune makes the one that goes on; and the
    probabilities of the validation images, by one that had not learned from them.
    """
    settings: dict[str, Any] = {
        "symmetry": recipe.symmetry,
        "policy": recipe.policy,
        "seed": recipe.seed,
    }
    alone = fit(recipe.best, train, val, **settings)
    assert alone.val_logits is not None
    final, degrees = refitted(recipe.best, train, val, alone.val_logits, on=recipe.on, **settings)
    return final.eval(), softmax(alone.val_logits.astype(np.float64) / degrees, axis=1)


def refitted(
    best: Candidate,
    train: Samples,
    val: Samples,
    val_logits: Float32[np.ndarray, "n k"],
    *,
    on: str,
    symmetry: str,
    policy: Policy,
    seed: int,
) -> tuple[Network, float]:
    """The final network and its temperature, in the precision that the network keeps it in.

    on: `dev` fits on train and val together, `train` on train alone. val_logits: of val, by a
    network that was fitted on train alone; the temperature comes from them. It is 1 after
    distillation, whose answers are meant as they come (Papernot et al., S&P 2016, section IV).
    """
    distilled = best.defense.kind == "distillation"
    degrees = 1.0 if distilled else temperature(val_logits, val.targets)
    learned, watched = (train + val, None) if on == "dev" else (train, val)
    final = fit(best, learned, watched, symmetry=symmetry, policy=policy, seed=seed).network
    final.temperature.fill_(degrees)  # type: ignore[operator]
    return final, float(final.temperature)  # type: ignore[arg-type]


def temperature(
    val_logits: Float32[np.ndarray, "n k"], targets: Float32[np.ndarray, "n k"]
) -> float:
    """The temperature that makes logits of unseen images honest: the least log loss (Guo et al.,
    ICML 2017).
    """
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    x, y = torch.from_numpy(val_logits).double(), torch.from_numpy(targets).double()
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(x / log_t.exp(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_t.exp().clamp(0.05, 20).detach())
