"""Contact sheets as PNG and thumbnails as WebP; the same input gives the same bytes."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

INK, QUIET = "#1b2430", "#5b6675"


def sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    *,
    columns: int,
    cell_px: int,
) -> bytes:
    """PNG: images of any size in squares of `cell_px`, each above its caption.

    A line that is too long ends in an ellipsis. Raises ValueError without images, or with another
    number of captions.
    """
    if not images:
        raise ValueError("a sheet needs at least one image")
    font = ImageFont.truetype(_font_file(), max(9, cell_px // 12))
    gap, line = max(6, cell_px // 16), round(font.size * 1.35)
    lines = [
        [_fitted(printable(text), font, cell_px) for text in caption.split("\n")]
        for caption in captions
    ]
    columns = min(columns, len(images))
    step_x = cell_px + gap
    step_y = step_x + line * max(map(len, lines), default=0) + gap // 2
    paper = Image.new(
        "RGB", (gap + columns * step_x, gap + -(-len(images) // columns) * step_y), "white"
    )
    pen = ImageDraw.Draw(paper)
    for number, (image, texts) in enumerate(zip(images, lines, strict=True)):
        left, top = gap + number % columns * step_x, gap + number // columns * step_y
        picture = _contained(image, cell_px)
        middle = (left + (cell_px - picture.width) // 2, top + (cell_px - picture.height) // 2)
        paper.paste(picture, middle)
        for row, text in enumerate(texts):
            place = (left, top + cell_px + gap // 2 + row * line)
            pen.text(place, text, font=font, fill=INK if row == 0 else QUIET)
    return _encoded(paper, "PNG")


def thumbnail(image: UInt8[np.ndarray, "_ _ 3"], *, side_px: int) -> bytes:
    """WebP: the whole image, scaled down to at most `side_px`, never up."""
    picture = Image.fromarray(image)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return _encoded(picture, "WEBP")


def printable(text: str) -> str:
    """The text without control characters, which XML and Pillow reject."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _font_file() -> Path:
    """DejaVu Sans, which comes with matplotlib; found without importing that."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def _fitted(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    if font.getlength(text) <= width_px:
        return text
    n_letters = next(
        (n for n in range(len(text), 0, -1) if font.getlength(f"{text[:n]}…") <= width_px), 0
    )
    return f"{text[:n_letters]}…"


def _contained(image: UInt8[np.ndarray, "_ _ 3"], side_px: int) -> Image.Image:
    # Enlarged pixels stay square: people would take a blur for one in the data.
    larger = max(image.shape[:2]) > side_px
    return ImageOps.contain(
        Image.fromarray(image),
        (side_px, side_px),
        Image.Resampling.LANCZOS if larger else Image.Resampling.NEAREST,
    )


def _encoded(picture: Image.Image, format: Literal["PNG", "WEBP"]) -> bytes:
    target = io.BytesIO()
    picture.save(target, format, quality=90)  # PNG ignores it
    return target.getvalue()
