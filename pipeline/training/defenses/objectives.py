"""The loss of a step under each defence.

An objective is a function of the network, which is in training mode, the images of a step in 0 to
255, their cross-entropy, and the share of the training that is done. Attacks climb that loss itself,
so that mixed images and uncertain labels are attacked for what they are taught.
Axes: n images, k classes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.schema import Defense
from pipeline.robustness import views
from pipeline.robustness.attacks.fgsm import fgsm
from pipeline.robustness.attacks.losses import Loss
from pipeline.robustness.attacks.pgd import pgd
from pipeline.robustness.attacks.steps import anywhere
from pipeline.training.loss import CrossEntropy

Objective = Callable[[nn.Module, Tensor, CrossEntropy, float], Tensor]


def objective(defense: Defense, size_px: int) -> Objective:
    """The loss under this defence. size_px: the side that images have when the network is deployed,
    be they smaller in training.
    """
    by_kind: dict[str, Objective] = {
        "none": _plain,
        "fast": partial(_attacked, defense),
        "adversarial": partial(_attacked, defense),
        "trades": partial(_trades, defense),
        "distillation": partial(_heated, defense),
        "noise": partial(_noisy, defense, size_px),
    }
    return by_kind[defense.kind]


def multi_step(defense: Defense) -> Defense:
    """The same radius by steps of PGD, for a training in one step that has collapsed."""
    return Defense(
        kind="adversarial", radius=defense.radius, ramp=defense.ramp, steps=defense.steps
    )


def one_step(
    network: nn.Module,
    images: Tensor,
    loss: Loss,
    radius: float,
    step: float,
    generator: torch.Generator,
) -> Tensor:
    """FGSM from a random point of the ball (Wong, Rice and Kolter, ICLR 2020, algorithm 3)."""
    model = views.random_view(network, generator)
    start = anywhere(images, radius, generator)
    return fgsm(
        model, images, _unused(images), radius=radius, step=step * radius, start=start, loss=loss
    )


def several_steps(
    network: nn.Module,
    images: Tensor,
    loss: Loss,
    radius: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """PGD on the network as it is deployed: its batch statistics are the running ones."""
    model = views.random_view(network, generator)
    with _deployed(network):
        return pgd(
            model,
            images,
            _unused(images),
            radius=radius,
            steps=steps,
            generator=generator,
            loss=loss,
        )


def _plain(network: nn.Module, images: Tensor, cross_entropy: CrossEntropy, done: float) -> Tensor:
    return cross_entropy(network(images))


def _attacked(
    defense: Defense, network: nn.Module, images: Tensor, cross_entropy: CrossEntropy, done: float
) -> Tensor:
    """The loss of the attacked images alone (Madry et al., ICLR 2018, equation 2.1)."""

    def loss(logits: Tensor, _: Tensor) -> Tensor:
        return cross_entropy.rows(logits)

    images, radius, generator = images.float(), _radius(defense, done), _generator()
    if defense.kind == "fast":
        assert defense.step is not None
        worst = one_step(network, images, loss, radius, defense.step, generator)
    else:
        assert defense.steps is not None
        worst = several_steps(network, images, loss, radius, defense.steps, generator)
    return cross_entropy(network(worst))


def _trades(
    defense: Defense, network: nn.Module, images: Tensor, cross_entropy: CrossEntropy, done: float
) -> Tensor:
    """The loss of the clean images, and how far answers move under attack (Zhang et al., ICML 2019,
    equation 5). The attack starts anywhere in the ball; the paper starts near its middle.
    """
    assert defense.steps is not None and defense.beta is not None
    images = images.float()
    with _deployed(network), torch.no_grad():
        still = F.log_softmax(network(images), dim=1)
    worst = several_steps(
        network,
        images,
        lambda logits, _: _moved(still, logits),
        _radius(defense, done),
        defense.steps,
        _generator(),
    )
    clean = network(images)
    moved = _moved(F.log_softmax(clean, dim=1), network(worst))
    return cross_entropy(clean) + defense.beta * cross_entropy.mean(moved)


def _heated(
    defense: Defense, network: nn.Module, images: Tensor, cross_entropy: CrossEntropy, done: float
) -> Tensor:
    """Logits are divided by the temperature (Papernot et al., S&P 2016, section IV)."""
    assert defense.temperature is not None
    return cross_entropy(network(images) / defense.temperature)


def _noisy(
    defense: Defense,
    size_px: int,
    network: nn.Module,
    images: Tensor,
    cross_entropy: CrossEntropy,
    done: float,
) -> Tensor:
    """Cohen, Rosenfeld and Kolter, ICML 2019, section 3.3.

    Noise of a deployed image is averaged where training averages blocks of k x k pixels, which
    divides its deviation by k.
    """
    assert defense.sigma is not None
    blocks_px = max(1, size_px // images.shape[1])
    images = images.float()
    noise = defense.sigma / blocks_px * torch.randn_like(images)
    return cross_entropy(network(images + noise))


def _moved(still: Float[Tensor, "n k"], logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The Kullback-Leibler divergence from log probabilities to those of the logits, per image."""
    return F.kl_div(F.log_softmax(logits, dim=1), still, reduction="none", log_target=True).sum(1)


def _radius(defense: Defense, done: float) -> float:
    """It grows at first: a network that knows nothing yet learns nothing from strong attacks."""
    assert defense.radius is not None and defense.ramp is not None
    return defense.radius * (min(1.0, done / defense.ramp) if defense.ramp else 1.0)


def _generator() -> torch.Generator:
    """From the common random state, which a checkpoint keeps."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))


def _unused(images: Tensor) -> Tensor:
    """Labels, where the loss knows its own."""
    return torch.zeros(len(images), dtype=torch.long, device=images.device)


@contextmanager
def _deployed(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
