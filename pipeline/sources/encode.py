"""Pixels without an image file (a video, an array) as files, losslessly."""

from io import BytesIO

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """Grey or RGB pixels as an uncompressed PNG.

    Uncompressed, so that the bytes, and so the ids, do not depend on the version of zlib.
    """
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", compress_level=0)
    return file.getvalue()
