"""The members of a zip file, also of one whose end, with the list of contents, is lost."""

import bz2
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from pipeline.sources import Skipped
from pipeline.sources.layout import printable

# Name, reason to leave it out or "", and what loads it; None for a folder.
Member = tuple[str, str, Callable[[], bytes] | None]

BEGIN = b"PK\x03\x04"
LOCAL = struct.Struct("<4s5H3L2H")  # a member's own header
ENCRYPTED, SIZE_BEHIND, UTF8 = 1, 8, 0x800  # flags
# These stop at a size: zipfile itself unpacks a whole member before it checks its size.
UNPACKING: dict[int, Callable[[], Any]] = {
    zipfile.ZIP_DEFLATED: partial(zlib.decompressobj, -zlib.MAX_WBITS),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
}


def members(stream: IO[bytes], where: str, max_bytes: int) -> Iterator[Member | Skipped]:
    """In the order stored.

    A load raises OSError where the member is damaged or larger than it claims.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except Exception:  # parsing a damaged list raises anything
        yield Skipped(
            printable(where.rpartition("/")[2]),
            "truncated or damaged archive: only files before the damage are read",
        )
        yield from _salvaged(stream, max_bytes)
        return
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # some Windows programs write it so
        if name.endswith("/"):
            yield name, "", None
        else:
            yield name, _unusable(info, max_bytes), partial(_load, stream, info)


def _unusable(info: zipfile.ZipInfo, max_bytes: int) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & ENCRYPTED:
        return "encrypted"
    if kind == stat.S_IFLNK:
        return "a link; links in an archive are not followed"
    if kind not in (0, stat.S_IFREG):
        return "not a file but a pipe, socket or device"
    return too_large(max(info.file_size, info.compress_size), max_bytes)


def too_large(n_bytes: int, max_bytes: int) -> str:
    """The reason to leave out a member of this size, or ""."""
    return (
        f"unpacks to {n_bytes / 1e6:.0f} MB, over the limit of {max_bytes / 1e6:g}"
        if n_bytes > max_bytes
        else ""
    )


def _load(stream: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    stream.seek(max(0, info.header_offset))  # a damaged list of contents gives a wrong place
    header = stream.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(BEGIN):
        raise OSError("damaged in the archive: there is no file where it should be")
    *_, n_name, n_extra = LOCAL.unpack(header)
    return _unpacked(
        stream,
        stream.tell() + n_name + n_extra,
        info.compress_size,
        info.file_size,
        info.compress_type,
        info.CRC,
    )


def _salvaged(stream: IO[bytes], max_bytes: int) -> Iterator[Member | Skipped]:
    position = 0
    while True:
        stream.seek(position)
        header = stream.read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(BEGIN):
            return
        _, _, flags, method, _, _, crc, packed, size, n_name, n_extra = LOCAL.unpack(header)
        raw = stream.read(n_name)
        name = raw.decode("utf-8" if flags & UTF8 else "cp437", "backslashreplace").replace(
            "\\", "/"
        )
        start = position + LOCAL.size + n_name + n_extra
        if flags & SIZE_BEHIND and not packed:
            yield (
                name,
                "the lost part of the archive held its size and all files after it",
                partial(bytes),
            )
            return
        if not name.endswith("/"):
            reason = "encrypted" if flags & ENCRYPTED else too_large(max(size, packed), max_bytes)
            yield name, reason, partial(_unpacked, stream, start, packed, size, method, crc)
        position = start + packed


def _unpacked(
    stream: IO[bytes], start: int, packed: int, size: int, method: int, crc: int
) -> bytes:
    stream.seek(start)
    raw = stream.read(packed)
    if len(raw) < packed:
        raise OSError("truncated: the archive ends within this file")
    if method != zipfile.ZIP_STORED and method not in UNPACKING:
        raise OSError("compressed by a method that is not supported: compress it anew, by deflate")
    try:
        data = UNPACKING[method]().decompress(raw, size or 1) if method in UNPACKING else raw
    except (zlib.error, OSError, EOFError) as problem:
        raise OSError(f"damaged in the archive: {problem}") from problem
    if zlib.crc32(data) != crc:
        raise OSError("damaged in the archive: wrong checksum")
    return data
