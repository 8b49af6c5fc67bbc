"""PNG: the checks that Pillow omits, and transparent colours."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from pipeline.pixels.reasons import BadImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}  # the chunks that decide on the pixels
COLOUR_OF_16_BITS = (16, 2)  # depth and colour type of the header
PALETTE = 3
N_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# first column and row of each pass of an interlaced image, and the steps between
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
ADAM7 += [(0, 1, 1, 2)]
INFLATED_AT_ONCE = 2**20


def check(image: Image.Image, data: bytes) -> None:
    """Raise BadImage where a checksum is wrong, or the pixels cannot be shown as meant.

    A transparent grey of 2 or 4 bits is scaled to the 8 bits that the decoder uses.
    """
    depth, colour_type = data[24], data[25]
    names = set()
    for name, start, end in _chunks(data):
        names.add(name)
        (checksum,) = struct.unpack_from(">I", data, end)
        if name in PIXELS and zlib.crc32(memoryview(data)[start - 4 : end]) != checksum:
            raise BadImage(
                f"damaged pixels: a checksum of the PNG (chunk {name.decode()}) is wrong"
            )
    if colour_type == PALETTE and b"PLTE" not in names:
        raise BadImage("damaged pixels: the palette of the PNG is missing")
    if b"tRNS" in names and (depth, colour_type) == COLOUR_OF_16_BITS:
        raise BadImage("a PNG of 16 bits per colour with a transparent colour: save with alpha")
    if image.mode == "L" and depth in (2, 4) and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2**depth - 1)


def check_end(image: Image.Image, data: bytes) -> None:
    """Raise BadImage where compressed pixels end too early.

    The decoder leaves missing lines black, so only an image whose last line is black is checked.
    """
    width, height = image.size
    if image.crop((0, height - 1, width, height)).getbbox(alpha_only=False):
        return
    if not _inflates_to(data, _n_bytes(data)):
        raise BadImage("damaged pixels: the last lines of the PNG are missing")


def _inflates_to(data: bytes, n_bytes: int) -> bool:
    """Whether the compressed pixels have at least this size.

    What is beyond is not unpacked: a few MB may hold many GB.
    """
    inflate, size = zlib.decompressobj(), 0
    for name, start, end in _chunks(data):
        rest = data[start:end] if name == b"IDAT" else b""
        while rest and size < n_bytes:
            size += len(inflate.decompress(rest, INFLATED_AT_ONCE))
            rest = inflate.unconsumed_tail
    return size >= n_bytes


def _n_bytes(data: bytes) -> int:
    """The size of all lines, each with one byte for its filter."""
    width, height, depth, colour_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    total = 0
    for left, top, right, down in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, lines = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and lines > 0:
            total += lines * (1 + -(-columns * depth * N_SAMPLES[colour_type] // 8))
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the contents of each complete chunk."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        start = at + 8
        if start + size + 4 > len(data):
            return
        yield data[at + 4 : start], start, start + size
        at = start + size + 4
