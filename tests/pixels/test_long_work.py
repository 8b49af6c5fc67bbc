"""A small file never keeps a decoder busy for long, however much it announces."""

import io
import struct
import time
import zlib
from typing import Literal

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiffs import GREY, Layout, tiff

from pipeline.pixels import cost
from pipeline.pixels.directories import n_pages
from pipeline.pixels.images import BadImage, decode, probe

LIMIT = 50_000_000
PIECE = 2**24  # zeros that are compressed once and stand in a file again and again


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png_of_zeros(n_bytes: int) -> bytes:
    """Eight by eight pixels, behind which so many zeros are compressed."""
    deflate = zlib.compressobj(9)
    head = deflate.compress(b"\0") + deflate.flush(zlib.Z_FULL_FLUSH)
    piece = deflate.compress(bytes(PIECE)) + deflate.flush(zlib.Z_FULL_FLUSH)
    pixels = head + piece * (n_bytes // PIECE)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def progressive(n_more: int) -> bytes:
    """With so many repetitions of its last scan."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * n_more + b"\xff\xd9"


def seconds_of_work(data: bytes) -> float:
    start = time.process_time()
    decode(data, max_pixels=LIMIT)
    return time.process_time() - start


def test_a_png_is_not_inflated_beyond_its_pixels() -> None:
    assert seconds_of_work(png_of_zeros(2**32)) < 2  # all of it takes eight


@pytest.mark.parametrize("read", [decode, probe])
def test_a_jpeg_of_scans_without_end_is_refused_before_they_are_decoded(read: type) -> None:
    with pytest.raises(BadImage, match="more than 100 scans"):
        read(progressive(5000), max_pixels=LIMIT)


def test_such_a_jpeg_in_a_tiff_is_refused_too() -> None:
    piece, file = progressive(5000), io.BytesIO()
    pixels = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(file, pixels, photometric="rgb", rowsperstrip=64)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as stated:
        tags = stated.pages.first.tags
        at = {name: tags[name].valueoffset for name in ("Compression", "StripOffsets")}
        counts, photometric = tags["StripByteCounts"], tags["PhotometricInterpretation"]
    data = bytearray(file.getvalue())
    struct.pack_into("<H", data, at["Compression"], 7)
    struct.pack_into("<H", data, photometric.valueoffset, 6)
    struct.pack_into("<I", data, at["StripOffsets"], len(data))
    struct.pack_into("<I", data, counts.valueoffset, len(piece))
    with pytest.raises(BadImage, match="scans"):
        decode(bytes(data) + piece, max_pixels=LIMIT)


def test_the_scans_of_what_follows_the_image_are_not_counted() -> None:
    moving = progressive(0) + progressive(5000)  # as phones put a film behind a photo
    assert decode(moving, max_pixels=LIMIT).shape == (64, 64, 3)


@pytest.mark.parametrize("read", [decode, probe, cost.decoding_bytes])
@pytest.mark.parametrize("layout", [Layout(rows_per_strip=1), Layout(">", rows_per_strip=1)])
def test_a_tiff_of_countless_strips_is_refused_by_its_header(read: type, layout: Layout) -> None:
    samples = np.zeros((140_000, 1, 1), int)
    with pytest.raises(BadImage, match="140000 strips or tiles"):
        read(tiff(samples, bits=8, photometric=GREY, layout=layout), max_pixels=LIMIT)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pages_are_counted_without_being_read(order: Literal["<", ">"], big: bool) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order, bigtiff=big) as writer:
        for _ in range(3):
            writer.write(np.zeros((20, 30), np.uint8), photometric="minisblack", contiguous=False)
    assert n_pages(file.getvalue()) == 3


def test_pages_that_lead_back_to_the_first_end() -> None:
    data = bytearray(tiff(np.zeros((4, 4, 1), int), bits=8, photometric=GREY))
    data[-4:] = data[4:8]
    assert probe(bytes(data), max_pixels=LIMIT).n_frames == 1
