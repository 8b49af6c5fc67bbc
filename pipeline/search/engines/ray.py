"""The engine `ray`: each item a task of a Ray cluster, by RAY_ADDRESS, or of one on this machine.

Every node has Fieldmark installed, and sees the project's folder and the memo (FIELDMARK_CACHE) at
the same paths as this machine: images and results go through that shared folder, not through Ray.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipeline import FieldmarkError, config
from pipeline.search.engines.interface import ATTEMPTS, Engine, R, T, surroundings, take_over


@contextmanager
def opened(threads: int) -> Iterator[Engine]:
    """An engine of tasks that take so many cores each; raises FieldmarkError without Ray."""
    try:
        import ray
    except ImportError as error:
        raise FieldmarkError("FIELDMARK_ENGINE=ray needs `uv pip install -e '.[ray]'`") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(include_dashboard=None, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise FieldmarkError(f"RAY_ADDRESS: no cluster answers there: {error}") from error
    try:
        yield partial(_computed, ray, threads)
    finally:
        if ours:
            ray.shutdown()


def _computed(
    ray: Any, threads: int, function: Callable[[T], R], items: Sequence[T]
) -> Iterator[R]:
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    environment, folder = surroundings()
    environment["FIELDMARK_CACHE"] = str(config.cache_folder().absolute())
    task = ray.remote(_there).options(
        num_cpus=min(threads, max(nodes)), max_retries=ATTEMPTS - 1, retry_exceptions=False
    )
    asked = [task.remote(environment, folder, function, item) for item in items]
    for result in asked:
        try:
            yield ray.get(result)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RaySystemError as error:
            raise FieldmarkError(f"Ray: {error}") from error


def _there(
    environment: dict[str, str], folder: str, function: Callable[[Any], Any], item: Any
) -> Any:
    take_over(environment, folder)
    return function(item)
