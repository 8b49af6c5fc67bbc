"""Contact sheets as PNG and thumbnails as WebP; the same input gives the same bytes."""

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont, ImageOps

INK, QUIET = "#1b2430", "#5b6675"


def sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    *,
    columns: int,
    cell_px: int,
) -> bytes:
    """PNG: images of any size in squares of `cell_px`, each above its caption; a line too long ends
    in an ellipsis.

    Raises ValueError without images or with another number of captions.
    """
    if not images:
        raise ValueError("a sheet needs at least one image")
    font = ImageFont.truetype(findfont("DejaVu Sans"), max(9, cell_px // 12))
    gap, line = max(6, cell_px // 16), round(font.size * 1.35)
    lines = [
        [_fitted(printable(text), font, cell_px) for text in caption.split("\n")]
        for caption in captions
    ]
    columns = min(columns, len(images))
    step_x, step_y = (
        cell_px + gap,
        cell_px + gap + line * max(map(len, lines), default=0) + gap // 2,
    )
    paper = Image.new(
        "RGB", (gap + columns * step_x, gap + -(-len(images) // columns) * step_y), "white"
    )
    pen = ImageDraw.Draw(paper)
    for place, (image, texts) in enumerate(zip(images, lines, strict=True)):
        left, top = gap + place % columns * step_x, gap + place // columns * step_y
        picture = _contained(image, cell_px)
        paper.paste(
            picture, (left + (cell_px - picture.width) // 2, top + (cell_px - picture.height) // 2)
        )
        for row, text in enumerate(texts):
            pen.text(
                (left, top + cell_px + gap // 2 + row * line),
                text,
                font=font,
                fill=INK if row == 0 else QUIET,
            )
    return _encoded(paper, "PNG")


def thumbnail(image: UInt8[np.ndarray, "_ _ 3"], *, side_px: int) -> bytes:
    """WebP: the whole image, scaled down to `side_px` at most and never up."""
    picture = Image.fromarray(image)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return _encoded(picture, "WEBP")


def printable(text: str) -> str:
    """The text without control characters, which XML and Pillow do not take."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    if font.getlength(text) <= width_px:
        return text
    kept = next(
        (n for n in range(len(text), 0, -1) if font.getlength(f"{text[:n]}…") <= width_px), 0
    )
    return f"{text[:kept]}…"


def _contained(image: UInt8[np.ndarray, "_ _ 3"], side_px: int) -> Image.Image:
    # Enlarged pixels stay square: a blur that is not in the data would be looked for in it.
    larger = max(image.shape[:2]) > side_px
    return ImageOps.contain(
        Image.fromarray(image),
        (side_px, side_px),
        Image.Resampling.LANCZOS if larger else Image.Resampling.NEAREST,
    )


def _encoded(picture: Image.Image, format: Literal["PNG", "WEBP"]) -> bytes:
    target = io.BytesIO()
    picture.save(target, format, quality=90)  # which PNG does not look at
    return target.getvalue()
