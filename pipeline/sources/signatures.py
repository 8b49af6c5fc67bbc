"""Files that people take for images and that are not read: what each is, and what to do."""

import struct

HEIC = (
    "HEIC, for which no decoder under a permissive licence exists (libheif is LGPL, x265 GPL): "
    "save as JPEG; on an iPhone: Settings, Camera, Formats, Most Compatible"
)
HEIC_BRANDS = (
    b"heic",
    b"heix",
    b"hevc",
    b"hevx",
    b"heim",
    b"heis",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
)
RAW = "a camera's raw file, in which only a small preview could be read: develop it to JPEG or TIFF"
SIGNATURES = {
    b"%PDF": "a PDF, not an image: save its pictures as PNG or JPEG",
    b"%!PS": "EPS or PostScript, a program and not an image: save as PNG",
    b"\xc5\xd0\xd3\xc6": "EPS or PostScript, a program and not an image: save as PNG",
    b"8BPS": "a Photoshop file: save as PNG or TIFF",
    b"PK\x03\x04": "a zip archive or an office document inside a class folder: unpack it, or "
    "use the source archive",
    b"FUJIFILMCCD-RAW": RAW,
    b"\x00\x00\x00\x18ftypcrx ": RAW,
    b"IIRO": RAW,
    b"IIU\x00": RAW,
    b"version https://git-lfs.github.com": "a pointer of Git LFS: fetch the file with `git lfs "
    "pull`",
}
MARKUP = {
    b"<svg": "SVG, a drawing and not an image: save as PNG",
    b"<html": "a web page, not an image",
    b"<!doctype html": "a web page, not an image",
}
STILL_BRANDS = (b"avif", b"avis", b"crx ", b"jxl ", b"jp2 ")
ATOMS = (b"moov", b"mdat", b"wide", b"pnot")  # a QuickTime film may begin with any of them
VIDEOS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # WMV, ASF
    b"FLV\x01",
    b"OggS",
    b"\x00\x00\x01\xba",  # MPEG
    b"\x00\x00\x01\xb3",
    b"YUV4MPEG2",
)
PACKETS = ((0, 188), (4, 192))  # of a transport stream, each beginning with a G
DNG_VERSION, NEW_SUBFILE_TYPE, SUB_IFDS = 50706, 254, 330


def named(data: bytes) -> str:
    """The reason why such a file is left out, or "" where it may be an image."""
    for signature, reason in SIGNATURES.items():
        if data.startswith(signature):
            return reason
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS and b"avif" not in data[8:64]:
        return HEIC
    if _is_raw(data):
        return RAW
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<"):
        return next((reason for mark, reason in MARKUP.items() if mark in head), "")
    return ""


def is_video(head: bytes) -> bool:
    """Whether a file is a video, by its first bytes, of which 600 are enough.

    Names say little, and machines disagree about them.
    """
    kind, brand = head[4:8], head[8:12]
    if kind == b"ftyp":
        return brand not in HEIC_BRANDS + STILL_BRANDS
    if head.startswith(b"RIFF"):
        return head[8:12] in (b"AVI ", b"AVIX")
    if head.startswith(b"GIF8"):  # whose first byte could stand for a packet
        return False
    return (
        kind in ATOMS
        or head.startswith(VIDEOS)
        or any(
            len(head) > start + 2 * step and head[start : start + 2 * step + 1 : step] == b"G" * 3
            for start, step in PACKETS
        )
    )


def _is_raw(data: bytes) -> bool:
    """DNG, NEF, ARW, CR2 and PEF are TIFF files whose first picture is a thumbnail."""
    if data[8:10] == b"CR" and data[:2] == b"II":
        return True
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        return False
    try:
        tags = _first_tags(data, order)
    except struct.error:  # Pillow says what is wrong
        return False
    return DNG_VERSION in tags or (tags.get(NEW_SUBFILE_TYPE) == 1 and SUB_IFDS in tags)


def _first_tags(data: bytes, order: str) -> dict[int, int]:
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entries = (struct.unpack_from(f"{order}HHII", data, start + 2 + 12 * i) for i in range(count))
    return {tag: value for tag, _, _, value in entries}
