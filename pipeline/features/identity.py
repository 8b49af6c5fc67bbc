"""Which extractor it is, for the memo: by what it holds, or by the settings that it is built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.features import weights
from pipeline.storage import memo

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torch", "torchvision", "timm", "openvino")


def fingerprint(module: nn.Module) -> str:
    """Of the weights, the architecture as printed, the plain settings, the code and the engine."""
    from pipeline.features import engine

    settings = {
        k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, list, tuple))
    }
    state = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    return memo.key(
        {"printed": str(module), "settings": settings, "names": [*state], "by": engine.name()},
        *state.values(),
        code=("pipeline.features.engine", type(module).__module__),
        libraries=LIBRARIES,
    )


def question(settings: Mapping[str, Any]) -> str | None:
    """Of what the settings are built to; None where more than settings and code decides on that."""
    if settings.get("weights") in ("hub", "random"):
        return None
    asked = {
        "settings": dict(settings),
        "weights": weights.content(settings),
        "by": weights.computes(),
    }
    target = settings["_target_"].rpartition(".")[0]
    return memo.key(asked, code=("pipeline.features.cache", target), libraries=LIBRARIES)
