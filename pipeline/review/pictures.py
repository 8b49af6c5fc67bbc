"""Pictures for a browser: the untouched file where it can show it, else a copy no larger than asked
for.
"""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipeline.pixels import images
from pipeline.storage import store

# Larger files are sent as a smaller copy: a page that shows hundreds an hour must not wait for any.
SENT_UNTOUCHED_BYTES = 400_000
SHOWN_BY_BROWSERS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
KEPT = 512


class Picture(NamedTuple):
    """Bytes and their media type."""

    data: bytes
    media_type: str


class Pictures:
    """The images of data/ingest, by id, and those found `elsewhere`; the last ones sent stay in
    memory.
    """

    def __init__(self, ingest: Path, elsewhere: Callable[[str], bytes]) -> None:
        self._packed, self._elsewhere = store.PackedImages(ingest), elsewhere
        self.get = lru_cache(maxsize=KEPT)(self._get)

    def _get(self, id: str, side_px: int) -> Picture:
        """The whole image, its longer side at most side_px unless the file is small. KeyError for
        an unknown id.
        """
        data = self._packed[id] if id in self._packed else self._elsewhere(id)
        with Image.open(BytesIO(data), formats=images.FORMATS) as header:
            media_type = SHOWN_BY_BROWSERS.get(header.format or "")
            still = not getattr(header, "is_animated", False) and header.mode in {"RGB", "L", "P"}
            small = max(header.size) <= side_px or len(data) <= SENT_UNTOUCHED_BYTES // 10
        if media_type and still and small and len(data) <= SENT_UNTOUCHED_BYTES:
            return Picture(data, media_type)
        copy = Image.fromarray(images.decode(data, max_pixels=None))
        copy.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        target = BytesIO()
        copy.save(target, format="WEBP", quality=90)
        return Picture(target.getvalue(), "image/webp")
