"""Batches that are dealt to several processes: the same steps as one process would take.

Each process has a part of every batch, in the order of their ranks. Statistics of batch
normalisation, the random numbers of dropout, the partners in mixed images and the mean of the loss
are those of the whole batch. Without other processes nothing is done. Axes: n images of this
process, m images of all.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pipeline.training.order import borders

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gathered(mine: Any) -> list[Any]:
    """What each process holds, in the order of their ranks."""
    if world() == 1:
        return [mine]
    each: list[Any] = [None] * world()
    distributed.all_gather_object(each, mine)
    return each


class _Summed(torch.autograd.Function):
    """The sum over all processes, whose slope is the sum of their slopes."""

    @staticmethod
    def forward(_: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *slopes: Any) -> Any:
        total = slopes[0].clone()
        distributed.all_reduce(total)
        return total


class Dealt(TorchFunctionMode):
    """Within it, a network computes on its part of a batch as on the whole one."""

    def __init__(self, n: int, device: torch.device) -> None:
        super().__init__()
        total = torch.tensor(n, device=device)
        distributed.all_reduce(total)
        self.n, self.m = n, int(total)
        self.start, self.end = borders(self.m, world())[distributed.get_rank()]

    @property
    def share(self) -> float:
        """What the mean loss of the part counts, since gradients are averaged over processes."""
        return self.n * world() / self.m

    def mixed(self, mix: Mix, images: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """The part of the mixed whole batch."""
        whole = [torch.cat(_all(part, self.m)) for part in (images, shares)]
        images, shares = mix(*whole)
        return images[self.start : self.end], shares[self.start : self.end]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.batch_norm and given.get("training"):
            return self._normalised(*args, **given)
        if func is F.dropout and given.get("training"):
            return self._dropped(args[0], given["p"])
        return func(*args, **given)

    def _normalised(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Ioffe and Szegedy, ICML 2015, over the images of all processes."""
        axes = [0, *range(2, x.ndim)]
        count = self.m * (x.numel() // x.shape[1] // self.n)
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean = _summed(x.sum(axes)) / count
        apart = x - mean.view(shape)
        var = _summed((apart * apart).sum(axes)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.detach(), momentum)
                running_var.lerp_(var.detach() * count / max(1, count - 1), momentum)
        result = apart * torch.rsqrt(var + eps).view(shape)
        result = result if weight is None else result * weight.view(shape)
        return result if bias is None else result + bias.view(shape)

    def _dropped(self, x: Tensor, p: float) -> Tensor:
        """Several views of an image stand one whole part after the other."""
        views = x.shape[0] // self.n
        noise = F.dropout(x.new_ones(views * self.m, *x.shape[1:]), p, training=True)
        mine = noise.reshape(views, self.m, *x.shape[1:])[:, self.start : self.end]
        return x * mine.reshape(x.shape)


def _all(part: Tensor, m: int) -> list[Tensor]:
    """The parts of all processes."""
    sizes = [end - start for start, end in borders(m, world())]
    padded = part.new_zeros(max(sizes), *part.shape[1:])
    padded[: len(part)] = part
    each = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(each, padded)
    return [one[:size] for one, size in zip(each, sizes, strict=True)]


def _summed(mine: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(mine)
    return total
