"""How a training is computed: in which precision, with which threads, always in the same way, and
without the notes of its library.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch.utils import deterministic

from pipeline import FieldmarkError

# Lightning's others change the type of the weights, and images arrive in 32 bits
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def on_gpu(accelerator: str) -> bool:
    """Whether this accelerator of Lightning is a GPU."""
    return accelerator != "cpu" and torch.accelerator.is_available()


def precision(accelerator: str) -> str:
    """The half precision that a GPU of CUDA computes itself, full precision elsewhere, or what
    FIELDMARK_PRECISION says.
    """
    best = "32-true"
    if on_gpu(accelerator) and torch.cuda.is_available():
        best = (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    asked = os.environ.get("FIELDMARK_PRECISION", best)
    if asked not in PRECISIONS:
        raise FieldmarkError(f"FIELDMARK_PRECISION is {asked!r}; it can be {', '.join(PRECISIONS)}")
    return asked


@contextmanager
def determinism() -> Iterator[None]:
    """What Lightning turns on ends with the training: features of another network may have no such
    form on a GPU. Without the filling of new tensors, a sixth of a step, which only serves to
    find code that reads what it has not written.
    """
    before, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """torch and the linear algebra of numpy and scipy with so many threads.

    Steps of a head are so short that several threads gain nothing, and wait for each other whenever
    something else runs.
    """
    before = torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes, which would come with every trial."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*isinstance.treespec, LeafSpec.*"
        )  # its own use of torch
        warnings.filterwarnings(
            "ignore",
            message=".*no `val_dataloader`|.*does not have many workers|.*in eval mode at the",
        )  # as meant
        yield
