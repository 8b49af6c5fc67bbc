"""The newest frame of a camera, a stream, or a video file that is played as a stream."""

import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from pipeline import FieldmarkError, redacted
from pipeline.prediction.pictures import Picture

PATIENCE_S = 5.0  # for a camera that waits for its next frame when it is closed


def frames(source: str) -> Iterator[Picture]:
    """Frames of a camera (a number), a stream's address or a video file, at its own rate.

    A frame's number is in its name. Frames that arrive while the caller is busy are dropped, except
    the newest. Raises FieldmarkError where the source cannot be opened.
    """
    capture = cv2.VideoCapture(int(source)) if source.isdigit() else cv2.VideoCapture(source)
    newest, name = _Newest(capture), redacted(source)
    follower = threading.Thread(target=newest.follow, daemon=True)
    try:
        if not capture.isOpened():
            raise FieldmarkError(
                f"camera {source} cannot be opened; name a number, a stream's address or a "
                f"video file"
            )
        follower.start()
        began = time.monotonic()
        while (shot := newest.take()) is not None:
            number, bgr = shot
            pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            seconds = time.monotonic() - began
            yield Picture(f"{name}#frame={number}", pixels, film=name, seconds=seconds)
    finally:
        newest.ended.set()
        if follower.ident is not None:
            follower.join(PATIENCE_S)  # reading from a released capture would crash
        capture.release()


class _Newest:
    """Holds one frame, the newest. A frame that nobody took in time is lost."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        # A file is read as fast as it can be decoded, so it needs a pause between frames. A live
        # source reports no number of frames.
        rate, live = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0
        self._gap = 0.0 if live or rate <= 0 else 1 / rate
        self._frame: tuple[int, np.ndarray] | None = None
        self._changed = threading.Condition()
        self.ended = threading.Event()

    def follow(self) -> None:
        """Read until the end, or until `ended` is set."""
        start, number = time.monotonic(), 0
        while not self.ended.wait(max(0.0, start + number * self._gap - time.monotonic())):
            success, frame = self._capture.read()
            if not success:
                break
            with self._changed:
                self._frame = (number, frame)
                self._changed.notify()
            number += 1
        with self._changed:
            self.ended.set()
            self._changed.notify()

    def take(self) -> tuple[int, np.ndarray] | None:
        """The newest frame and its number, each once; None after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self.ended.is_set())
            frame, self._frame = self._frame, None
            return frame
