"""Nodes with `_target_`: which callables a section may name, and what they build.

A configuration may come from anybody, so a node may name only what its section is for, at any
depth: nothing is imported before all names below a node are allowed, and nothing is called before
all that they name is of the right kind. Nodes hold `_target_` and arguments; Hydra's `_args_`,
`_partial_`, `_recursive_` and `_convert_`, and its interpolations, mean nothing here.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline import FieldmarkError
from pipeline.config import messages

TARGET = "_target_"
# Albumentations would ask the network for a newer release at import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Its part for torch, which nothing here uses, would load torch; it goes without where there is none.
sys.modules.setdefault("albumentations.pytorch", None)  # type: ignore[arg-type]


class Rule(NamedTuple):
    """`names`: what `_target_` may be; `bases`: the classes of which it must be one, by their full
    names; none for a function.
    """

    names: re.Pattern[str]
    bases: tuple[str, ...]
    words: str


ALLOWED = {  # by the group of conf/
    "ingest": Rule(
        re.compile(r"pipeline\.sources\.[a-z]\w*\.read(_\w+)?", re.ASCII),
        (),
        "a function `read` or `read_...` of a module of pipeline.sources",
    ),
    "candidate": Rule(
        re.compile(r"pipeline\.features\.[a-z]\w*\.[A-Z]\w*", re.ASCII),
        ("torch.nn.modules.module.Module",),
        "an extractor (a torch Module) of a module of pipeline.features",
    ),
    "augment": Rule(
        re.compile(r"albumentations\.[A-Z]\w*", re.ASCII),
        (
            "albumentations.core.transforms_interface.BasicTransform",
            "albumentations.core.composition.BaseCompose",
        ),
        "a transform of albumentations, as albumentations.NAME",
    ),
}


def build(node: Mapping[str, Any], group: str, **extra: Any) -> Any:
    """The object that a node of a section of this group of conf/ describes; `extra` arguments are
    passed to it where it takes them.

    Raises FieldmarkError where the node, or one below it, names what it may not.
    """
    below = [node, *(inner for _, inner in nodes(node, ""))]
    for inner in below:
        check_name(inner, group)
    callables = {inner[TARGET]: target(inner, group) for inner in below}
    takes = inspect.signature(callables[node[TARGET]]).parameters
    given = {key: value for key, value in extra.items() if key in takes}
    return _built({**node, **given}, callables)


def target(node: Mapping[str, Any], group: str) -> Any:
    """The callable that a node names. Raises FieldmarkError where the group may not name it, or
    there is none.
    """
    check_name(node, group)
    name = str(node[TARGET])
    module, _, attribute = name.rpartition(".")
    try:
        named = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise FieldmarkError(f"{TARGET}: there is no module {error.name}") from error
    except AttributeError as error:
        names = [n for n in dir(importlib.import_module(module)) if not n.startswith("_")]
        raise FieldmarkError(
            f"{TARGET}: {module} has no {attribute}; {messages.nearest(attribute, names)}"
        ) from error
    if not _is_of_its_kind(named, module, ALLOWED[group].bases):
        raise FieldmarkError(f"{TARGET}: {name} is not {ALLOWED[group].words}")
    return named


def nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with `_target_`, or with another key that only Hydra knows, at or below a node,
    with its path.
    """
    if isinstance(node, Mapping):
        if any(_is_hydras(key) for key in node):
            yield path, dict(node)
        for key, value in node.items():
            yield from nodes(value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from nodes(value, f"{path}[{i}]")


def check_name(node: Mapping[str, Any], group: str) -> None:
    """Raise FieldmarkError where the group may not hold this node; imports nothing."""
    for key in node:
        if _is_hydras(key) and key != TARGET:
            raise FieldmarkError(f"{key} is not a key of a node; write {TARGET} and arguments")
    name = node.get(TARGET)
    if group not in ALLOWED:
        raise FieldmarkError(f"{TARGET}: {name}: nothing may be called from this section")
    if not isinstance(name, str) or not ALLOWED[group].names.fullmatch(name):
        raise FieldmarkError(
            f"{TARGET}: {name}: what may be called from this section is {ALLOWED[group].words}"
        )


def _is_hydras(key: Any) -> bool:
    return isinstance(key, str) and len(key) > 2 and key.startswith("_") and key.endswith("_")


def _is_of_its_kind(named: Any, module: str, bases: tuple[str, ...]) -> bool:
    """A function of that very module, or a class of one of the bases: not what it has imported."""
    if not bases:
        return inspect.isfunction(named) and named.__module__ == module
    if not inspect.isclass(named) or inspect.isabstract(named):
        return False
    above = {f"{base.__module__}.{base.__qualname__}" for base in inspect.getmro(named)}
    return bool(above & set(bases)) and named.__module__.startswith(module)


def _built(value: Any, callables: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        made = {key: _built(inner, callables) for key, inner in value.items() if key != TARGET}
        return callables[value[TARGET]](**made) if TARGET in value else made
    if isinstance(value, list | tuple):
        return [_built(inner, callables) for inner in value]
    return value
