"""Pictures for a browser: the original file where it can show it, else a smaller copy."""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipeline.pixels import images
from pipeline.storage import store

# Larger files are sent as a smaller copy: the page shows hundreds per hour and must not wait.
MAX_ORIGINAL_BYTES = 400_000
BROWSER_FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
CACHED = 512  # pictures


class Picture(NamedTuple):
    """Bytes and their media type."""

    data: bytes
    media_type: str


class Pictures:
    """The images of data/ingest and, by `elsewhere`, others, by id; a cache holds the last ones."""

    def __init__(self, ingest: Path, elsewhere: Callable[[str], bytes]) -> None:
        self._packed, self._elsewhere = store.PackedImages(ingest), elsewhere
        self.get = lru_cache(maxsize=CACHED)(self._get)

    def _get(self, id: str, side_px: int) -> Picture:
        """The whole image; its longer side is at most side_px, unless the file is small.

        KeyError for an unknown id.
        """
        data = self._packed[id] if id in self._packed else self._elsewhere(id)
        with Image.open(BytesIO(data), formats=images.FORMATS) as header:
            media_type = BROWSER_FORMATS.get(header.format or "")
            still = not getattr(header, "is_animated", False) and header.mode in {"RGB", "L", "P"}
            small = max(header.size) <= side_px or len(data) <= MAX_ORIGINAL_BYTES // 10
        if media_type and still and small and len(data) <= MAX_ORIGINAL_BYTES:
            return Picture(data, media_type)
        copy = Image.fromarray(images.decode(data, max_pixels=None))
        copy.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        target = BytesIO()
        copy.save(target, format="WEBP", quality=90)
        return Picture(target.getvalue(), "image/webp")
