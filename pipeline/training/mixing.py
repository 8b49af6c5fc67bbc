"""What a step may do to images and weights: mixed images, growing images, averaged weights.

Axes: n images, h height, w width, k classes.
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.config.schema import Fit
from pipeline.features.dense import shrink

Images = Shaped[Tensor, "n h w 3"]
Shares = Float[Tensor, "n k"]
Mixer = Callable[[Images, Shares], tuple[Tensor, Tensor]]
GROWN_AFTER = 2 / 3  # of the epochs images are whole
FAST = 10  # steps over which the average of a training that has just begun forgets


def mixer(mixup: float, cutmix: float) -> Mixer | None:
    """MixUp (Zhang et al., ICLR 2018), CutMix (Yun et al., ICCV 2019), or one of the two at random
    for each batch; None where both alphas are 0.
    """
    if not mixup and not cutmix:
        return None
    from torchvision.transforms import v2

    made = [
        *([v2.MixUp(alpha=mixup)] if mixup else []),
        *([v2.CutMix(alpha=cutmix)] if cutmix else []),
    ]
    one = v2.RandomChoice(made)

    def mix(images: Images, shares: Shares) -> tuple[Tensor, Tensor]:
        mixed, shares = one(images.permute(0, 3, 1, 2).float(), shares)
        return mixed.permute(0, 2, 3, 1), shares

    return mix


def shrunk(images: Images, settings: Fit, epoch: int) -> Tensor:
    """Averaged down to fit.start_px in the first epochs, by a whole factor that falls to 1."""
    part = min(1.0, epoch / max(1, settings.epochs * GROWN_AFTER))
    side = images.shape[1]
    px = settings.start_px + (side - settings.start_px) * part
    return shrink(images.permute(0, 3, 1, 2).float(), int(px)).permute(0, 2, 3, 1)


def average(net: nn.Module, decay: float) -> AveragedModel:
    """A running average of weights and statistics. In the first steps it forgets faster, since it
    would hold on to the random weights of the beginning.
    """
    model = AveragedModel(net, multi_avg_fn=partial(_mean, decay), use_buffers=True)
    return model.requires_grad_(False)


def _mean(decay: float, averaged: list[Tensor], current: list[Tensor], n: Tensor) -> None:
    now = min(decay, (1 + float(n)) / (FAST + float(n)))
    get_ema_multi_avg_fn(now)(averaged, current, n)  # type: ignore[no-untyped-call]
