"""The engine `local`: in this process, one item after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.search.engines.interface import Engine, R, T


@contextmanager
def opened() -> Iterator[Engine]:
    """An engine that starts nothing."""
    yield _computed


def _computed(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    return map(function, items)
