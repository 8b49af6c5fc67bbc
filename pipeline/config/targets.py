"""Nodes with `_target_`: which callables a configuration may name, and what they build."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import FieldmarkError
from pipeline.config import messages

TARGETS = ("pipeline.", "albumentations.")  # what a configuration file may call


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """The object that a node with `_target_` describes; `extra` arguments are passed where the
    target takes them.

    Raises FieldmarkError as the target does, without Hydra's wrapping.
    """
    from hydra.errors import InstantiationException  # takes a second to import
    from hydra.utils import instantiate

    takes = inspect.signature(target(node["_target_"])).parameters
    try:
        return instantiate(
            dict(node), **{k: v for k, v in extra.items() if k in takes}, _convert_="all"
        )
    except InstantiationException as error:
        if isinstance(error.__cause__, FieldmarkError):
            raise error.__cause__ from None
        raise


def target(name: str) -> Any:
    """The callable that a configuration names. Raises FieldmarkError where it may not, or there is
    none.
    """
    if not name.startswith(TARGETS):
        raise FieldmarkError(
            f"_target_: {name}: only {' and '.join(TARGETS)} may be called from a configuration"
        )
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise FieldmarkError(f"_target_: there is no module {error.name}") from error
    except AttributeError as error:
        names = [n for n in dir(importlib.import_module(module)) if not n.startswith("_")]
        raise FieldmarkError(
            f"_target_: {module} has no {attribute}; {messages.nearest(attribute, names)}"
        ) from error


def nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with `_target_` below a node, with its path."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from nodes(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from nodes(value, f"{path}[{i}]")
