"""The members of a zip file, also of one whose end, and so its list of contents, is lost."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from pipeline.sources import Skipped
from pipeline.sources.layout import printable

Found = tuple[str, str, Callable[[], bytes] | None]  # name, reason not to take it, load; None is a folder

LOCAL = struct.Struct("<4s5H3L2H")  # a member's own header
ENCRYPTED, SIZE_BEHIND, UTF8 = 1, 8, 0x800  # flags


def members(stream: IO[bytes], where: str, max_bytes: int) -> Iterator[Found | Skipped]:
    """In the order stored. A load raises OSError where the member is damaged or larger than it claims."""
    try:
        archive = zipfile.ZipFile(stream)
    except Exception:  # zipfile raises whatever its parsing of a damaged list meets
        yield Skipped(printable(where.rpartition("/")[2]), "truncated or damaged archive: what stands before the damage is taken")
        yield from _salvaged(stream, max_bytes)
        return
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # some Windows programs write it so
        if info.is_dir():
            yield name, "", None
        else:
            yield name, _unusable(info, max_bytes), partial(_load, archive, info)


def _unusable(info: zipfile.ZipInfo, max_bytes: int) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & ENCRYPTED:
        return "encrypted"
    if kind == stat.S_IFLNK:
        return "a link; links in an archive are not followed"
    if kind not in (0, stat.S_IFREG):
        return "not a file but a pipe, socket or device"
    return too_large(info.file_size, max_bytes)


def too_large(n_bytes: int, max_bytes: int) -> str:
    """The reason, or ""."""
    return f"unpacks to {n_bytes / 1e6:.0f} MB, over the limit of {max_bytes / 1e6:g}" if n_bytes > max_bytes else ""


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)  # never more than the size that was declared, and checked
    except Exception as problem:  # BadZipFile, zlib.error, NotImplementedError, struct.error, ...
        raise OSError(f"damaged in the archive: {problem or type(problem).__name__}") from problem


def _salvaged(stream: IO[bytes], max_bytes: int) -> Iterator[Found | Skipped]:
    position = 0
    while True:
        stream.seek(position)
        header = stream.read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(b"PK\x03\x04"):
            return
        _, _, flags, method, _, _, crc, packed, size, n_name, n_extra = LOCAL.unpack(header)
        raw = stream.read(n_name)
        name = raw.decode("utf-8" if flags & UTF8 else "cp437", "backslashreplace").replace("\\", "/")
        start = position + LOCAL.size + n_name + n_extra
        if flags & SIZE_BEHIND and not packed:
            yield name, "its size stood in the lost part of the archive, and so does all that follows", partial(bytes)
            return
        if not name.endswith("/"):
            reason = "encrypted" if flags & ENCRYPTED else too_large(size, max_bytes)
            yield name, reason, partial(_unpacked, stream, start, packed, size, method, crc)
        position = start + packed


def _unpacked(stream: IO[bytes], start: int, packed: int, size: int, method: int, crc: int) -> bytes:
    stream.seek(start)
    raw = stream.read(packed)
    if len(raw) < packed:
        raise OSError("truncated: the archive ends within this file")
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OSError("packed by a method that is not read from a damaged archive")
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, size or 1) if method else raw
    except zlib.error as problem:
        raise OSError(f"damaged in the archive: {problem}") from problem
    if zlib.crc32(data) != crc:
        raise OSError("damaged in the archive: wrong checksum")
    return data
