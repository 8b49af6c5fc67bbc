"""What decoding costs in memory, from the header alone.

The figures are peaks of resident memory, measured with Pillow 13 and simplejpeg 1.9 on images of 6
megapixels; tests/pixels/test_cost.py checks them for every format and mode.
"""

from collections.abc import Sequence
from math import ceil

from PIL import Image

from pipeline.pixels import exif, jpeg
from pipeline.pixels.images import FORMATS, JPEGS, opened

FIXED_BYTES = 14_000_000  # strips in conversion, threads, code loaded at the first image
BLOCK_PX = 32  # decoders allocate in blocks: 1 pixel costs as much as 32

# Bytes per pixel: what the decoder holds, including 3 of the result.
ONE_BYTE, TWO_BYTES, FOUR_BYTES = 5.0, 7.0, 8.5
BY_MODE = {"1": ONE_BYTE, "L": ONE_BYTE, "P": ONE_BYTE, "I;16": TWO_BYTES, "I;16B": TWO_BYTES}
BY_FORMAT = {"WEBP": 16.5, "PPM": 12.5, "AVIF": 20.0, "GIF": 6.5}
TIFF_TURNED = {ONE_BYTE: 6.0, TWO_BYTES: 8.0, FOUR_BYTES: 12.5}  # turned, or read through a buffer
JPEG_2000 = {1: 9.5, 2: 17.0, 3: 23.5, 4: 29.5}  # by number of bands, of 16 bits each
JPEG_AT_ONCE = {"L": 4.0, "RGB": 6.0, "CMYK": 8.5}  # RGB: 3.5 where it is not turned
JPEG_BY_SCANS = {"L": 4.0, "RGB": 9.5, "CMYK": 12.7}  # all coefficients wait for the last scan


def decoding_bytes(
    data: bytes, *, max_pixels: int | None = None, formats: Sequence[str] = FORMATS
) -> int:
    """An upper bound, in bytes, of the memory that `images.decode(data)` takes at its peak.

    It includes the array that is returned, but not `data`. Only the header is read, in less than a
    millisecond. Raises BadImage where `decode` would because of the header.
    """
    with opened(data, max_pixels, formats) as image:
        width, height = (ceil(side / BLOCK_PX) * BLOCK_PX for side in image.size)
        pixels = ceil(width * height * _bytes_per_pixel(image, data))
        return pixels + len(data) + FIXED_BYTES


def _bytes_per_pixel(image: Image.Image, data: bytes) -> float:
    by_mode = BY_MODE.get(image.mode, FOUR_BYTES)
    if image.format in JPEGS:
        return _of_jpeg(image, data)
    if image.format == "TIFF":
        return TIFF_TURNED[by_mode]
    if image.format == "JPEG2000":
        return JPEG_2000[1 if by_mode < FOUR_BYTES else len(image.getbands())]
    return BY_FORMAT.get(image.format or "", by_mode)


def _of_jpeg(image: Image.Image, data: bytes) -> float:
    if jpeg.keeps_coefficients(data):
        return JPEG_BY_SCANS[image.mode]
    if image.mode == "RGB" and exif.orientation(image) == 1:
        return 3.5
    return JPEG_AT_ONCE[image.mode]
