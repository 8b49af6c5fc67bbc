"""The directories of a TIFF, one per page, read from their bytes.

Pillow takes seconds to read a million entries in them, and hours to count as many pages.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.pixels.reasons import BadImage

MAX_PIECES = 2**17  # strips or tiles: more than a thousand megapixels have in tiles of usual size
PIECES = (273, 279, 324, 325)  # the tags that list them


class Layout(NamedTuple):
    """Formats of the numbers in a file: where a directory is, the number of its tags, and a tag."""

    first: int
    offset: struct.Struct
    number: struct.Struct
    entry: struct.Struct


def check_pieces(data: bytes) -> None:
    """Raise BadImage where the first page is in so many pieces that it would take minutes."""
    n = max((n for tag, n in _first(data) if tag in PIECES), default=0)
    if n > MAX_PIECES:
        raise BadImage(f"a TIFF in {n} strips or tiles; the limit is {MAX_PIECES}")


def n_pages(data: bytes) -> int:
    """The number of pages that can be reached, at least 1."""
    layout, visited = _layout(data), set[int]()
    try:
        (at,) = layout.offset.unpack_from(data, layout.first)
        while at and at not in visited:
            behind = (
                at
                + layout.number.size
                + layout.number.unpack_from(data, at)[0] * (layout.entry.size)
            )
            (following,) = layout.offset.unpack_from(data, behind)
            visited.add(at)
            at = following
    except struct.error:  # the file ends there
        pass
    return max(1, len(visited))


def _first(data: bytes) -> Iterator[tuple[int, int]]:
    """The tags of the first page, each with how many values it has."""
    layout = _layout(data)
    try:
        (at,) = layout.offset.unpack_from(data, layout.first)
        (count,) = layout.number.unpack_from(data, at)
        for i in range(count):
            tag, _, n, _ = layout.entry.unpack_from(
                data, at + layout.number.size + i * layout.entry.size
            )
            yield tag, n
    except struct.error:  # the decoder says what is wrong
        return


def _layout(data: bytes) -> Layout:
    order = ">" if data[:2] == b"MM" else "<"
    formats = ("Q", "Q", "HHQQ") if b"\x2b" in data[2:4] else ("I", "H", "HHII")
    offset, number, entry = (struct.Struct(order + form) for form in formats)
    return Layout(offset.size, offset, number, entry)
