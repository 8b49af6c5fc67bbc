"""A folder of class folders, or train/, val/ and test/ above class folders.

Whatever lies below a class folder, at any depth, belongs to that class. Links are followed; a folder that
is reached twice is read once. Names are normalised to NFC, so that every file system gives the same table.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import FieldmarkError
from pipeline.sources import Item, Skipped

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
HIDDEN = "hidden file or litter of a file manager"
HOW_TO = "put one folder of images for each class there, or change `images:` in params.yaml"


def read(*, images: Path) -> Iterator[Item | Skipped]:
    """Every file below `images`, sorted by name; raises FieldmarkError where there is no class folder."""
    if not images.is_dir():
        raise FieldmarkError(f"{images} is not a folder; {HOW_TO}")
    folders = [path for path in _listed(images) if path.is_dir() and not _hidden(path)]
    if not folders:
        raise FieldmarkError(f"{images} holds no class folders; {HOW_TO}")
    seen = {images.resolve(): images}
    if _are_splits(folders):
        yield from _outside_classes(images, images)
        for folder in folders:
            yield from _classes(folder, images, SPLITS[folder.name.casefold()], seen)
    else:
        yield from _classes(images, images, "", seen)


def printable(name: str) -> str:
    """The name for tables and terminals: NFC, with undecodable bytes and control characters escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(_visible(letter) for letter in unicodedata.normalize("NFC", text))


def _visible(letter: str) -> str:
    control = unicodedata.category(letter) == "Cc"
    return letter.encode("unicode_escape").decode() if control else letter


def _are_splits(folders: list[Path]) -> bool:
    """A class may be called `train`, too: splits have folders below them."""
    named = all(folder.name.casefold() in SPLITS for folder in folders)
    return named and any(path.is_dir() for folder in folders for path in _listed(folder))


def _classes(parent: Path, root: Path, split: str, seen: dict[Path, Path]) -> Iterator[Item | Skipped]:
    yield from _outside_classes(parent, root)
    for folder in _listed(parent):
        if folder.is_dir() and not _hidden(folder):
            yield from _class(folder, root, split, seen)


def _outside_classes(parent: Path, root: Path) -> Iterator[Skipped]:
    for path in _listed(parent):
        if _hidden(path):
            yield Skipped(_name(path, root), HIDDEN)
        elif not path.is_dir():
            yield Skipped(_name(path, root), "not inside a class folder")


def _class(folder: Path, root: Path, split: str, seen: dict[Path, Path]) -> Iterator[Item | Skipped]:
    label = printable(folder.name)
    empty = True
    for entry in _below(folder, root, seen):
        if isinstance(entry, Skipped):
            empty = empty and entry.reason == HIDDEN
            yield entry
        else:
            empty = False
            yield Item(_name(entry, root), entry.read_bytes, label, given_split=split)
    if empty:
        yield Skipped(f"{_name(folder, root)}/", "class folder holds no files")


def _below(folder: Path, root: Path, seen: dict[Path, Path]) -> Iterator[Path | Skipped]:
    real = folder.resolve()
    if real in seen:
        first = _name(seen[real], root)
        yield Skipped(f"{_name(folder, root)}/", f"link to a folder that is read already: {first}")
        return
    seen[real] = folder
    try:
        paths = _listed(folder)
    except OSError as problem:
        yield Skipped(f"{_name(folder, root)}/", f"cannot be listed: {problem.strerror}")
        return
    for path in paths:
        reason = _unusable(path)
        if reason:
            yield Skipped(_name(path, root), reason)
        elif path.is_dir():
            yield from _below(path, root, seen)
        else:
            yield path


def _unusable(path: Path) -> str:
    if _hidden(path):
        return HIDDEN
    if path.is_symlink() and not path.exists():
        return "link to nothing"
    if not (path.is_dir() or path.is_file()):
        return "not a file but a pipe, socket or device"  # reading a pipe would wait for ever
    return ""


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.casefold() in LITTER


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: (printable(path.name), path.name))


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())
