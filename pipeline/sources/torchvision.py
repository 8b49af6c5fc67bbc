"""Data sets of torchvision by their name, with the split they come with."""

from collections.abc import Iterator
from functools import partial
from inspect import signature
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from pipeline import FieldmarkError, one_line
from pipeline.sources import Item, Skipped, bounded
from pipeline.sources.encode import png

PARTS = ("train", "val", "valid", "test")


def read(
    *, name: str, root: str, download: bool, max_bytes: int = bounded.MAX_FILE_BYTES
) -> Iterator[Item | Skipped]:
    """Every image of torchvision.datasets.<name>, whose files are in `root` or fetched there.

    Raises FieldmarkError where there is no such set of labelled images, or neither files nor a
    network.
    """
    for part, images in _parts(name, root, download):
        if hasattr(images, "loader"):  # a set of plain files
            images.loader = partial(_loaded, max_bytes=max_bytes)
        classes = [str(label) for label in getattr(images, "classes", [])]
        for number in range(len(images)):
            yield _item(images, number, part, classes, f"{part or name}/{number:06d}.png")


def _item(images: Any, number: int, part: str, classes: list[str], name: str) -> Item | Skipped:
    try:
        image, target = images[number]
    except Exception as problem:  # decoders of damaged files raise nearly every type
        return Skipped(name, f"cannot be read: {problem}")
    if not isinstance(target, int | np.integer) or not isinstance(image, Image.Image):
        raise FieldmarkError(f"{type(images).__name__} holds no images with one class each")
    label = classes[target] if target < len(classes) else str(target)
    data = png(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))
    return Item(name, lambda: data, label, given_split="val" if part == "valid" else part)


def _loaded(path: str, *, max_bytes: int) -> Image.Image:
    """The image that torchvision's own loader returns, of a file that is not too large."""
    return Image.open(BytesIO(bounded.read_file(path, max_bytes))).convert("RGB")


def _parts(name: str, root: str, download: bool) -> Iterator[tuple[str, Any]]:
    from torchvision import datasets  # it loads torch, which other sources do not need

    kind = getattr(datasets, name, None)
    if kind is None or not isinstance(kind, type) or name.startswith("_"):
        raise FieldmarkError(
            f"torchvision has no data set {name!r}; it has {', '.join(sorted(datasets.__all__))}"
        )
    takes = signature(kind).parameters
    extra = {"download": download} if "download" in takes else {}
    if "train" in takes:
        yield from (
            (part, _opened(kind, root, {"train": part == "train", **extra}))
            for part in ("train", "test")
        )
    elif "split" in takes:
        yield from _by_split(kind, root, extra)
    else:
        yield "", _opened(kind, root, extra)


def _by_split(kind: type, root: str, extra: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The splits that the set has; it raises ValueError for a name that it does not have."""
    n_splits = 0
    for part in PARTS:
        try:
            images = _opened(kind, root, {"split": part, **extra})
        except ValueError:
            continue
        n_splits += 1
        yield part, images
    if not n_splits:
        raise FieldmarkError(f"{kind.__name__} is not split into train, val and test")


def _opened(kind: type, root: str, arguments: dict[str, Any]) -> Any:
    try:
        return kind(root=root, **arguments)
    except TypeError as problem:
        raise FieldmarkError(
            f"{kind.__name__} takes more than a name and a folder to open: {problem}"
        ) from problem
    except (OSError, RuntimeError) as problem:
        raise FieldmarkError(
            f"{kind.__name__} is neither in {root} nor can it be fetched: {one_line(problem)}; "
            f"put its files there, or set ingest.source.download: true where there is a network"
        ) from problem
