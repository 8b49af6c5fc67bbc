"""Answers of a film smoothed over time: the mean of the probabilities of the last seconds.

It only looks back, so that a camera can do it, too. Where the scene changes, the new class wins about
half a window later: that delay is the price of fewer flickering answers. Axes: n frames, k classes.
"""

import json
from collections import deque
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64

from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.metrics import Labels, Probs
from pipeline.evaluation.proportions import LEVEL, wilson


class Trailing:
    """The running mean of one film after the other; frames come in the order of time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._film: str | None = None
        self._frames: deque[tuple[float, Float64[np.ndarray, " k"]]] = deque()

    def __call__(
        self, probs: Float[np.ndarray, " k"], film: str, at: float
    ) -> Float64[np.ndarray, " k"]:
        """The mean of this frame and those of the same film up to `seconds` before it.

        at: seconds since the film began. Another film, or a step back in time, begins anew.
        """
        if film != self._film or (self._frames and at < self._frames[-1][0]):
            self._frames.clear()
            self._film = film
        self._frames.append((at, probs.astype(np.float64)))
        # A frame that is exactly as old as the window is out; rounding of times must not keep it.
        while at - self._frames[0][0] > self.seconds - 1e-9 and len(self._frames) > 1:
            self._frames.popleft()
        mean: Float64[np.ndarray, " k"] = np.mean([each for _, each in self._frames], axis=0)
        return mean


def smoothed(
    probs: Float[np.ndarray, "n k"], films: Sequence[str], at: Sequence[float], seconds: float
) -> Float64[np.ndarray, "n k"]:
    """The same for the frames of several films in any order; each is smoothed by its own time."""
    result = np.asarray(probs, np.float64).copy()
    trailing = Trailing(seconds)
    for i in sorted(range(len(probs)), key=lambda i: (films[i], at[i])):
        result[i] = trailing(probs[i], films[i], at[i])
    return result


def figures(rows: pd.DataFrame, labels: Labels, probs: Probs, seconds: float) -> Figures:
    """The accuracy on frames of films after smoothing; none without films, or where seconds is 0.

    rows: the table; a frame has its film as `group`, and `seconds` in its metadata.
    """
    if not seconds:
        return {}
    at = pd.Series([json.loads(text).get("seconds") for text in rows["metadata"]], rows.index)
    frames = np.flatnonzero(at.notna() & rows["group"].astype(str).ne(""))
    if not len(frames):
        return {}
    films, times = rows["group"].astype(str).iloc[frames], at.iloc[frames].astype(float)
    calm = smoothed(probs[frames], films.tolist(), times.tolist(), seconds)
    right = int((calm.argmax(axis=1) == labels[frames]).sum())
    low, high = wilson(right, len(frames))
    return {
        "accuracy_smoothed": Figure(
            value=right / len(frames),
            n=len(frames),
            method=f"mean of the last {seconds:g} seconds of each film; Wilson interval, {LEVEL:.0%}",
            meaning=f"accuracy on frames of films, each smoothed over {seconds:g} seconds; a change "
            f"shows about {seconds / 2:g} seconds later",
            low=low,
            high=high,
        )
    }
