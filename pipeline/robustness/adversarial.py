"""What attacks leave of the accuracy, radius by radius, through the whole deployed network.

The attacks go from weak to strong and from small to large radii. What one of them changed is not
attacked again and counts as fallen from there on, since a larger ball holds the smaller one: so each
figure is the accuracy under that attack and all before it. Steps are planned on one view, drawn anew
in each step; answers are judged by all views, on the attacked pixels and on the same rounded to
8 bits. Each result is kept by the memo.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.config.schema import Attacks
from pipeline.features import identity
from pipeline.robustness import views
from pipeline.robustness.attacks import autoattack, losses
from pipeline.robustness.attacks.apgd import apgd
from pipeline.robustness.attacks.fgsm import fgsm
from pipeline.robustness.attacks.patch import patch
from pipeline.robustness.attacks.pgd import pgd
from pipeline.robustness.attacks.square import square
from pipeline.robustness.attacks.steps import Model
from pipeline.robustness.sample import Labels, Stands
from pipeline.storage import memo

AT_ONCE = 16  # images times views whose gradient is in memory
KEPT = 64  # images whose outcome is remembered together
CODE = ("pipeline.robustness.adversarial",)
Attack = Callable[..., Tensor]  # of model, images, labels, radius and generator


@dataclass(frozen=True)
class Plan:
    """One attack: its name on the page, whether it needs gradients, and how often it starts."""

    name: str
    attack: Attack
    details: str
    restarts: int = 1
    by_gradient: bool = True
    all_views: bool = False


@dataclass(frozen=True)
class Outcome:
    """Which of the attacked images the network still answers rightly. `as_file`: the same for
    pixels that are rounded to 8 bits; `stands`: on both.
    """

    plan: Plan
    radius: float
    stands: Stands
    as_file: Stands

    def __str__(self) -> str:
        left = f"{self.stands.sum()} of {len(self.stands)} images stay right"
        return f"{self.plan.name}, radius {self.radius:g} of 255: {left}"


def plans(settings: Attacks) -> list[Plan]:
    """The ensemble, weakest first; attacks of 0 steps are left out."""
    n, again = settings.steps, settings.restarts
    both = [
        Plan(
            f"PGD, {name}",
            partial(pgd, steps=n, loss=loss),
            f"{n} steps of {2.5 / n:g} radii, {again} random starts",
            again,
        )
        for name, loss in (("cross-entropy", losses.cross_entropy), ("margin", losses.margin))
    ]
    auto = Plan(
        "Auto-PGD",
        partial(apgd, steps=settings.auto_steps),
        f"{settings.auto_steps} steps, cross-entropy",
    )
    planned = [Plan("FGSM", _fgsm, "1 step"), *both]
    return planned + ([auto] if settings.auto_steps else [])


def black_box(settings: Attacks) -> Plan:
    """Square alone: it asks and sees no gradient."""
    n = settings.square_queries
    return Plan("Square", partial(square, queries=n), f"{n} queries", by_gradient=False)


def all_views(settings: Attacks) -> Plan:
    """PGD whose gradient goes through every view, as an owner of the weights would do it."""
    n = settings.all_views_steps
    details = f"{n} steps of {2.5 / n:g} radii, 1 random start, gradient of all views"
    attack = partial(pgd, steps=n, loss=losses.margin)
    return Plan("PGD, margin, all views", attack, details, all_views=True)


def standard() -> Plan:
    """AutoAttack of the library, through every view: it does not take a network that draws one."""
    details = (
        f"{autoattack.LIBRARY} {autoattack.installed()}, standard version, gradient of all views"
    )
    return Plan("AutoAttack", autoattack.autoattack, details, all_views=True)


def stuck_on(settings: Attacks) -> Plan:
    """A square patch of any colours, at a random place of each image."""
    area, steps, places = settings.patch_area, settings.patch_steps, settings.patch_places
    details = (
        f"a square of {area:.1%} of the pixels, any colours, the best of {places} random places, "
        f"PGD of {steps} steps on the margin"
    )
    attack = partial(_patch, area=area, steps=steps, places=places)
    return Plan("Patch", attack, details)


def unbounded(settings: Attacks) -> Plan:
    """An attack that may turn an image into any other, so that no answer should stay."""
    attack = partial(pgd, steps=2 * settings.steps, loss=losses.margin)
    return Plan("PGD without a bound", attack, f"{2 * settings.steps} steps")


class Target:
    """A network under attack, with the images that it is attacked on (uint8, n h w 3)."""

    def __init__(self, network: nn.Module, images: np.ndarray, labels: Labels, seed: int) -> None:
        self.network, self.labels, self.seed = network.eval(), labels, seed
        self.images = images
        self.weights = identity.fingerprint(network)
        key = memo.key({"clean": self.weights}, images, code=CODE, libraries=("torch",))
        logits = memo.once("robustness", key, self._answered)["logits"]
        self.clean, self.n_classes = logits.argmax(1) == labels, logits.shape[1]

    def curve(self, radii: list[float], planned: list[Plan]) -> Iterator[Outcome]:
        """Every attack at every radius, on what stood before."""
        stands, as_file = self.clean.copy(), self.clean.copy()
        for radius in sorted(radii):
            for plan in planned:
                rows = np.flatnonzero(as_file)
                now = self.attacked(plan, radius, rows)
                stands[rows] &= now["stands"]
                as_file[rows] &= now["as_file"]
                outcome = Outcome(plan, radius, stands.copy(), as_file.copy())
                print(f"  {outcome}", flush=True)
                yield outcome

    def alone(self, plan: Plan, radius: float, rows: np.ndarray) -> Outcome:
        """One attack on some of the images, whatever others did."""
        stands, as_file = self.clean[rows].copy(), self.clean[rows].copy()
        right = np.flatnonzero(stands)
        now = self.attacked(plan, radius, rows[right])
        stands[right], as_file[right] = now["stands"], now["as_file"]
        outcome = Outcome(plan, radius, stands, as_file)
        print(f"  alone: {outcome}", flush=True)
        return outcome

    def attacked(self, plan: Plan, radius: float, rows: np.ndarray) -> memo.Arrays:
        """stands and as_file of these rows; from the memo, where it has them: some at a time, so that
        a long attack that was killed goes on.
        """
        starts = range(0, max(len(rows), 1), KEPT)
        progress = tqdm(starts, plan.name, unit="part", mininterval=1, disable=len(starts) == 1)
        parts = [self._kept(plan, radius, rows[start : start + KEPT]) for start in progress]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _kept(self, plan: Plan, radius: float, rows: np.ndarray) -> memo.Arrays:
        asked = {
            "plan": [plan.name, plan.details, plan.restarts],
            "radius": radius,
            "seed": self.seed,
            "weights": self.weights,
        }
        key = memo.key(asked, self.images[rows], self.labels[rows], code=CODE, libraries=("torch",))
        return memo.once("robustness", key, lambda: self._attack(plan, radius, rows))

    def _attack(self, plan: Plan, radius: float, rows: np.ndarray) -> memo.Arrays:
        generator = torch.Generator().manual_seed(self.seed)
        stands, as_file = np.ones(len(rows), bool), np.ones(len(rows), bool)
        model = self._planned_on(plan, generator)
        n = max(AT_ONCE // (views.n_views(self.network) if plan.all_views else 1), 1)
        for _ in range(plan.restarts):
            left = np.flatnonzero(as_file)
            for start in range(0, len(left), n):
                part = left[start : start + n]
                images = torch.from_numpy(self.images[rows[part]]).float()
                labels = torch.from_numpy(self.labels[rows[part]])
                worst = plan.attack(model, images, labels, radius=radius, generator=generator)
                whole = self._right(worst.round(), rows[part])
                stands[part] &= whole & self._right(worst, rows[part])
                as_file[part] &= whole
        return {"stands": stands, "as_file": as_file}

    def _planned_on(self, plan: Plan, generator: torch.Generator) -> Model:
        if plan.all_views:
            return self.network
        if plan.by_gradient:
            return views.random_view(self.network, generator)
        return views.single(self.network)  # answers of different views cannot be compared

    @torch.inference_mode()
    def _answered(self) -> memo.Arrays:
        parts = torch.split(torch.from_numpy(self.images).float(), AT_ONCE)
        return {"logits": torch.cat([self.network(part) for part in parts]).numpy()}

    @torch.inference_mode()
    def _right(self, images: Tensor, rows: np.ndarray) -> Stands:
        answers = [self.network(part).argmax(1) for part in torch.split(images, AT_ONCE)]
        predicted = torch.cat([torch.empty(0, dtype=torch.long), *answers])
        right: Stands = (predicted == torch.from_numpy(self.labels[rows])).numpy()
        return right


def _fgsm(
    model: Model, images: Tensor, labels: Tensor, *, radius: float, generator: torch.Generator
) -> Tensor:
    return fgsm(model, images, labels, radius=radius)


def _patch(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    generator: torch.Generator,
    area: float,
    steps: int,
    places: int,
) -> Tensor:
    """No radius bounds its colours."""
    return patch(model, images, labels, area=area, steps=steps, places=places, generator=generator)
