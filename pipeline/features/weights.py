"""Where the weights of a network lie, by the name they have in conf/; without torch."""

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from pipeline import FieldmarkError


class Unavailable(FieldmarkError):
    """Weights that are not on this machine, and cannot be downloaded."""


def file_of(weights: str) -> Path | None:
    """The file, or the one in an installed package; None for `hub` and `random`, which are no file
    of ours.

    Raises Unavailable where there is none, FieldmarkError where there is more than one.
    """
    if weights in {"hub", "random"}:
        return None
    if Path(weights).is_file():
        return Path(weights)
    try:
        inside = [
            Path(str(f.locate()))
            for f in files(weights) or []
            if f.suffix in {".pth", ".pt", ".safetensors"}
        ]
    except PackageNotFoundError as error:
        raise Unavailable(
            f"extractor.weights: {weights!r} is neither a file nor an installed package; "
            "name a .safetensors or .pth file, `hub` to download, or `random` to start from nothing"
        ) from error
    if len(inside) != 1:
        raise FieldmarkError(
            f"extractor.weights: the package {weights} holds {len(inside)} weights files, not one"
        )
    return inside[0]


def nodes(extractor: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of an extractor, and of those that it is made of, at any depth."""
    parts = (part for value in extractor.values() if isinstance(value, list) for part in value)
    return [extractor, *(n for part in parts if isinstance(part, Mapping) for n in nodes(part))]


def named(extractor: Mapping[str, Any]) -> list[str]:
    """The weights of each network in an extractor's settings; those of a network of which nothing is
    said come from the hub.
    """
    return [
        str(node.get("weights", "hub"))
        for node in nodes(extractor)
        if "weights" in node or "name" in node
    ]


def without(extractor: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with random weights in place of all others, for loading trained ones."""
    parts = {
        key: [without(part) if isinstance(part, Mapping) else part for part in value]
        for key, value in extractor.items()
        if isinstance(value, list)
    }
    mine = {"weights": "random"} if "weights" in extractor or "name" in extractor else {}
    return {**extractor, **parts, **mine}


def content(extractor: Mapping[str, Any]) -> str:
    """What the weights are that an extractor's settings name: the hash of each file, or the name
    where they come from the hub, or from a seed.
    """
    contents = []
    for name in named(extractor):
        file = file_of(name)
        contents.append(hashlib.sha256(file.read_bytes()).hexdigest() if file else name)
    return " ".join(contents)


def computes() -> list[str]:
    """What numbers are computed on, since a GPU rounds otherwise; without torch, as engine.name
    says it with torch.
    """
    chosen = [
        f"{name}={os.environ[name]}"
        for name in ("CUDA_VISIBLE_DEVICES", "FIELDMARK_ACCELERATOR", "FIELDMARK_PRECISION")
        if name in os.environ
    ]
    return [*sorted(map(str, Path("/dev").glob("nvidia[0-9]*"))), *chosen]
