"""What the rest of the package knows of an engine."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 3  # at an item whose process or machine dies


@runtime_checkable
class Engine(Protocol):
    """Like `map`: function(item) for each item, in the order of the items, wherever it is computed.

    Function, items and results are pickled where they leave this process. An item whose process or
    machine dies is computed again. An error of the function is raised here.
    """

    def __call__(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]: ...


def surroundings() -> tuple[dict[str, str], str]:
    """What another process must take over: the environment variables of Fieldmark and the folder."""
    ours = {key: value for key, value in os.environ.items() if key.startswith("FIELDMARK")}
    return ours, str(Path.cwd())


def take_over(environment: Mapping[str, str], folder: str) -> None:
    """Work in these surroundings; in this process's own folder where that one is not there."""
    os.environ.update(environment)
    if Path(folder).is_dir():
        os.chdir(folder)
