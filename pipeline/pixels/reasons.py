"""Why bytes are no usable image, in words for people."""

import struct
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from pipeline import one_line

NOUNS = {"JPEG2000": "JPEG 2000", "WEBP": "WebP", "PPM": "PPM, PGM or PBM"}


TRUNCATED = "truncated: the file ends too early"


class BadImage(ValueError):
    """Bytes that are no usable image; the message is the reason, for people."""


def of_decoder(problem: Exception) -> str:
    """The reason behind what a decoder raised."""
    text = str(problem).lower()
    if "truncated" in text:
        return TRUNCATED
    if "unsupported" in text or "not supported" in text:
        return f"a kind that cannot be read: {one_line(problem)}"
    return f"damaged: {one_line(problem)}"


def of_unknown(data: bytes, formats: Sequence[str]) -> str:
    """The reason why no decoder takes the bytes.

    A decoder that accepts their signature may know more.
    """
    for name in formats:
        factory, accept = Image.OPEN[name]
        if accept is None or not accept(data[:16]):
            continue
        try:
            factory(BytesIO(data), "")
        except Exception as problem:  # decoders of damaged files raise nearly every type
            if isinstance(problem.__cause__, (struct.error, EOFError)):
                return TRUNCATED  # the header is incomplete
            noun = NOUNS.get(name, name)
            return f"a {noun} that cannot be read: {one_line(problem)}"
    return f"not an image of a known format ({', '.join(formats)})"
