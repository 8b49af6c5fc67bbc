"""Where photos lie on this machine, by the hash of their bytes.

A stage's output shows photos in files that do not name them: arrays, contact sheets, reports. So a
folder counts as a whole: where one of its files names a photo, all of it may show the photo.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEXT = {".csv", ".json", ".html", ".yaml", ".md", ".svg", ".txt", ".jsonl"}
BLOCK = 2**20


def photos(folder: Path, ids: Collection[str]) -> list[Path]:
    """The files below a folder whose bytes have one of these SHA-256."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return [file for file in files if sha256(file) in ids]


def sha256(file: Path) -> str:
    """The id of a photo: the hash of its bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def shows(folder: Path, ids: Collection[str]) -> bool:
    """Whether a file below the folder names one of the photos."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return any(names(file, file.suffix, ids) for file in files)


def names(file: Path, suffix: str, ids: Collection[str]) -> bool:
    """Whether a file of this kind names one of the photos; arrays and pictures name none."""
    if suffix == ".parquet":
        return _column(file, ids)
    return suffix in TEXT and _text(file, ids)


def cached(cache: Path, ids: Collection[str]) -> list[Path]:
    """The objects of DVC's cache that belong to folders which show a photo.

    An object that a folder without the photo has, too, stays, unless it names the photo itself.
    """
    doomed: set[Path] = set()
    kept: set[Path] = set()
    for listing in sorted(cache.glob("??/*.dir")):
        objects = dict(_objects(cache, listing))
        naming = {file for file, suffix in objects.items() if names(file, suffix, ids)}
        doomed |= naming | ({listing, *objects} if naming else set())
        kept |= set() if naming else set(objects)
    named = {file for file in doomed & kept if names(file, ".parquet", ids) or _text(file, ids)}
    return sorted(file for file in (doomed - kept) | named if file.exists())


def _objects(cache: Path, listing: Path) -> Iterator[tuple[Path, str]]:
    """The objects of a folder in the cache, with the suffixes that their files have there."""
    for entry in json.loads(listing.read_bytes()):
        file = cache / entry["md5"][:2] / entry["md5"][2:]
        if file.exists():
            yield file, Path(entry["relpath"]).suffix


def _column(file: Path, ids: Iterable[str]) -> bool:
    try:
        with pq.ParquetFile(file) as table:
            if "id" not in table.schema_arrow.names:
                return False
            found = table.read(["id"])["id"].to_pylist()
    except (pa.ArrowInvalid, OSError):
        return False
    return not set(ids).isdisjoint(found)


def _text(file: Path, ids: Iterable[str]) -> bool:
    wanted, tail = [id.encode() for id in ids], b""
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            tail = tail[-64:] + block
            if any(id in tail for id in wanted):
                return True
    return False
