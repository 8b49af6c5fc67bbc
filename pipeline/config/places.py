"""Where a project keeps what is no result."""

import os
from pathlib import Path

STATE = ".fieldmark"  # of a project: caches, locks, keys, records, images on their way


def home() -> Path:
    """The project folder, also from inside the temporary copies in which DVC runs queued
    experiments.
    """
    here = Path.cwd().resolve()
    return next(
        (p.parent.parent for p in here.parents if p.name == "tmp" and p.parent.name == ".dvc"), here
    )


def cache_folder() -> Path:
    """What is computed once for all runs; may be deleted at any time."""
    return Path(os.environ.get("FIELDMARK_CACHE", home() / STATE / "cache"))


def made(folder: Path) -> Path:
    """The folder, made with its parents where it is not there. A `.fieldmark` at or above it is its
    owner's alone, whoever makes it first: photos, keys and records lie in it.

    One that others may read is closed to them; of another account only that one can.
    """
    own = next((path for path in (folder, *folder.parents) if path.name == STATE), None)
    if own is not None:
        own.parent.mkdir(parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        _close(own, 0o700)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def private(file: Path) -> Path:
    """The file, made empty where it is not there, which only its owner may read and write."""
    made(file.parent)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    _close(file, 0o600)
    return file


def _close(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o077:
        try:
            path.chmod(mode)
        except OSError:  # another account's, or on a disk that cannot be written to
            return
