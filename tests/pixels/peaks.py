"""Run as a program: the peak of resident memory while an image is decoded, for every format and
mode, each in a fork of its own. Prints a line of JSON a case: name, bound, peak, in bytes.
"""

import ctypes
import gc
import io
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.pixels import cost, images

WIDTH, HEIGHT = 1600, 1280
MMAP_THRESHOLD = -3  # of mallopt: what is freed goes back to the system at once
GREY = np.linspace(0, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6


def pictures() -> dict[str, Image.Image]:
    grey = Image.fromarray(GREY)
    rgb = Image.fromarray(np.stack([GREY, GREY[::-1], 255 - GREY], 2))
    rgba = rgb.copy()
    rgba.putalpha(grey)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    return {
        "1": grey.convert("1"),
        "L": grey,
        "LA": Image.merge("LA", (grey, grey)),
        "P": rgb.quantize(64),
        "RGB": rgb,
        "RGBA": rgba,
        "CMYK": rgb.convert("CMYK"),
        "YCbCr": rgb.convert("YCbCr"),
        "LAB": Image.merge("LAB", (grey, grey, grey)),
        "I;16": Image.fromarray(GREY.astype(np.uint16) * 257),
        "I": Image.fromarray(GREY.astype(np.int32) * 257),
        "F": Image.fromarray(GREY.astype(np.float32) / 255),
        "noise": Image.fromarray(noise),
    }


MODES: dict[str, list[str]] = {
    "JPEG": ["L", "RGB", "CMYK"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "noise"],
    "WEBP": ["RGB", "RGBA", "noise"],
    "GIF": ["L", "P"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "PPM": ["1", "L", "RGB", "I", "F"],
    "JPEG2000": ["L", "LA", "RGB", "RGBA", "I;16"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"],
    "AVIF": ["L", "RGB", "RGBA"],
}
ONE_STRIP = {278: HEIGHT}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "JPEG": {
        "progressive": {"progressive": True, "subsampling": 0},
        "sideways": {"exif": SIDEWAYS},
    },
    "PNG": {"sideways": {"exif": SIDEWAYS}},
    "WEBP": {"lossless": {"lossless": True, "quality": 0}},
    "TIFF": {
        "sideways": {"exif": SIDEWAYS},
        "deflate": {"compression": "tiff_adobe_deflate", "tiffinfo": ONE_STRIP},
    },
    "AVIF": {"full colour": {"subsampling": "4:4:4"}},
}


FAST: dict[str, dict[str, Any]] = {
    "AVIF": {"speed": 10},
    "PNG": {"compress_level": 1},
    "WEBP": {"method": 0},
}


def written(image: Image.Image, kind: str, options: dict[str, Any]) -> Callable[[], bytes]:
    def write() -> bytes:
        data = io.BytesIO()
        image.save(data, kind, **FAST.get(kind, {}) | options)
        return data.getvalue()

    return write


def deep(ending: str, channels: int) -> Callable[[], bytes]:
    pixels = GREY[:, :, None].repeat(channels, 2).astype(np.uint16) * 257
    return lambda: bytes(cv2.imencode(ending, pixels)[1].tobytes())


def rle_bmp() -> bytes:
    row = b"".join(bytes([255, n]) for n in range(WIDTH // 255)) + bytes([WIDTH % 255, 7, 0, 0])
    pixels, palette = row * HEIGHT + b"\0\1", bytes(1024)
    head = struct.pack("<IHHI", 54 + 1024 + len(pixels), 0, 0, 54 + 1024)
    size = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return b"BM" + head + size + palette + pixels


def cases() -> Iterator[tuple[str, Callable[[], bytes]]]:
    drawn = pictures()
    for kind, modes in MODES.items():
        for variant, options in ({"": {}} | VARIANTS.get(kind, {})).items():
            for mode in modes:
                yield f"{kind} {mode} {variant}", written(drawn[mode], kind, options)
    animated = {"save_all": True, "append_images": [drawn["L"]]}
    yield "WEBP animated", written(drawn["RGBA"], "WEBP", animated)
    yield "GIF animated", written(drawn["P"], "GIF", animated | {"transparency": 0, "disposal": 2})
    yield "PNG transparent colour", written(drawn["RGB"], "PNG", {"transparency": (1, 2, 3)})
    yield "BMP RLE", rle_bmp
    yield "PPM ASCII", lambda: b"P3 %d %d 255\n" % (WIDTH, HEIGHT) + b"1 2 3 " * GREY.size
    yield "PPM of 10 bits", lambda: b"P5 %d %d 1023\n" % (WIDTH, HEIGHT) + bytes(2 * GREY.size)
    jpeg_in_strips = {"compression": "jpeg", "tiffinfo": ONE_STRIP | {0x0112: 6}}
    yield "TIFF JPEG sideways", written(drawn["RGB"], "TIFF", jpeg_in_strips)
    for ending in (".png", ".tiff", ".jp2"):
        for channels in (3, 4):
            yield f"{ending} of 16 bits, {channels}", deep(ending, channels)


def resident(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024


def measure(name: str, data: bytes) -> None:
    with open("/proc/self/clear_refs", "w") as peaks:
        peaks.write("5")
    before = resident("VmRSS")
    images.decode(data, max_pixels=None)
    peak, bound = resident("VmHWM") - before, cost.decoding_bytes(data)
    print(json.dumps({"name": name, "bound": bound, "peak": peak}))
    sys.stdout.flush()


if __name__ == "__main__":
    for kind in MODES:  # what is loaded for the first image of a format only
        images.decode(written(Image.new("L", (9, 9)), kind, {})(), max_pixels=None)
    allocator = ctypes.CDLL("libc.so.6")
    allocator.mallopt(MMAP_THRESHOLD, 65536)
    for name, write in cases():
        data = write()
        gc.collect()
        allocator.malloc_trim(0)
        if os.fork() == 0:
            measure(name, data)
            os._exit(0)
        os.wait()
