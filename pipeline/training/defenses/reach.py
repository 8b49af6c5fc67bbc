"""Which candidates can be defended at all, and how long that takes."""

import time
from copy import deepcopy

import torch
from torch import nn

from pipeline.config.schema import Candidate, Defense
from pipeline.features.weights import Unavailable
from pipeline.robustness.attacks import losses
from pipeline.robustness.attacks.steps import gradient
from pipeline.training.defenses.objectives import Objective, objective
from pipeline.training.loss import CrossEntropy

TIMED = 8  # images in the step whose time is measured


class Undefendable(Unavailable):
    """A candidate that the chosen defence cannot reach; model-search leaves it out and says why."""


def check_learns(candidate: Candidate) -> None:
    """Raises Undefendable where the extractor is frozen: a head alone cannot defend its pixels."""
    defense = candidate.defense
    if defense.kind != "none" and (candidate.frozen or candidate.trained_stages):
        raise Undefendable(
            f"its extractor is frozen{' in part' if candidate.trained_stages else ''}, so defense: {{use: {defense.kind}}} has nothing to defend: "
            "pixels can be attacked below the head. Set frozen: false with a head of kind linear or "
            "mlp (the time that takes is printed before it begins), or take small_cnn"
        )


def check_gradient(defense: Defense, network: nn.Module, size_px: int) -> None:
    """Raises Undefendable where the defence needs a gradient at the pixels, and there is none."""
    if defense.radius is None:
        return
    noise = torch.rand((2, size_px, size_px, 3), generator=torch.Generator().manual_seed(0))
    label = torch.zeros(2, dtype=torch.long)
    training = network.training
    _, slope = gradient(network.eval(), noise * 255, label, losses.margin)
    network.train(training)
    if not slope.any():
        raise Undefendable(
            "it has no gradient at the pixels (hard bins have none), so that "
            f"defense: {{use: {defense.kind}}} cannot make the images that it learns from"
        )


def announce(
    defense: Defense,
    network: nn.Module,
    n_images: int,
    size_px: int,
    input_px: int | None,
    device: str,
) -> None:
    """Print how long a training over so many images takes, all epochs together, beside one without
    a defence. Measured on one step; the network and random numbers stay as they are. input_px: what
    images are averaged down to before.
    """
    side_px = size_px // max(1, size_px // input_px) if input_px else size_px
    devices = [torch.device(device)] if device != "cpu" else []
    with torch.random.fork_rng(devices, device_type=device.split(":")[0] if devices else "cuda"):
        with_defense, without = (
            _seconds(network, objective(chosen, size_px), side_px, device) * n_images
            for chosen in (defense, Defense(kind="none"))
        )
    networks = "both networks " if defense.kind == "distillation" else ""
    times = 2 if defense.kind == "distillation" else 1
    print(
        f"  {defense.title}: {networks}some {_minutes(times * with_defense)}, without a defence "
        f"{_minutes(without)}",
        flush=True,
    )


def _seconds(network: nn.Module, loss_of: Objective, side_px: int, device: str) -> float:
    """Of forward and backward for one image, at the full radius; the second of two steps."""
    trained = deepcopy(network).to(device).train()
    images = 255 * torch.rand((TIMED, side_px, side_px, 3), device=device)
    n_classes = trained(images).shape[1]
    targets = torch.full((TIMED, n_classes), 1 / n_classes, device=device)
    for _ in range(2):
        start = time.perf_counter()
        loss = loss_of(trained, images, CrossEntropy(targets, None, 0.0), 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # waits for a GPU
        seconds = time.perf_counter() - start
    return seconds / TIMED


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds > 60 else f"{seconds:.0f} s"
