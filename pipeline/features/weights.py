"""Where the weights of a network lie, by the name they have in conf/; without torch."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

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
