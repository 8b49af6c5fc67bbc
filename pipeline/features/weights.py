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


def content(extractor: Mapping[str, Any]) -> str:
    """What the weights are that an extractor's settings name: the hash of their file, or their name
    where they come from the hub, or from a seed.
    """
    name = str(extractor.get("weights", ""))
    file = file_of(name) if name else None
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else name


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
