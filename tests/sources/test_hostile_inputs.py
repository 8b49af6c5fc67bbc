"""What strangers' files do to ingest: each is taken, or left out with a reason; none stops the
rest.
"""

import bz2
import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms

from pipeline.config import Config, schema
from pipeline.sources import Item, archive
from pipeline.stages import ingest
from pipeline.storage import table

FOLDER = {"_target_": "pipeline.sources.folder.read"}
ARCHIVE = {
    "_target_": "pipeline.sources.archive.read",
    "max_member_megabytes": 1.0,
    "max_ratio": 100.0,
}
SIZE = (12, 9)

Maker = Callable[[], bytes]


def run(
    images: Path, out: Path, source: dict[str, object], max_megapixels: float = 50.0
) -> pd.DataFrame:
    """The table; what was left out is in quarantine.csv."""
    settings = schema.Ingest(source=source, max_megapixels=max_megapixels)
    ingest.run(Config(ingest=settings), images=images, feedback=out / "none", out=out)
    return table.read(out)


def left_out(out: Path) -> dict[str, str]:
    return pd.read_csv(out / "quarantine.csv", index_col="name")["reason"].to_dict()


def photo(seed: int, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def file(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def two_classes(root: Path) -> Path:
    """So that the hostile file is not all there is."""
    for number, name in enumerate(["ant/good.png", "bee/good.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(file(photo(1000 + number), "PNG"))
    return root


def png(width: int, height: int) -> bytes:
    """A header that claims any size, and nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def animated(kind: str) -> bytes:
    return file(photo(1), kind, save_all=True, append_images=[photo(2), photo(3)])


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return file(photo(4), "JPEG", exif=block)


def with_exif(block: bytes) -> bytes:
    return file(photo(5), "JPEG", exif=block)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def dng() -> bytes:
    """A TIFF whose first picture is called a thumbnail, with the tags of a raw file."""
    tags = {254: 1, 50706: b"\x01\x04\x00\x00"}
    return file(photo(6), "TIFF", tiffinfo=tags)


def flat(width: int, height: int) -> bytes:
    return file(Image.new("1", (width, height)), "PNG")


def zeroed(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


def cut_with_an_end() -> bytes:
    data = file(photo(43, (99, 99)), "JPEG")
    return data[: len(data) * 3 // 4] + b"\xff\xd9"


def flipped_bit() -> bytes:
    data = bytearray(file(photo(44), "PNG"))
    data[data.index(b"IDAT") + 4 + 99] ^= 4
    return bytes(data)


def strip_missing() -> bytes:
    """Three lines each, of which the first is listed."""
    data = file(photo(45), "TIFF", tiffinfo={278: 9})
    return data.replace(struct.pack("<HHII", 278, 4, 1, 9), struct.pack("<HHII", 278, 4, 1, 3))


TAKEN = [
    ("plain.jpg", lambda: file(photo(1), "JPEG"), SIZE),
    ("no extension", lambda: file(photo(7), "PNG"), SIZE),
    ("a png called.jpg", lambda: file(photo(8), "PNG"), SIZE),
    ("cmyk.jpg", lambda: file(photo(9, mode="CMYK"), "JPEG"), SIZE),
    ("ycbcr.tif", lambda: file(photo(10, mode="YCbCr"), "TIFF"), SIZE),
    ("lab.tif", lambda: file(photo(11, mode="LAB"), "TIFF"), SIZE),
    ("wrong profile.png", lambda: file(photo(12), "PNG", icc_profile=profile()), SIZE),
    (
        "16 bit.png",
        lambda: file(Image.fromarray(np.arange(108, dtype=np.uint16).reshape(9, 12) * 600), "PNG"),
        SIZE,
    ),
    (
        "float in 0 to 1.tif",
        lambda: file(Image.fromarray(np.full((9, 12), 0.5, np.float32)), "TIFF"),
        SIZE,
    ),
    ("palette.png", lambda: file(photo(13).quantize(16), "PNG"), SIZE),
    ("transparent palette.gif", lambda: file(photo(14).quantize(16), "GIF", transparency=3), SIZE),
    ("alpha.png", lambda: file(photo(15, mode="RGBA"), "PNG"), SIZE),
    ("grey with alpha.png", lambda: file(photo(16, mode="LA"), "PNG"), SIZE),
    ("grey.jpg", lambda: file(photo(17, mode="L"), "JPEG"), SIZE),
    ("one bit.png", lambda: file(photo(18, mode="1"), "PNG"), SIZE),
    ("animated.gif", lambda: animated("GIF"), SIZE),
    ("animated.webp", lambda: animated("WEBP"), SIZE),
    ("animated.png", lambda: animated("PNG"), SIZE),
    ("photo.webp", lambda: file(photo(19), "WEBP"), SIZE),
    ("photo.avif", lambda: file(photo(20), "AVIF"), SIZE),
    ("photo.jp2", lambda: file(photo(21), "JPEG2000"), SIZE),
    ("photo.bmp", lambda: file(photo(22), "BMP"), SIZE),
    ("progressive.jpg", lambda: file(photo(23), "JPEG", progressive=True), SIZE),
    ("on its side.jpg", lambda: exif(6), SIZE[::-1]),
    ("impossible orientation.jpg", lambda: exif(99), SIZE),
    ("broken exif.jpg", lambda: with_exif(b"Exif\0\0II*\0\xff\xff\xff\xff"), SIZE),
    ("exif of noise.jpg", lambda: with_exif(b"Exif\0\0" + bytes(range(256))), SIZE),
    ("bytes behind the end.jpg", lambda: file(photo(24), "JPEG") + b"<?php system('id') ?>", SIZE),
    ("one pixel.png", lambda: file(photo(25, (1, 1)), "PNG"), (1, 1)),
    ("long strip.png", lambda: file(photo(26, (5000, 1)), "PNG"), (5000, 1)),
    ("just under 50 megapixels.png", lambda: flat(10_000, 4_999), (10_000, 4_999)),
    ("写真.jpg", lambda: file(photo(27), "JPEG"), SIZE),
    ("صورة.jpg", lambda: file(photo(28), "JPEG"), SIZE),
    ("🐝👩‍🔬.jpg", lambda: file(photo(29), "JPEG"), SIZE),
    ("-rf *;$(id).jpg", lambda: file(photo(30), "JPEG"), SIZE),
    (f"{'x' * 251}.jpg", lambda: file(photo(31), "JPEG"), SIZE),
    ('=1+1,"quoted".jpg', lambda: file(photo(32), "JPEG"), SIZE),
]

LEFT_OUT = [
    ("empty.jpg", bytes, "0 bytes"),
    ("cut in half.jpg", lambda: file(photo(40, (99, 99)), "JPEG")[:2000], "truncated"),
    ("only a header.png", lambda: file(photo(41), "PNG")[:33], "truncated"),
    ("third zeroed.jpg", lambda: zeroed(file(photo(42, (99, 99)), "JPEG")), "missing or overwri"),
    ("cut, with an end.jpg", cut_with_an_end, "missing or overwritten"),
    ("flipped bit.png", flipped_bit, "a checksum of the PNG (chunk IDAT) is wrong"),
    ("strip missing.tif", strip_missing, "1 of 3 strips are listed"),
    ("text.jpg", lambda: b"this is no photo\n", "not an image of a known format"),
    ("noise.jpg", lambda: np.random.default_rng(0).bytes(5000), "not an image of a known format"),
    ("bomb.png", lambda: png(60_000, 60_000), "3600 megapixels exceed the limit of 50"),
    ("largest header.png", lambda: png(2**31 - 1, 2**31 - 1), "exceed the limit"),
    ("no width.png", lambda: png(0, 100), ""),
    (
        "just over 50 megapixels.png",
        lambda: flat(10_000, 5_001),
        "50.1 megapixels exceed the limit of 50",
    ),
    (
        "float.tif",
        lambda: file(Image.fromarray(np.full((9, 12), 1e6, np.float32)), "TIFF"),
        "outside 0..1",
    ),
    (
        "not a number.tif",
        lambda: file(Image.fromarray(np.full((9, 12), np.nan, np.float32)), "TIFF"),
        "outside 0..1",
    ),
    (
        "32 bit.tif",
        lambda: file(Image.fromarray(np.full((9, 12), 70_000, np.int32)), "TIFF"),
        "32-bit",
    ),
    ("photo.heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "Most Compatible"),
    ("raw.dng", dng, "raw file"),
    (
        "drawing.svg",
        lambda: b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
        "SVG",
    ),
    ("page.jpg", lambda: b"\xef\xbb\xbf<!DOCTYPE html><title>404</title>", "a web page"),
    ("document.pdf", lambda: b"%PDF-1.7\n" + bytes(99), "PDF"),
    (
        "figure.eps",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n",
        "PostScript",
    ),
    ("layers.psd", lambda: b"8BPS\0\1" + bytes(99), "Photoshop"),
    ("report.docx.jpg", lambda: b"PK\x03\x04" + bytes(99), "zip archive or an office document"),
    (
        "pointer.jpg",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "git lfs pull",
    ),
    ("icon.ico", lambda: file(photo(42), "ICO"), "not an image of a known format"),
    ("targa.tga", lambda: file(photo(43), "TGA"), "not an image of a known format"),
]


# Pillow warns on the terminal; the photo is whole.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(("name", "maker", "size"), TAKEN, ids=[name[:30] for name, _, _ in TAKEN])
def test_a_strange_image_is_taken(
    tmp_path: Path, name: str, maker: Maker, size: tuple[int, int]
) -> None:
    (two_classes(tmp_path / "in") / "ant" / name).write_bytes(maker())
    rows = run(tmp_path / "in", tmp_path / "out", FOLDER).set_index("name")
    assert tuple(rows.loc[f"ant/{name}", ["width", "height"]]) == size
    assert left_out(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("name", "maker", "reason"), LEFT_OUT, ids=[name for name, _, _ in LEFT_OUT]
)
def test_a_hostile_file_is_left_out_with_a_reason(
    tmp_path: Path, name: str, maker: Maker, reason: str
) -> None:
    (two_classes(tmp_path / "in") / "ant" / name).write_bytes(maker())
    rows = run(tmp_path / "in", tmp_path / "out", FOLDER)
    assert rows["name"].tolist() == ["ant/good.png", "bee/good.png"]
    assert [*left_out(tmp_path / "out")] == [f"ant/{name}"]
    assert reason in left_out(tmp_path / "out")[f"ant/{name}"]


def circle(folder: Path) -> None:
    (folder / "circle").symlink_to("..")


def self_link(folder: Path) -> None:
    (folder / "self").symlink_to("self")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")


def device(folder: Path) -> None:
    (folder / "device.jpg").symlink_to("/dev/zero")


def deep(folder: Path) -> None:
    for _ in range(120):
        folder /= "d"
    folder.mkdir(parents=True)


@pytest.mark.parametrize(
    ("maker", "name", "reason"),
    [
        (circle, "ant/circle/", "read already"),
        (self_link, "ant/self", "link to nothing"),
        (pipe, "ant/pipe.jpg", "pipe"),
        (device, "ant/device.jpg", "device"),
        (deep, f"ant/{'d/' * 101}", "folders deep"),
    ],
)
def test_what_is_no_file_is_left_out(
    tmp_path: Path, maker: Callable[[Path], None], name: str, reason: str
) -> None:
    maker(two_classes(tmp_path / "in") / "ant")
    run(tmp_path / "in", tmp_path / "out", FOLDER)
    assert reason in left_out(tmp_path / "out")[name]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\xff\xfe.png", "ant/\\xff\\xfe.png"),
        (b"new\nline.png", "ant/new\\nline.png"),
        (b"red \x1b[31m.png", "ant/red \\x1b[31m.png"),
        (b"cafe\xcc\x81.png", "ant/caf\xe9.png"),
    ],
)
def test_a_name_of_any_bytes_is_shown_harmlessly(tmp_path: Path, raw: bytes, shown: str) -> None:
    folder = os.fsencode(two_classes(tmp_path / "in") / "ant")
    Path(os.fsdecode(folder + b"/" + raw)).write_bytes(file(photo(50), "PNG"))
    assert shown in run(tmp_path / "in", tmp_path / "out", FOLDER)["name"].tolist()


GOOD = {"ant/good.png": file(photo(1000), "PNG"), "bee/good.png": file(photo(1001), "PNG")}
LARGE = bytes(2_000_000)


def zipped(*hostile: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in [*GOOD.items(), *hostile]:
            packed.writestr(name, data)
    return stream.getvalue()


def zip_link() -> bytes:
    info = zipfile.ZipInfo("ant/x.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((info, b"/etc/passwd"))


def encrypted() -> bytes:
    data = bytearray(zipped(("ant/x.png", file(photo(60), "PNG"))))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def understated() -> bytes:
    """A member that unpacks to far more than it declares."""
    data = bytearray(zipped(("ant/x.png", LARGE)))
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 1000)
    return bytes(data)


def flipped() -> bytes:
    data = bytearray(zipped(("ant/x.png", file(photo(61, (64, 64)), "PNG"))))
    data[data.rindex(b"PK\x01\x02") - 3000] ^= 255
    return bytes(data)


def tarred(*hostile: tuple[tarfile.TarInfo, bytes], kind: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=kind) as packed:  # type: ignore[call-overload]
        for name, data in GOOD.items():
            packed.addfile(member(name, size=len(data)), io.BytesIO(data))
        for info, data in hostile:
            packed.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, **attributes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def tar_with(name: str, **attributes: object) -> bytes:
    return tarred((member(name, **attributes), b""))


def endless() -> bytes:
    """A tar without its end."""
    data = tarred().rstrip(b"\0")
    return data + bytes(-len(data) % 512)


def huge_header() -> bytes:
    """A long name of a gigabyte, announced to a reader that would take it into memory."""
    return endless() + member("x", type=tarfile.GNUTYPE_LONGNAME, size=10**9).tobuf(
        tarfile.GNU_FORMAT
    )


def negative_size() -> bytes:
    """A member after which the reader would go back to that member."""
    head = bytearray(member("ant/x.png").tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" + (256**11 - 512).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return endless() + head + bytes(1024)


def headers_of_headers() -> bytes:
    """Long names for long names: the reader calls itself for each."""
    return (
        endless()
        + (
            member("x", type=tarfile.GNUTYPE_LONGNAME, size=1).tobuf(tarfile.GNU_FORMAT)
            + bytes(512)
        )
        * 2000
    )


ARCHIVES = [
    ("zip: above", lambda: zipped(("../x.png", b"")), "leads out of the archive"),
    (
        "zip: above, by backslash",
        lambda: zipped(("ant\\..\\..\\x.png", b"")),
        "leads out of the archive",
    ),
    ("zip: absolute", lambda: zipped(("/etc/x.png", b"")), "absolute path"),
    ("zip: a drive", lambda: zipped(("C:\\ant\\x.png", b"")), "absolute path"),
    ("zip: link", zip_link, "a link"),
    ("zip: encrypted", encrypted, "encrypted"),
    (
        "zip: declared bomb",
        lambda: zipped(("ant/x.png", LARGE)),
        "unpacks to 2 MB, over the limit of 1",
    ),
    ("zip: bomb that lies", understated, "damaged in the archive"),
    ("zip: flipped bits", flipped, "damaged in the archive"),
    ("zip: deep", lambda: zipped((f"ant/{'d/' * 5000}x.png", b"")), "folders deep"),
    ("zip: no list of contents", lambda: zipped()[:-60], "truncated or damaged archive"),
    (
        "zip: cut within a file",
        lambda: zipped(("ant/x.png", file(photo(62, (64, 64)), "PNG")))[:-5000],
        "ends within this file",
    ),
    (
        "zip: no name",
        lambda: zipped(("ant/x.png", b"")).replace(b"ant/x.png", b"\0nt/x.png"),
        "a file without a name",
    ),
    ("tar: above", lambda: tar_with("ant/../../x.png"), "leads out of the archive"),
    ("tar: absolute", lambda: tar_with("/etc/x.png"), "absolute path"),
    (
        "tar: link",
        lambda: tar_with("ant/x.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "a link",
    ),
    (
        "tar: hard link",
        lambda: tar_with("ant/x.png", type=tarfile.LNKTYPE, linkname="ant/good.png"),
        "a link",
    ),
    ("tar: device", lambda: tar_with("ant/x.png", type=tarfile.CHRTYPE), "device"),
    ("tar: pipe", lambda: tar_with("ant/x.png", type=tarfile.FIFOTYPE), "pipe"),
    ("tar: twice", lambda: tar_with("ant/good.png"), "holds this name twice"),
    (
        "tar: large",
        lambda: tarred((member("ant/x.png", size=len(LARGE)), LARGE)),
        "over the limit of 1",
    ),
    ("tar: huge header", huge_header, "a header claims 1000000000 bytes"),
    ("tar: negative size", negative_size, "leads back"),
    (
        "tar: negative size in words",
        lambda: tar_with("ant/x.png", pax_headers={"size": "-1536"}),
        "leads back",
    ),
    (
        "tar: sparse without its map",
        lambda: tar_with(
            "ant/x.png", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        ),
        "truncated or damaged",
    ),
    ("tar: headers of headers", headers_of_headers, "truncated or damaged"),
    (
        "tar: cut within a file",
        lambda: tarred((member("ant/x.png", size=99_999), bytes(99_999)))[:-60_000],
        "truncated",
    ),
    (
        "tar.bz2: bomb",
        lambda: tarred((member("ant/x.png", size=len(LARGE)), LARGE), kind="w:bz2"),
        "over 100 times its size",
    ),
    (
        "tar.gz: cut",
        lambda: tarred(
            (member("ant/x.png", size=9999), np.random.default_rng(0).bytes(9999)), kind="w:gz"
        )[:-5000],
        "truncated",
    ),
    (
        "tar.bz2: noise behind",
        lambda: bz2.compress(endless() + b"noise" * 999),
        "truncated or damaged",
    ),
]


@pytest.mark.parametrize(
    ("name", "maker", "reason"), ARCHIVES, ids=[name for name, _, _ in ARCHIVES]
)
def test_a_hostile_archive_gives_what_is_good_in_it(
    tmp_path: Path, name: str, maker: Maker, reason: str
) -> None:
    (tmp_path / "in").write_bytes(maker())
    rows = run(tmp_path / "in", tmp_path / "out", ARCHIVE)
    assert rows["name"].tolist() == ["ant/good.png", "bee/good.png"]
    assert any(reason in why for why in left_out(tmp_path / "out").values()), left_out(
        tmp_path / "out"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "cache"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_a_name_that_a_zip_holds_twice_the_first_is_taken(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(zipped(("ant/good.png", file(photo(63), "PNG"))))
    rows = run(tmp_path / "in", tmp_path / "out", ARCHIVE)
    assert left_out(tmp_path / "out") == {"ant/good.png": "the archive holds this name twice"}
    assert len(rows) == 2


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_that_lies_is_not_unpacked_beyond_what_it_says(tmp_path: Path, method: int) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as packed:
        packed.writestr("ant/x.png", bytes(64_000_000))
    data = bytearray(stream.getvalue())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 1000)
    (tmp_path / "in").write_bytes(data)
    (bomb,) = archive.read(images=tmp_path / "in", max_member_megabytes=1.0, max_ratio=100.0)
    assert isinstance(bomb, Item)
    tracemalloc.start()
    with pytest.raises(OSError, match="damaged in the archive"):
        bomb.load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
