"""A folder of class folders, on this machine or behind an address of fsspec (see layout)."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, address, bounded, walk
from pipeline.sources.layout import HOW_TO, Node, Placed
from pipeline.sources.layout import read as arranged
from pipeline.sources.walk import Entry, Kind

LINKED = "a link to a folder elsewhere, which is not followed"


def read(
    *,
    images: Path | str,
    unlabelled: str | None = None,
    class_level: int | None = None,
    private_addresses: bool = False,
    max_bytes: int = bounded.MAX_FILE_BYTES,
) -> Iterator[Item | Skipped]:
    """Every file below `images`, sorted by name.

    `unlabelled` names the folder, beside the class folders, of images without a label; for
    `class_level` see layout. Links to files are followed, links to folders are not: DVC would not
    notice a change behind them. A web server may stand in a private network only where
    private_addresses allows it. Raises FieldmarkError where there is no class folder, or where the
    folders may be no classes.
    """
    if address.is_remote(images):
        place = address.Address(str(images), private=private_addresses)
        for entry in arranged(place.tree(), str(images), unlabelled, class_level):
            yield entry if isinstance(entry, Skipped) else _remote_item(entry, place, max_bytes)
    else:
        for local in arranged(tree(Path(images)), str(images), unlabelled, class_level):
            yield local if isinstance(local, Skipped) else _local_item(local, max_bytes)


def _remote_item(file: Placed[str], place: address.Address, max_bytes: int) -> Item:
    return Item(
        file.name,
        place.loader(file.content, max_bytes),
        file.label,
        given_split=file.split,
        stamp=place.stamp(file.content),
    )


def _local_item(file: Placed[Path], max_bytes: int) -> Item:
    return Item(
        file.name,
        partial(bounded.read_file, file.content, max_bytes),
        file.label,
        given_split=file.split,
        stamp=address.stamp(file.content),
    )


def tree(root: Path) -> Node[Path]:
    """The folder for `layout.read`; raises FieldmarkError where it is none."""
    if root.is_file():
        raise FieldmarkError(
            f"{root} is a file; a zip or tar is read by `ingest: {{use: archive}}`, a list by "
            f"`ingest: {{use: listing}}`"
        )
    if not root.is_dir():
        raise FieldmarkError(f"{root} is not a folder; {HOW_TO}")
    try:
        entries = walk.entries(root)
    except OSError as problem:
        raise FieldmarkError(f"{root} cannot be listed: {problem.strerror}") from problem
    top = os.path.realpath(root)
    return Node(root.name, children=lambda: [_node(entry, top) for entry in entries], place=top)


def _node(entry: Entry, top: str) -> Node[Path]:
    path = entry.path
    if entry.kind is Kind.FOLDER:
        return Node(
            path.name,
            children=lambda: [_node(inner, top) for inner in walk.entries(path)],
            place=os.path.realpath(path),
        )
    if entry.kind is Kind.FILE:
        return Node(path.name, path)
    if entry.kind is Kind.LINK:
        return Node(path.name, place=os.path.realpath(path), reason=_behind(path, top))
    return Node(path.name, reason=entry.kind.value)


def _behind(link: Path, top: str) -> str:
    place = walk.read_already(link, top)
    return f"link to a folder that is read already: {place}" if place else LINKED
