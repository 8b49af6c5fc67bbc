"""TIFF: what its tags say about the pixels, compared with how Pillow reads them.

Pillow reads some kinds in another way than they are meant, and refuses others without a reason.
Here each kind either is known to come out right, or is refused by name.
"""

from collections.abc import Sequence
from io import BytesIO
from math import ceil
from typing import Any, NamedTuple

from PIL import TiffImagePlugin

from pipeline.pixels import directories, jpeg
from pipeline.pixels.colour import Levels
from pipeline.pixels.reasons import TRUNCATED, BadImage

PREFIXES = tuple(TiffImagePlugin.PREFIXES)
BIG = (b"MM\x00\x2b", b"II\x2b\x00")  # BigTIFF, whose header is longer
REMEDY = "save it as grey or RGB with 8 or 16 bits a sample"

GREY, RGB, PALETTE, CMYK, YCBCR, LAB = "grey", "RGB", "palette", "CMYK", "YCbCr", "L*a*b*"
COLOURS = {0: GREY, 1: GREY, 2: RGB, 3: PALETTE, 5: CMYK, 6: YCBCR, 8: LAB}
N_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
FORMATS = {1: "", 2: "signed ", 3: "floating-point ", 4: "", 5: "complex ", 6: "complex "}
FLOAT, SIGNED = FORMATS[3], FORMATS[2]
# bits of a sample that come out right, by colour and format
DEPTHS = {
    (GREY, ""): (1, 2, 4, 8, 12, 16, 32),
    (GREY, SIGNED): (32,),  # the way Pillow itself writes 32 bits
    (GREY, FLOAT): (32,),
    (RGB, ""): (8, 16),
    (PALETTE, ""): (1, 2, 4, 8),
    (CMYK, ""): (8, 16),
    (YCBCR, ""): (8,),
    (LAB, ""): (8,),
}
UNCOMPRESSED, OLD_JPEG, JPEG = 1, 6, 7
UNSPECIFIED = 0
MOST_OF_A_TILE, TILE_PIXELS = 4, 2**20  # a tile may be so many times the image, or so large
THUMBNAIL, MASK = 1, 4


class Kind(NamedTuple):
    """What the tags of the first page say about its pixels."""

    colour: str
    bits: int
    sample_format: str
    white_is_zero: bool
    extra: tuple[int, ...]
    planar: bool
    compression: int
    reversed_bits: bool
    big_endian: bool

    def __str__(self) -> str:
        zero = "WhiteIsZero " if self.white_is_zero else ""
        more = f" with {n} more bands" if (n := len(self.extra)) else ""
        return f"a TIFF of {self.bits}-bit {self.sample_format}{zero}{self.colour}{more}"

    @property
    def is_rgb_and_alpha(self) -> bool:
        """RGB and transparency, nothing else."""
        return self.colour == RGB and self.extra in ((1,), (2,))

    @property
    def bands_beyond_rgb(self) -> bool:
        """A fourth band that the file does not declare as transparency."""
        return self.colour == RGB and self.extra[:1] == (UNSPECIFIED,)


def kind(data: bytes) -> Kind | None:
    """The kind of a TIFF; None where its tags cannot be read, which the decoder reports.

    Raises BadImage for a kind that would not come out right, or that lacks pixels.
    """
    tags = _tags(data)
    if tags is None:
        return None
    try:
        return _checked(tags, data)
    except (TypeError, ValueError, LookupError) as problem:
        if isinstance(problem, BadImage):
            raise
        raise BadImage("damaged: some of its tags hold what they cannot mean") from problem


def _checked(tags: dict[int, Any], data: bytes) -> Kind:
    _check_page(tags)
    stated = _kind(tags, data[:2] == b"MM")
    _check_kind(stated, tags)
    if stated.compression != OLD_JPEG:
        _check_pieces(stated, tags, len(data))
    if stated.compression == JPEG:
        _check_jpegs(tags, data)
    return stated


def check_header(data: bytes) -> None:
    """Raise BadImage for a BigTIFF that Pillow takes for a broken TIFF, and for too many pieces."""
    if data.startswith(BIG[0]):
        raise BadImage("a big-endian BigTIFF, which is not read: save it as TIFF")
    if data.startswith(PREFIXES):
        directories.check_pieces(data)


def levels(stated: Kind | None) -> Levels:
    """The white of a grey image of more than 8 bits; 32 integer bits are taken for 16."""
    if stated is None:
        return Levels()
    return Levels(2 ** min(stated.bits, 16) - 1, stated.white_is_zero)


def unreadable(stated: Kind) -> str:
    """The reason for a kind that Pillow does not read."""
    order = "in separate planes " if stated.planar else ""
    return f"{stated} {order}cannot be read: {REMEDY}"


def _tags(data: bytes) -> dict[int, Any] | None:
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[:4] in BIG else 8])
        file = BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return {tag: directory[tag] for tag in directory}
    except Exception:  # broken tags; the decoder reports them
        return None


def _check_page(tags: dict[int, Any]) -> None:
    page = tags.get(254, 0)
    if page & THUMBNAIL:
        raise BadImage("a TIFF whose first page is a thumbnail of another: save that one alone")
    if page & MASK:
        raise BadImage("a TIFF whose first page is a mask of another: save that one alone")


