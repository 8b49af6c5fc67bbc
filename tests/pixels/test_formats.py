"""What each format but TIFF says of its pixels, written byte by byte."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.pixels.images import BadImage, decode, probe

WHITE = [255, 255, 255]


def first_line(data: bytes) -> list[Any]:
    """The first line."""
    pixels = decode(data, max_pixels=10**6)
    assert probe(data, max_pixels=10**6)[:2] == pixels.shape[1::-1]
    return list(pixels[0].tolist())


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(
    size: tuple[int, int],
    depth: int,
    colour_type: int,
    lines: bytes,
    *more: bytes,
    interlaced: int = 0,
) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, interlaced)
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def transparent(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


PALETTE = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
DEEP_GREYS = b"\0" + struct.pack(">4H", 0, 30000, 15, 65535)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (png((2, 1), 16, 2, b"\0" + struct.pack(">6H", 65535, 0, 25700, 0, 0, 0)), [255, 0, 100]),
        (png((1, 1), 16, 6, b"\0" + struct.pack(">4H", 65535, 0, 25700, 65535)), [255, 0, 100]),
        (png((1, 1), 16, 6, b"\0" + struct.pack(">4H", 65535, 0, 25700, 0)), WHITE),
        (png((1, 1), 16, 4, b"\0" + struct.pack(">2H", 0, 32896)), [127, 127, 127]),
        (png((2, 1), 2, 0, b"\0\x50", transparent(0)), [85, 85, 85]),
        (png((2, 1), 2, 0, b"\0\x50", transparent(1)), WHITE),
        (png((2, 1), 4, 0, b"\0\x33", transparent(3)), WHITE),
        (png((2, 1), 4, 0, b"\0\x33", transparent(2)), [51, 51, 51]),
        (png((2, 1), 1, 0, b"\0\0", transparent(0)), WHITE),
        (png((1, 1), 8, 0, b"\0\x0f", transparent(15)), WHITE),
        (png((1, 1), 16, 0, b"\0\0\x0f", transparent(15)), WHITE),
        (png((1, 1), 8, 2, b"\0\1\2\3", transparent(1, 2, 3)), WHITE),
        (png((1, 1), 8, 2, b"\0\1\2\3", transparent(1, 2, 4)), [1, 2, 3]),
        (png((2, 1), 4, 3, b"\0\1", PALETTE, chunk(b"tRNS", b"\x80")), [132, 137, 142]),
        (png((1, 1), 8, 0, b"\0\x40", chunk(b"gAMA", struct.pack(">I", 100000))), [64, 64, 64]),
    ],
)
def test_a_png_shows_what_it_means(data: bytes, line: list[int]) -> None:
    assert first_line(data)[0] == line


def test_only_the_very_grey_of_16_bits_is_transparent() -> None:
    greys = [pixel[0] for pixel in first_line(png((4, 1), 16, 0, DEEP_GREYS, transparent(15)))]
    assert greys == [0, 117, 255, 255]
    near = [pixel[0] for pixel in first_line(png((4, 1), 16, 0, DEEP_GREYS, transparent(14)))]
    assert near == [0, 117, 0, 255]


def test_a_colour_of_16_bits_that_is_transparent_is_refused_with_the_reason() -> None:
    data = png((1, 1), 16, 2, bytes(7), transparent(0, 0, 0))
    with pytest.raises(BadImage, match="16 bits per colour with a transparent colour"):
        decode(data, max_pixels=None)


def bmp(size: tuple[int, int], bits: int, compression: int, pixels: bytes, **parts: bytes) -> bytes:
    masks, palette = parts.get("masks", b""), parts.get("palette", b"")
    offset, n_colours = 54 + len(masks) + len(palette), len(palette) // 4
    head = struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    numbers = (40, *size, 1, bits, compression, len(pixels), 0, 0, n_colours, 0)
    return b"BM" + head + struct.pack("<IiiHHIIiiII", *numbers) + masks + palette + pixels


FOUR = bytes([1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 10, 11, 12, 0])


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (bmp((1, 1), 32, 0, bytes([1, 2, 3, 0])), [[3, 2, 1]]),  # the fourth byte is no alpha
        (bmp((1, 1), 16, 0, struct.pack("<HH", 0x7C00, 0)), [[255, 0, 0]]),
        (
            bmp(
                (1, 1),
                16,
                3,
                struct.pack("<HH", 0x07E0, 0),
                masks=struct.pack("<3I", 0xF800, 0x7E0, 0x1F),
            ),
            [[0, 255, 0]],
        ),
        (bmp((1, -2), 24, 0, bytes([1, 2, 3, 0, 4, 5, 6, 0])), [[3, 2, 1]]),
        (bmp((2, 1), 4, 0, b"\x12\0\0\0", palette=FOUR), [[6, 5, 4], [9, 8, 7]]),
        (
            bmp((4, 1), 8, 1, bytes([2, 1, 2, 2, 0, 0, 0, 1]), palette=FOUR),
            [[6, 5, 4], [6, 5, 4], [9, 8, 7], [9, 8, 7]],
        ),
        (
            bmp((4, 1), 4, 2, bytes([3, 0x12, 1, 0x30, 0, 0, 0, 1]), palette=FOUR),
            [[6, 5, 4], [9, 8, 7], [6, 5, 4], [12, 11, 10]],
        ),
    ],
)
def test_a_bmp_shows_what_it_means(data: bytes, line: list[list[int]]) -> None:
    assert first_line(data) == line


@pytest.mark.parametrize(
    "data",
    [
        bmp((4, 1), 2, 0, b"\x1b\0\0\0", palette=FOUR),
        bmp((1, 1), 16, 3, bytes(4), masks=struct.pack("<3I", 0xF00, 0xF0, 0xF)),
    ],
    ids=["2 bits", "4 bits a colour"],
)
def test_a_bmp_of_a_rare_kind_is_not_called_damaged(data: bytes) -> None:
    with pytest.raises(BadImage, match="^a kind that cannot be read: Unsupported BMP"):
        decode(data, max_pixels=None)


@pytest.mark.parametrize("white", [1, 15, 100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("letter", [b"P5", b"P6"])
def test_the_white_of_a_ppm_is_what_it_says(letter: bytes, white: int) -> None:
    samples = [0, white // 2, white] * (3 if letter == b"P6" else 1)
    lines = b"".join(struct.pack(">H" if white > 255 else "B", sample) for sample in samples)
    line = np.array(first_line(letter + b" 3 1 %d\n" % white + lines)).reshape(-1)
    expected = np.array(samples) / white * 255
    assert np.abs(line - (expected if letter == b"P6" else expected.repeat(3))).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG2000", "WEBP", "PNG"])
@pytest.mark.parametrize(
    ("mode", "value", "colour"),
    [
        ("L", 100, [100, 100, 100]),
        ("LA", (100, 255), [100, 100, 100]),
        ("LA", (100, 0), WHITE),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), WHITE),
    ],
)
def test_every_format_has_the_same_idea_of_a_mode(
    kind: str, mode: str, value: Any, colour: list[int]
) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert first_line(encoded(Image.new(mode, (3, 1), value), kind, **options))[2] == colour


def test_jpeg_2000_of_16_bits_is_scaled() -> None:
    assert first_line(encoded(Image.new("I;16", (3, 2), 32896), "JPEG2000"))[0] == [128, 128, 128]


def gif(frame: bytes, *, global_palette: bytes = bytes([9, 9, 9, 1, 1, 1])) -> bytes:
    """3 pixels wide, 1 high."""
    flags = 0x80 if global_palette else 0
    return b"GIF89a" + struct.pack("<HHBBB", 3, 1, flags, 0, 0) + global_palette + frame + b";"


def one_pixel(local_palette: bytes, flags: int = 0) -> bytes:
    """In the middle, of colour 0 of its own palette."""
    control = b"!\xf9\x04" + bytes([flags, 0, 0, 0, 0])
    place = struct.pack("<HHHHB", 1, 0, 1, 1, 0x80)
    return control + b"," + place + local_palette + b"\x02\x02\x44\x01\0"


@pytest.mark.parametrize("global_palette", [b"", bytes([9, 9, 9, 1, 1, 1])])
def test_what_the_first_frame_of_a_gif_does_not_cover_is_transparent(global_palette: bytes) -> None:
    frame = one_pixel(bytes([200, 0, 0, 0, 200, 0]))
    assert first_line(gif(frame, global_palette=global_palette)) == [WHITE, [200, 0, 0], WHITE]


def test_a_transparent_pixel_of_a_gif_lies_on_white() -> None:
    assert first_line(gif(one_pixel(bytes([200, 0, 0, 0, 200, 0]), flags=1)))[1] == WHITE


PHOTO = Image.fromarray(
    np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(
        np.uint8
    )
)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 1}, {"quality": 100}],
    ids=str,
)
def test_a_jpeg_has_the_pixels_that_pillow_gives(mode: str, options: dict[str, Any]) -> None:
    data = encoded(PHOTO.convert(mode), "JPEG", **options)
    assert (
        decode(data, max_pixels=None) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    ).all()


def test_a_cmyk_jpeg_is_read_the_way_photoshop_writes_it() -> None:
    red = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert b"Adobe" in red and first_line(red)[0] == [255, 0, 0]


def test_a_jpeg_in_ycck_has_its_colours() -> None:
    """The same numbers, said to be YCCK by Adobe's marker: luminance for cyan, and so on."""
    data = encoded(PHOTO.convert("CMYK"), "JPEG")
    flag = data.index(b"Adobe") + 11
    data = data[:flag] + b"\2" + data[flag + 1 :]
    assert (
        decode(data, max_pixels=None) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    ).all()


def test_a_jpeg_of_12_bits_says_so() -> None:
    data = encoded(PHOTO, "JPEG")
    depth = data.index(b"\xff\xc0") + 4
    with pytest.raises(BadImage, match="a JPEG that cannot be read: cannot handle 12-bit layers"):
        decode(data[:depth] + b"\x0c" + data[depth + 1 :], max_pixels=None)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, "RGB") for kind in ("PNG", "TIFF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000")]
    + [(kind, mode) for kind in ("PNG", "TIFF", "GIF") for mode in ("1", "L", "P")],
)
def test_strips_of_the_conversion_join_without_a_seam(kind: str, mode: str) -> None:
    """The image has more pixels than are converted at once."""
    data = encoded(Image.effect_noise((1000, 270), 60).convert(mode), kind)
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (decode(data, max_pixels=None) == whole).all()
