"""Which extractor it is, for the memo: by what it holds, or by the settings that it is built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.features import weights
from pipeline.storage import memo

if TYPE_CHECKING:
    from torch import nn

PLAIN = (int, float, str, list, tuple)
LIBRARIES = ("torch", "torchvision", "timm", "openvino")


def fingerprint(module: nn.Module) -> str:
    """Of the weights, the architecture as printed, the plain settings, the code and the engine."""
    from pipeline.features import engine

    state = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    return memo.key(
        {
            "printed": str(module),
            "settings": plain_settings(module),
            "names": [*state],
            "by": engine.name(),
        },
        *state.values(),
        code=("pipeline.features.engine", *code(module)),
        libraries=LIBRARIES,
    )


def plain_settings(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Numbers and names that an extractor holds, and those that it is made of, if they are ours."""
    ours = code(module)
    return {
        name: {k: v for k, v in vars(part).items() if isinstance(v, PLAIN)}
        for name, part in module.named_modules()
        if type(part).__module__ in ours
    }


def code(module: nn.Module) -> tuple[str, ...]:
    """The modules of code of an extractor, and of ours that it is made of."""
    parts = {type(part).__module__ for part in module.modules()}
    return tuple(
        sorted({type(module).__module__, *(p for p in parts if p.startswith(__package__))})
    )


def question(settings: Mapping[str, Any]) -> str | None:
    """Of what the settings are built to; None where more than settings and code decides on that."""
    if {"hub", "random"} & set(weights.named(settings)):
        return None
    asked = {
        "settings": dict(settings),
        "weights": weights.content(settings),
        "by": weights.computes(),
    }
    return memo.key(asked, code=("pipeline.features.cache", *named(settings)), libraries=LIBRARIES)


def named(settings: Mapping[str, Any]) -> list[str]:
    """The modules of code that an extractor's settings name, at any depth."""
    return sorted({node["_target_"].rpartition(".")[0] for node in weights.nodes(settings)})
