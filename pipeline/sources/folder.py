"""A folder of class folders, on this machine or behind any address that fsspec knows (see layout
for the rules).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, address
from pipeline.sources.layout import HOW_TO, Node
from pipeline.sources.layout import read as arranged


def read(*, images: Path | str, unlabelled: str | None = None) -> Iterator[Item | Skipped]:
    """Every file below `images`, sorted by name; raises FieldmarkError where there is no class
    folder.

    `unlabelled` names the folder, beside the class folders, of images without a label. Links are
    followed.
    """
    if address.is_remote(images):
        place = address.Address(str(images))
        for entry in arranged(place.tree(), str(images), unlabelled):
            yield (
                entry
                if isinstance(entry, Skipped)
                else Item(
                    entry.name,
                    place.loader(entry.content),
                    entry.label,
                    given_split=entry.split,
                    stamp=place.stamp(entry.content),
                )
            )
        return
    for local in arranged(tree(Path(images)), str(images), unlabelled):
        yield (
            local
            if isinstance(local, Skipped)
            else Item(
                local.name,
                local.content.read_bytes,
                local.label,
                given_split=local.split,
                stamp=address.stamp(local.content),
            )
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
    return _node(root)


def _node(path: Path) -> Node[Path]:
    if path.is_symlink() and not path.exists():
        return Node(path.name, reason="link to nothing")
    if path.is_dir():
        return Node(
            path.name,
            children=lambda: [_node(inner) for inner in path.iterdir()],
            place=os.path.realpath(path),
        )
    if path.is_file():
        return Node(path.name, path)
    return Node(
        path.name, reason="not a file but a pipe, socket or device"
    )  # reading a pipe would wait for ever
