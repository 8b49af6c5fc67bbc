"""An epoch's numbers, by which epochs, candidates and trials are compared; free of Lightning, which
takes seconds to import.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float32, Int64
from numpy import ndarray

from pipeline import FieldmarkError
from pipeline.evaluation import metrics

Epoch = dict[str, float]
OnEpoch = Callable[[Epoch], None]


class Diverged(FieldmarkError):
    """A training whose numbers grew beyond all bounds."""


def validation(logits: Float32[ndarray, "n k"], labels: Int64[ndarray, " n"]) -> Epoch:
    """The metrics of the validation images."""
    values = metrics.summary(
        labels, torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    )
    return {f"val/{key}": values[key] for key in ("accuracy", "f1_macro", "log_loss")}
