"""JPEG, decoded strictly: where libjpeg only warns, and Pillow stays silent, this raises.

The pixels are those of Pillow, to the bit: the same libjpeg-turbo with the same settings.
"""

import re
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from pipeline.pixels.reasons import TRUNCATED, BadImage

# Webcams and phones write a few bytes between the last pixel and the end marker.
PADDING_BYTES = 16
SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # Pillow's mode -> libjpeg's
MISSING = "damaged pixels: a part of the JPEG is missing or overwritten"
SOS = b"\xff\xda"
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers with the size; 4, 8, 12 are tables
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
END = 0xD9
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a pixel, a fill byte or a restart
MAX_SCANS = 100  # each goes over the whole image, and may have ten bytes; encoders write some ten


def decode(data: bytes, mode: str, size: tuple[int, int]) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of Pillow's `mode` and size (width, height), not turned; raises BadImage."""
    _check_header(data, size)
    return _strict(data, colorspace=SPACES[mode])


def check(data: bytes, mode: str, size: tuple[int, int]) -> None:
    """Raise BadImage where `decode` would. The whole file is read, at an eighth of the size."""
    _check_header(data, size)
    check_piece(data)


def check_piece(data: bytes) -> None:
    """Raise BadImage for a JPEG inside another file whose data are damaged."""
    try:
        *_, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError as problem:
        raise BadImage(f"damaged: {problem}") from None
    mode = "CMYK" if space in ("CMYK", "YCCK") else "L"
    _strict(data, colorspace=SPACES[mode], min_height=1, min_width=1, min_factor=8)


def keeps_coefficients(data: bytes) -> bool:
    """Whether all of it must be in memory before the first pixel.

    That holds for a progressive file, and for one scan per colour.
    """
    at, n_colours = 2, 0
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in PROGRESSIVE:
            return True
        if marker in FRAMES:
            n_colours = data[at + 9]
        if marker == SOS[1]:
            return data[at + 4] < n_colours
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True  # not a JPEG, so its cost is unknown


def _check_header(data: bytes, size: tuple[int, int]) -> None:
    """Raise BadImage where the allocated size is not the size that max_pixels was checked for."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError as problem:
        raise BadImage(f"damaged: {problem}") from None
    if (width, height) != size:
        raise BadImage("damaged: its header states two sizes")


def _check_scans(data: bytes) -> None:
    """Raise BadImage for a JPEG of so many scans that decoding would take hours."""
    if not keeps_coefficients(data):
        return
    at, n_scans = 2, 0
    while (marker := MARKER.search(data, at)) and data[marker.end() - 1] != END:
        n_scans += marker.group() == SOS
        if n_scans > MAX_SCANS:
            raise BadImage(f"a JPEG of more than {MAX_SCANS} scans, which is not read")
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _strict(data: bytes, **options: Any) -> np.ndarray:
    _check_scans(data)
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, **options))
    except ValueError as problem:
        warning = str(problem)
    if warning.startswith(("Warning: unknown JFIF", "Invalid SOS")):
        plain = _plain_header(data)
        if plain != data:
            return _strict(plain, **options)
    if _is_padding(warning):
        return np.asarray(simplejpeg.decode_jpeg(data, strict=False, **options))
    if warning.startswith("Premature end of JPEG file"):
        raise BadImage(TRUNCATED)
    if warning.startswith(("Corrupt JPEG data", "Inconsistent progression")):
        raise BadImage(f"{MISSING} ({warning.removeprefix('Corrupt JPEG data: ')})")
    raise BadImage(f"damaged: {warning}")


def _is_padding(warning: str) -> bool:
    """Whether libjpeg's last warning is about padding, which is harmless."""
    extra = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    return extra is not None and int(extra[1]) <= PADDING_BYTES


def _plain_header(data: bytes) -> bytes:
    """The file with the version and scan parameters that it means.

    libjpeg stops at the first warning, and later damage would not be noticed.
    """
    plain = bytearray(data)
    start = data.find(SOS)
    version = data.find(b"JFIF\0", 0, start) + 5
    if version > 4:
        plain[version] = 1
    while start >= 0:
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        plain[end - 3 : end] = b"\x00\x3f\x00"
        start = data.find(SOS, end)
    return bytes(plain[: len(data)])
