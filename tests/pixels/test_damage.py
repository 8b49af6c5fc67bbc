"""Damage that a decoder notices is no image, also where it would show one."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.pixels.images import BadImage, decode, probe

SAMPLES = Path(sklearn.__file__).parent / "datasets" / "images"
PHOTOS = sorted([*SAMPLES.glob("*.jpg"), *(Path(skimage.__file__).parent / "data").glob("*.jpg")])
PHOTO = Image.open(SAMPLES / "china.jpg").resize((320, 214))
END = b"\xff\xd9"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def refusal(data: bytes) -> str:
    """Of both, which must agree; "" for none."""
    reasons = []
    for read in (decode, probe):
        try:
            read(data, max_pixels=None)
            reasons.append("")
        except BadImage as problem:
            reasons.append(str(problem))
    assert reasons[0] == reasons[1]
    return reasons[0]


def zeroed(data: bytes, start: float = 1 / 3, end: float = 2 / 3) -> bytes:
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


JPEGS = {
    "baseline": encoded(PHOTO, "JPEG"),
    "progressive": encoded(PHOTO, "JPEG", progressive=True),
    "optimised": encoded(PHOTO, "JPEG", optimize=True),
    "with restarts": encoded(PHOTO, "JPEG", restart_marker_rows=1),
    "grey": encoded(PHOTO.convert("L"), "JPEG"),
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG"),
}
MISSING = "^damaged pixels: a part of the JPEG is missing or overwritten"


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_of_which_the_middle_third_was_zeroed_is_damaged(kind: str) -> None:
    assert refusal(JPEGS[kind]) == ""
    with pytest.raises(BadImage, match=MISSING):
        decode(zeroed(JPEGS[kind]), max_pixels=None)
    assert refusal(zeroed(JPEGS[kind]))


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_a_jpeg_that_was_cut_and_given_an_end_is_damaged(kind: str, fraction: float) -> None:
    data = JPEGS[kind]
    assert refusal(data[: int(fraction * len(data))] + END).startswith("damaged pixels")


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_of_which_the_middle_was_taken_out_is_damaged(kind: str) -> None:
    data = JPEGS[kind]
    assert refusal(data[: len(data) // 2] + data[len(data) * 2 // 3 :])


def with_jfif_of(major: int, data: bytes) -> bytes:
    version = data.index(b"JFIF\0") + 5
    return data[:version] + bytes([major]) + data[version + 1 :]


def with_odd_scan(data: bytes) -> bytes:
    scan = data.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return data[: end - 3] + b"\0\0\0" + data[end:]


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "an unknown version of JFIF": lambda data: with_jfif_of(9, data),
    "parameters of a scan that nobody needs": with_odd_scan,
    "padding before the end, of webcams": lambda data: data[:-2] + bytes(9) + END,
    "filling bytes before the end": lambda data: data[:-2] + b"\xff" * 50 + END,
    "a film behind the end, of phones": lambda data: data + bytes(range(256)) * 9,
}


@pytest.mark.parametrize("oddity", HARMLESS)
def test_what_libjpeg_warns_of_without_harm_is_no_damage(oddity: str) -> None:
    data = HARMLESS[oddity](JPEGS["baseline"])
    whole = np.asarray(Image.open(io.BytesIO(JPEGS["baseline"])))
    assert refusal(data) == "" and (decode(data, max_pixels=None) == whole).all()


@pytest.mark.parametrize("oddity", list(HARMLESS)[:2])
def test_damage_behind_a_harmless_oddity_is_noticed(oddity: str) -> None:
    assert refusal(HARMLESS[oddity](zeroed(JPEGS["baseline"]))).startswith("damaged pixels")


def test_two_sizes_in_one_jpeg_are_not_trusted() -> None:
    """Pillow takes the second header, libjpeg the first: one of them was not looked at."""
    data = JPEGS["baseline"]
    frame = data.index(b"\xff\xc0")
    header = data[frame : frame + 19]
    small = header[:5] + struct.pack(">HH", 8, 8) + header[9:]
    assert refusal(data[:frame] + header + small + data[frame + 19 :]).startswith("damaged")


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.name)
def test_a_real_photo_is_not_called_damaged(photo: Path) -> None:
    assert refusal(photo.read_bytes()) == ""


def chunks(png: bytes) -> list[bytes]:
    parts, at = [], 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        parts.append(png[at : at + 12 + size])
        at += 12 + size
    return parts


def joined(parts: list[bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pixels_of(png: bytes, keep: float) -> bytes:
    """The file with the first of its lines only, in a stream that ends as it should."""
    parts = chunks(png)
    lines = zlib.decompress(b"".join(part[8:-4] for part in parts if part[4:8] == b"IDAT"))
    content = b"IDAT" + zlib.compress(lines[: int(keep * len(lines))])
    size, checksum = struct.pack(">I", len(content) - 4), struct.pack(">I", zlib.crc32(content))
    others = [part for part in parts if part[4:8] not in (b"IDAT", b"IEND")]
    return joined([*others, size + content + checksum, parts[-1]])


PNG = encoded(PHOTO, "PNG")
PNGS = {mode: encoded(PHOTO.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")}
PNGS["I;16"] = encoded(Image.fromarray(np.full((20, 30), 999, np.uint16)), "PNG")


@pytest.mark.parametrize("mode", PNGS)
@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_a_png_whose_last_lines_are_missing_is_damaged(mode: str, keep: float) -> None:
    assert refusal(pixels_of(PNGS[mode], 1.0)) == ""
    assert refusal(pixels_of(PNGS[mode], keep)).startswith(("truncated", "damaged pixels"))


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("n_lines", [1, 2])
def test_a_small_png_whose_last_lines_are_missing_is_damaged(n_lines: int, interlaced: int) -> None:
    """Pillow leaves some of them black without a word."""
    header = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, interlaced)
    lines = zlib.compress(bytes(4 * n_lines))
    parts = [(b"IHDR", header), (b"IDAT", lines), (b"IEND", b"")]
    data = joined(
        [
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
            for name, content in parts
        ]
    )
    assert refusal(data).startswith(("truncated", "damaged pixels: the last lines"))


@pytest.mark.parametrize("mode", PNGS)
def test_a_black_png_is_whole(mode: str) -> None:
    image = Image.new(mode, (30, 20))
    assert refusal(encoded(image, "PNG")) == ""


def test_a_png_that_lacks_a_piece_is_damaged() -> None:
    parts = chunks(PNG)
    first, last = (at for at, part in enumerate(parts) if part[4:8] == b"IDAT")
    assert refusal(joined(parts[:first] + parts[first + 1 :]))
    assert refusal(joined(parts[:last] + parts[last + 1 :]))


def test_a_png_without_its_palette_is_damaged() -> None:
    parts = [part for part in chunks(PNGS["P"]) if part[4:8] != b"PLTE"]
    assert refusal(joined(parts)) == "damaged pixels: the palette of the PNG is missing"


@settings(deadline=None)
@given(st.floats(0.02, 0.99), st.integers(0, 7))
def test_a_single_bit_of_a_png_that_changed_is_noticed(where: float, bit: int) -> None:
    data = bytearray(PNG)
    data[int(where * len(data))] ^= 1 << bit
    assert refusal(bytes(data))


OTHERS = {
    "GIF": encoded(PHOTO, "GIF"),
    "WEBP": encoded(PHOTO, "WEBP"),
    "BMP": encoded(PHOTO, "BMP"),
    "PPM": encoded(PHOTO, "PPM"),
    "AVIF": encoded(PHOTO, "AVIF", speed=10),
    "JPEG2000": encoded(PHOTO, "JPEG2000"),
    "TIFF": encoded(PHOTO, "TIFF"),
    "TIFF, deflated": encoded(PHOTO, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, JPEG": encoded(PHOTO, "TIFF", compression="jpeg", tiffinfo={278: 214}),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("fraction", [0.4, 0.9])
def test_a_file_cut_in_the_middle_is_no_image(kind: str, fraction: float) -> None:
    data = OTHERS[kind]
    assert refusal(data) == ""
    assert refusal(data[: int(fraction * len(data))])


def test_a_gif_that_was_cut_and_given_an_end_is_damaged() -> None:
    data = OTHERS["GIF"]
    assert refusal(data[: len(data) // 2] + b"\0;")


def test_a_zeroed_jpeg_inside_a_tiff_is_damaged() -> None:
    with pytest.raises(BadImage, match=MISSING):
        decode(zeroed(OTHERS["TIFF, JPEG"], 0.4, 0.6), max_pixels=None)


@pytest.mark.parametrize("kind", ["TIFF, deflated", "GIF"])
def test_zeros_in_the_middle_of_what_is_compressed_are_noticed(kind: str) -> None:
    assert refusal(zeroed(OTHERS[kind]))
