"""PNG: the checksums that Pillow leaves out, and a colour that is transparent."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from pipeline.pixels.reasons import BadImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}  # the chunks that decide what is to be seen
COLOUR_OF_16_BITS = (16, 2)  # depth and colour type of the header


def check(image: Image.Image, data: bytes) -> None:
    """Raise BadImage where a checksum of the pixels is wrong, or they cannot be shown as meant;
    what is cut short is the decoder's business.

    A transparent grey of 2 or 4 bits is put on the scale of 8 that the decoder uses.
    """
    depth_and_type = depth, _ = tuple(data[24:26])
    for kind, start, end in _chunks(data):
        if kind == b"tRNS" and depth_and_type == COLOUR_OF_16_BITS:
            raise BadImage("a PNG of 16 bits a colour of which one is transparent: save with alpha")
        if kind not in PIXELS:
            continue
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(memoryview(data)[start - 4 : end]) != checksum:
            name = kind.decode()
            raise BadImage(f"damaged pixels: a checksum of the PNG (chunk {name}) is wrong")
    if image.mode == "L" and depth in (2, 4) and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2**depth - 1)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the contents of each that is there in full."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        start = at + 8
        if start + size + 4 > len(data):
            return
        yield data[at + 4 : start], start, start + size
        at = start + size + 4
