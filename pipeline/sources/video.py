"""Videos in class folders, sampled to frames.

One video is one group, so its frames stay in one split.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, address
from pipeline.sources.encode import png
from pipeline.sources.folder import tree
from pipeline.sources.layout import Placed
from pipeline.sources.layout import read as arranged

Frame = UInt8[np.ndarray, "h w 3"]
THUMBNAIL_PX = 32  # frames are compared at this size, which averages noise away


def read(
    *,
    images: Path | str,
    every_seconds: float,
    scene_change: float | None,
    min_difference: float,
    unlabelled: str | None = None,
    class_level: int | None = None,
) -> Iterator[Item | Skipped]:
    """The frames of every video below `images`, in the order of time, as uncompressed RGB PNG.

    One frame every so many seconds or, where scene_change is given, each frame that differs by more
    than that from the one taken before. Differences are the mean over grey thumbnails, 0 to 1.
    Frames that differ by less than min_difference are dropped, and counted. Raises FieldmarkError
    without a folder of class folders; for `class_level` see layout.
    """
    if address.is_remote(images):
        raise FieldmarkError(
            f"{images}: videos are read from a folder on this machine; copy them there first"
        )
    for entry in arranged(tree(Path(images)), str(images), unlabelled, class_level):
        if isinstance(entry, Skipped):
            yield entry
        else:
            yield from frames(
                entry,
                every_seconds=every_seconds,
                scene_change=scene_change,
                min_difference=min_difference,
            )


def frames(
    video: Placed[Path], *, every_seconds: float, scene_change: float | None, min_difference: float
) -> Iterator[Item | Skipped]:
    """The frames of one video, sampled as for `read`, and what was wrong with it."""
    reason = _unusable(video.content)
    capture = cv2.VideoCapture() if reason else cv2.VideoCapture(str(video.content), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            yield Skipped(video.name, reason or "not a video that can be read")
            return
        rate = capture.get(cv2.CAP_PROP_FPS) or 1.0
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number = n_dropped = 0
        due, before = 0.0, None
        while capture.grab():
            seconds = number / rate
            number += 1
            if scene_change is None and seconds + 0.5 / rate < due:
                continue
            decoded, pixels = capture.retrieve()
            if not decoded:
                break
            due += every_seconds
            small = _thumbnail(pixels)
            change = 1.0 if before is None else float(np.abs(small - before).mean())
            if scene_change is not None and change <= scene_change:
                continue
            if change < min_difference:
                n_dropped += 1
                continue
            before = small
            yield _item(video, seconds, pixels)
    finally:
        capture.release()
    yield from _remarks(video.name, number, promised, n_dropped)


def _remarks(name: str, number: int, promised: int, n_dropped: int) -> Iterator[Skipped]:
    if number == 0:
        yield Skipped(name, "a video without a frame that can be read")
    elif number < 0.9 * promised:  # containers count frames roughly
        yield Skipped(name, f"truncated: {number} of {promised} frames could be read and are used")
    if n_dropped:
        yield Skipped(name, f"{n_dropped} frames dropped, near-identical to the one before")


def _unusable(path: Path) -> str:
    """The reason not to read a file, or "".

    Text is refused, since FFmpeg follows playlists to other files.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(256)
    except OSError as problem:
        return f"cannot be read: {problem.strerror}"
    if not head:
        return "0 bytes"
    return "text, not a video" if all(9 <= byte < 127 for byte in head) else ""


def _thumbnail(bgr: Frame) -> np.ndarray:
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    small: np.ndarray = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _item(video: Placed[Path], seconds: float, bgr: Frame) -> Item:
    data = png(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    return Item(
        f"{video.name}#t={seconds:.3f}",
        lambda: data,
        video.label,
        group=video.name,
        given_split=video.split,
        metadata={"seconds": round(seconds, 3)},
    )