def _kind(tags: dict[int, Any], big_endian: bool) -> Kind:
    compression = tags.get(259, UNCOMPRESSED)
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        raise BadImage(f"a TIFF compressed by method {compression}, which is not read")
    photometric = tags.get(262, 0) if compression != OLD_JPEG else 6
    if photometric not in COLOURS:
        raise BadImage(f"a TIFF of photometric interpretation {photometric}, which is not read")
    colour = COLOURS[photometric]
    n_samples = tags.get(277, 3 if compression == OLD_JPEG else 1)
    bits, formats = _one(tags.get(258, (1,))), _one(tags.get(339, (1,)))
    if bits is None or formats is None:
        raise BadImage(f"a TIFF of samples that differ in depth or format: {REMEDY}")
    extra = tuple(tags.get(338, ()))
    n_extra = n_samples - N_SAMPLES[colour]
    if n_extra < len(extra) or n_extra < 0:
        raise BadImage(f"a TIFF of {n_samples} bands, too few for {colour}")
    return Kind(
        colour,
        bits,
        FORMATS.get(formats, "unknown "),
        photometric == 0,
        (UNSPECIFIED,) * (n_extra - len(extra)) + extra,
        tags.get(284, 1) == 2,
        compression,
        tags.get(266, 1) == 2,
        big_endian,
    )


def _one(values: Sequence[int]) -> int | None:
    """The value that all have in common, or None."""
    return values[0] if len(set(values)) == 1 else None


def _check_kind(stated: Kind, tags: dict[int, Any]) -> None:
    if stated.bits not in DEPTHS.get((stated.colour, stated.sample_format), ()):
        raise BadImage(f"{stated}, which is not read: {REMEDY}")
    if stated.colour == GREY and UNSPECIFIED in stated.extra:
        n = 1 + len(stated.extra)
        raise BadImage(f"a TIFF of {n} bands that does not say what they are: save as RGB or grey")
    if stated.colour == CMYK and tags.get(332, 1) != 1:
        raise BadImage("a TIFF of inks that are not CMYK: save as RGB")
    if oddity := _oddity(stated, tags):
        raise BadImage(f"{stated} {oddity}, which is not read: {REMEDY}")


def _oddity(stated: Kind, tags: dict[int, Any]) -> str:
    """The layout of samples that Pillow would misread, or ""."""
    if stated.compression == UNCOMPRESSED:
        if stated.reversed_bits and (stated.bits > 1 or stated.colour == PALETTE):
            return "with reversed bits (FillOrder 2)"
        if stated.planar and (stated.bits != 8 or stated.white_is_zero or 1 in stated.extra):
            return "in separate planes"
    if stated.compression == JPEG and stated.bits != 8:
        return "in JPEG"
    if stated.planar and (stated.colour == LAB or (stated.extra and not stated.is_rgb_and_alpha)):
        return "in separate planes"
    if stated.compression != UNCOMPRESSED and stated.big_endian and stated.bits == 32:
        return "in big-endian order, compressed"
    if stated.colour == YCBCR and stated.compression not in (OLD_JPEG, JPEG):
        if tuple(tags.get(530, (2, 2))) != (1, 1):
            return "subsampled without JPEG"
        if stated.planar or stated.extra:
            return "without JPEG, in separate planes or with more bands"
    return ""


def _check_pieces(stated: Kind, tags: dict[int, Any], size: int) -> None:
    """Check that each strip or tile is listed and present; Pillow leaves the others black."""
    width, height = tags.get(256, 0), tags.get(257, 0)
    across, down, name = width, min(tags.get(278, height), height), "strips"
    offsets, counts = tags.get(273, ()), tags.get(279, ())
    if not offsets:
        across, down, name = tags.get(322, 0), tags.get(323, 0), "tiles"
        offsets, counts = tags.get(324, ()), tags.get(325, ())
    if min(width, height, across, down) <= 0:
        raise BadImage(f"damaged: the sizes of its {name} are missing")
    n_planes = N_SAMPLES[stated.colour] + len(stated.extra) if stated.planar else 1
    n = ceil(width / across) * ceil(height / down) * n_planes
    if across * down > MOST_OF_A_TILE * max(width * height, TILE_PIXELS):
        raise BadImage(f"a TIFF whose {name} are far larger than the image")
    if len(offsets) < n or (counts and len(counts) < n):
        raise BadImage(f"damaged: {len(offsets)} of {n} {name} are listed")
    if len(offsets) > n:
        raise BadImage(f"damaged: {len(offsets)} {name} are listed for {n}")
    if 0 in offsets or 0 in counts:
        raise BadImage(f"damaged: some of its {name} are empty")
    if any(at + n > size for at, n in zip(offsets, counts, strict=False)):
        raise BadImage(TRUNCATED)


def _check_jpegs(tags: dict[int, Any], data: bytes) -> None:
    """Check that each strip or tile is a whole JPEG; libtiff only warns."""
    tables = tags.get(347, b"")
    offsets, counts = (
        (tags.get(273, ()), tags.get(279, ())) if 273 in tags else (tags[324], tags[325])
    )
    for at, n in zip(offsets, counts, strict=True):
        piece = data[at : at + n]
        jpeg.check_piece(tables[:-2] + piece[2:] if tables else piece)
