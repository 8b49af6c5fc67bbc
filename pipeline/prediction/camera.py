"""The newest frame of a camera, a stream, or a video file played as if it were one."""

import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from pipeline import FieldmarkError, redacted
from pipeline.prediction.pictures import Picture

PATIENCE_S = 5.0  # for a camera that is waiting for its next frame when it is put away


def frames(source: str) -> Iterator[Picture]:
    """Frames of a camera (a number), a stream's address or a video file, at its own rate; named by
    their number.

    Those that come while nobody takes one are dropped, but for the newest. Raises FieldmarkError
    where nothing opens.
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
        while (shot := newest.take()) is not None:
            number, bgr = shot
            yield Picture(f"{name}#frame={number}", cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    finally:
        newest.ended.set()
        if follower.ident is not None:
            follower.join(PATIENCE_S)  # reading from what is released would crash
        capture.release()


class _Newest:
    """Holds one frame: the last that came. What nobody took in time is gone."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        # A file comes as fast as it can be decoded; what is live does not know how many frames it
        # has.
        rate, live = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0
        self._gap = 0.0 if live or rate <= 0 else 1 / rate
        self._frame: tuple[int, np.ndarray] | None = None
        self._changed = threading.Condition()
        self.ended = threading.Event()

    def follow(self) -> None:
        """Read until the end, or until `ended` is set."""
        start, number = time.monotonic(), 0
        while not self.ended.wait(max(0.0, start + number * self._gap - time.monotonic())):
            found, frame = self._capture.read()
            if not found:
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
