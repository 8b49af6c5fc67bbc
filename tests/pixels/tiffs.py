"""TIFF files of any kind, written from their samples tag by tag."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

UINT, INT, FLOAT = 1, 2, 3
WHITE_IS_ZERO, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
HORIZONTAL, FLOATING = 2, 3
SHORT, LONG = 3, 4


class Layout(NamedTuple):
    """How samples lie in a file; none of it changes what the image shows."""

    order: str = "<"
    planar: bool = False
    compression: int = NONE
    fill_order: int = 1
    predictor: int = 1
    tile: tuple[int, int] | None = None  # height and width
    rows_per_strip: int = 2**32 - 1
    big: bool = False


PLAIN = Layout()


def tiff(
    samples: np.ndarray,
    *,
    bits: int,
    photometric: int,
    sample_format: int = UINT,
    layout: Layout = PLAIN,
    tags: dict[int, Sequence[int]] | None = None,
) -> bytes:
    """One page; samples (h, w, s) are whole numbers of so many bits, or floats.

    `tags` add to the others or, as SHORTs, replace them; an empty one is left out.
    """
    height, width, n = samples.shape
    pieces = [
        _packed(piece, bits, sample_format, layout)
        for plane in (np.split(samples, n, 2) if layout.planar else [samples])
        for piece in _pieces(plane, layout)
    ]
    where = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * n),
        259: (SHORT, [layout.compression]),
        262: (SHORT, [photometric]),
        266: (SHORT, [layout.fill_order]),
        277: (SHORT, [n]),
        284: (SHORT, [2 if layout.planar else 1]),
        317: (SHORT, [layout.predictor]),
        339: (SHORT, [sample_format] * n),
    }
    if layout.tile:
        where |= {322: (LONG, [layout.tile[1]]), 323: (LONG, [layout.tile[0]])}
    else:
        where[278] = (LONG, [layout.rows_per_strip])
    where |= {tag: (SHORT, list(values)) for tag, values in (tags or {}).items()}
    return _file(pieces, where, layout)


def _pieces(plane: np.ndarray, layout: Layout) -> list[np.ndarray]:
    height, width = plane.shape[:2]
    if layout.tile is None:
        rows = min(layout.rows_per_strip, height)
        return [plane[top : top + rows] for top in range(0, height, rows)]
    tall, wide = layout.tile
    padded = np.pad(plane, ((0, -height % tall), (0, -width % wide), (0, 0)), "edge")
    return [
        padded[top : top + tall, left : left + wide]
        for top in range(0, padded.shape[0], tall)
        for left in range(0, padded.shape[1], wide)
    ]


def _packed(piece: np.ndarray, bits: int, sample_format: int, layout: Layout) -> bytes:
    height = len(piece)
    if sample_format == FLOAT:
        values = piece.astype(f"{layout.order}f{bits // 8}")
        if layout.predictor == FLOATING:
            raw = b"".join(_shuffled(row, bits // 8) for row in values)
        else:
            raw = values.tobytes()
    else:
        whole = piece.astype(np.int64)
        if layout.predictor == HORIZONTAL:
            whole[:, 1:] -= whole[:, :-1].copy()
        raw = _bits(whole.reshape(height, -1) & (2**bits - 1), bits, layout.order)
    coded = _coded(raw, len(raw) // height, layout.compression)
    if layout.fill_order == 2:
        coded = bytes(int(f"{byte:08b}"[::-1], 2) for byte in coded)
    return coded


def _shuffled(row: np.ndarray, size: int) -> bytes:
    """The floating-point predictor: all highest bytes first, then their differences."""
    n_samples = row.shape[1]
    most_significant_first = row.astype(f">f{size}").tobytes()
    planes = np.frombuffer(most_significant_first, np.uint8).reshape(-1, size).T.reshape(-1)
    differences = planes.copy()
    differences[n_samples:] -= planes[:-n_samples]
    return differences.tobytes()


def _bits(rows: np.ndarray, bits: int, order: str) -> bytes:
    if bits % 8 == 0:
        octets = rows.astype(f"{order}u8")[..., None].view(np.uint8)
        part = octets[..., : bits // 8] if order == "<" else octets[..., -(bits // 8) :]
        return part.tobytes()
    digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def _coded(raw: bytes, row_bytes: int, compression: int) -> bytes:
    match compression:
        case 8:
            return zlib.compress(raw)
        case 32773:
            rows = [raw[at : at + row_bytes] for at in range(0, len(raw), row_bytes)]
            return b"".join(_literal_runs(row) for row in rows)
        case 5:
            return _lzw(raw)
    return raw


def _literal_runs(row: bytes) -> bytes:
    runs = [row[at : at + 128] for at in range(0, len(row), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def _lzw(raw: bytes) -> bytes:
    """Literals only, and a new table before codes grow beyond 9 bits."""
    codes: list[int] = []
    for at in range(0, len(raw), 200):
        codes += [256, *raw[at : at + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes((len(bits) + 7) // 8, "big")


def _file(pieces: list[bytes], where: dict[int, tuple[int, list[int]]], layout: Layout) -> bytes:
    order = layout.order
    mark = b"II" if order == "<" else b"MM"
    data = bytearray(mark + struct.pack(f"{order}H", 43 if layout.big else 42))
    data += struct.pack(f"{order}HHQ", 8, 0, 0) if layout.big else bytes(4)
    offsets = []
    for piece in pieces:
        offsets.append(len(data))
        data += piece + bytes(len(piece) % 2)
    names = (324, 325) if layout.tile else (273, 279)
    entries = dict(zip(names, ((LONG, offsets), (LONG, [len(p) for p in pieces])), strict=True))
    entries = {tag: entry for tag, entry in (entries | where).items() if entry[1]}
    size, inline = ("Q", 8) if layout.big else ("I", 4)
    directory = struct.pack(f"{order}{'Q' if layout.big else 'H'}", len(entries))
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > inline:
            value = struct.pack(f"{order}{size}", len(data))
            data += packed + bytes(len(packed) % 2)
        else:
            value = packed.ljust(inline, b"\0")
        directory += struct.pack(f"{order}HH{size}", tag, kind, len(values)) + value
    start = 8 if layout.big else 4
    data[start : start + inline] = struct.pack(f"{order}{size}", len(data))
    return bytes(data) + directory + bytes(inline)


def shown(samples: np.ndarray, bits: int, photometric: int, extra: Sequence[int] = ()) -> Any:
    """What the file means, RGB in 0..1 (h, w, 3), by the formulas of the TIFF specification."""
    values = samples.astype(float) / (2**bits - 1 if samples.dtype.kind != "f" else 1)
    rgb = _colour(values, samples, photometric)
    for kind, opacity in zip(extra, np.moveaxis(values, 2, 0)[-len(extra) or None :], strict=False):
        if kind == 1:
            rgb = rgb + 1 - opacity[..., None]
        if kind == 2:
            rgb = rgb * opacity[..., None] + 1 - opacity[..., None]
    return rgb


def _colour(values: np.ndarray, samples: np.ndarray, photometric: int) -> np.ndarray:
    match photometric:
        case 0:
            return 1 - values[..., :1].repeat(3, 2)
        case 1:
            return values[..., :1].repeat(3, 2)
        case 2:
            return values[..., :3]
        case 5:
            return (1 - values[..., :3]) * (1 - values[..., 3:4])
        case 6:
            y, cb, cr = values[..., 0], values[..., 1] - 128 / 255, values[..., 2] - 128 / 255
            green = y - 0.344136 * cb - 0.714136 * cr
            return np.stack([y + 1.402 * cr, green, y + 1.772 * cb], 2).clip(0, 1)
        case 8:
            return _from_lab(samples.astype(np.uint8))
    raise ValueError(photometric)


def _from_lab(samples: np.ndarray) -> np.ndarray:
    """From L* in 0..255 and signed a*, b*, white D50, by Bradford's matrix to sRGB."""
    light = samples[..., 0] / 2.55
    a, b = (samples[..., i].astype(np.int8).astype(float) for i in (1, 2))
    fy = (light + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], 2)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    to_rgb = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = (xyz @ np.array(to_rgb).T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
