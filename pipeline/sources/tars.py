"""The members of a tar file, plain or compressed, up to where it is damaged."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO

from pipeline import FieldmarkError
from pipeline.sources import Skipped
from pipeline.sources.layout import printable
from pipeline.sources.zips import Member, too_large

# tarfile raises the last three: for numbers in a header that are none or too large, and for headers
# of headers without an end.
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
MAX_HEADER_BYTES = 2**20  # tarfile reads the long name that a header announces whole into memory


class _Careful(tarfile.TarInfo):
    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in HEADERS and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]


def is_compressed(stream: IO[bytes]) -> bool:
    """Whether every step back would unpack again from the start."""
    stream.seek(0)
    return stream.read(6).startswith(COMPRESSED)


def members(
    stream: IO[bytes], where: str, max_bytes: int, max_ratio: float
) -> Iterator[Member | Skipped]:
    """In the order stored, up to the first damage.

    Raises FieldmarkError where it is no archive. A load raises OSError where a member is damaged.
    """
    most = max_ratio * stream.seek(0, 2) if is_compressed(stream) else None
    stream.seek(0)
    try:
        # Left open: the items read from it later.
        tar = tarfile.open(fileobj=stream, tarinfo=_Careful, errorlevel=1)  # noqa: SIM115
    except (tarfile.TarError, *DAMAGE) as problem:
        raise FieldmarkError(
            f"{where} is neither a zip nor a tar archive that can be read"
        ) from problem
    last = -1
    while True:
        try:
            info = _next(tar, last)
        except (tarfile.TarError, *DAMAGE) as problem:
            yield Skipped(
                printable(where.rpartition("/")[2]),
                f"truncated or damaged archive: the rest is lost ({problem})",
            )
            return
        if info is None:
            return
        last = info.offset
        yield (
            info.name,
            "" if info.isdir() else _unusable(info, max_bytes),
            None if info.isdir() else partial(_load, tar, info),
        )
        if most is not None and info.offset_data + info.size > most:
            yield Skipped(
                printable(where.rpartition("/")[2]),
                f"unpacks to over {max_ratio:g} times its size: the rest is not read",
            )
            return


def _next(tar: tarfile.TarFile, last: int) -> tarfile.TarInfo | None:
    """The next header, None at the end; raises ReadError where tarfile overlooks damage.

    last: the offset of the header before.
    """
    info = tar.next()
    # After a negative size, tarfile would go round for ever.
    if info and info.offset <= last:
        raise tarfile.ReadError("a header leads back to an earlier one")
    if info is None and _behind(tar).strip(b"\0"):  # tarfile takes noise for the end
        raise tarfile.ReadError("noise where a header should be")
    return info


def _behind(tar: tarfile.TarFile) -> bytes:
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    return tar.fileobj.read(tarfile.BLOCKSIZE)


def _unusable(info: tarfile.TarInfo, max_bytes: int) -> str:
    if info.issym() or info.islnk():
        return "a link; links in an archive are not followed"
    if not info.isreg():
        return "not a file but a pipe, socket or device"
    return too_large(info.size, max_bytes)


def _load(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        content = tar.extractfile(info)
        assert content is not None
        with content:
            data = content.read()
    except (tarfile.TarError, *DAMAGE) as problem:
        raise OSError(f"truncated in the archive: {problem}") from problem
    if len(data) < info.size:
        raise OSError("truncated: the archive ends within this file")
    return data
